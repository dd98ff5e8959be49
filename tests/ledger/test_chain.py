"""The embedded chain in its own process: mining, reading, refusing, and coming back."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.records import (
    CallFailed,
    CallRequest,
    CallReverted,
    LogFilter,
    TransactionRefused,
    UnknownBlock,
)
from distrai.ledger.locks import InUse

TIME_CODE = "42 6000 52 6020 6000 f3"  # return block.timestamp
GAS_PRICE_CODE = "3a 6000 52 6020 6000 a0 00"  # log tx.gasprice
BLOCKHASH_CODE = "6000 35 40 6000 52 6020 6000 f3"  # return blockhash(x)
TRANSIENT_CODE = (
    "6000 5c 6000 52 6001 6000 5d 6000 5c 6020 52 6040 6000 a0 00"  # log tload(0), tload(0) after tstore
)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def returning(runtime: str) -> bytes:
    code = bytes.fromhex(runtime.replace(" ", ""))
    return bytes.fromhex(f"60{len(code):02x}600c60003960{len(code):02x}6000f3") + code


def deploy(chain: EmbeddedChain, sender: Any, runtime: str) -> bytes:
    record = chain.transaction(chain.send_raw_transaction(sender.sign(None, returning(runtime))))
    assert record is not None
    assert record.contract is not None
    return record.contract


def test_a_transaction_is_mined_at_once_with_its_state_and_log(chain: Any, sender: Any, tiny: bytes) -> None:
    mined = chain.send_raw_transaction(sender.sign(tiny, word(7)))
    record = chain.transaction(mined)
    assert record.succeeded
    assert record.sender == sender.address
    assert record.block_number == chain.block_number == 2
    assert record.block_hash == chain.header(2).hash
    assert chain.header(2).parent_hash == chain.header(1).hash
    assert chain.storage(tiny, 0) == 7
    assert chain.storage(tiny, 0, block=1) == 0
    assert chain.nonce(sender.address) == 2
    (log,) = chain.logs(LogFilter(0, 2))
    assert (log.address, log.topics, log.data) == (tiny, (word(7),), word(7))
    assert (log.block_hash, log.transaction_hash) == (record.block_hash, mined)


def test_a_reverted_transaction_is_mined_and_changes_only_the_nonce(
    chain: Any, sender: Any, tiny: bytes
) -> None:
    chain.send_raw_transaction(sender.sign(tiny, word(5)))
    record = chain.transaction(chain.send_raw_transaction(sender.sign(tiny, word(0))))
    assert not record.succeeded
    assert chain.storage(tiny, 0) == 5
    assert chain.nonce(sender.address) == 3
    assert chain.logs(LogFilter(3, 3)) == []


def test_everything_is_there_after_reopening(
    open_chain: Callable[..., Any], chain: Any, sender: Any, tiny: bytes
) -> None:
    for value in range(1, 10):
        chain.send_raw_transaction(sender.sign(tiny, word(value)))
    before = (chain.chain_id, chain.header(10).hash, chain.logs(LogFilter(0, 10)))
    chain.close()
    again = open_chain()
    assert (again.chain_id, again.header(10).hash, again.logs(LogFilter(0, 10))) == before
    again.send_raw_transaction(sender.sign(tiny, word(99)))
    assert again.storage(tiny, 0) == 99


def test_each_folder_has_a_chain_id_of_its_own(open_chain: Callable[..., Any]) -> None:
    assert open_chain("one").chain_id != open_chain("two").chain_id


def test_a_second_opener_is_told_who_has_the_folder(open_chain: Callable[..., Any]) -> None:
    open_chain("one")
    with pytest.raises(InUse, match=r"process \(number \d+\)"):
        open_chain("one")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chainId": 1}, "chain 1"),
        ({"nonce": 7}, "nonce too high"),
        ({"nonce": 0}, "nonce too low"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"gas": 1 << 25}, "a block has"),
        ({"value": 1}, "no money to send"),
    ],
)
def test_what_cannot_be_mined_is_refused(
    chain: Any, sender: Any, tiny: bytes, changes: Any, reason: str
) -> None:
    before = chain.header(1).hash
    with pytest.raises(TransactionRefused, match=reason):
        chain.send_raw_transaction(sender.sign(tiny, word(3), **changes))
    assert chain.block_number == 1
    assert chain.header(1).hash == before
    assert chain.send_raw_transaction(sender.sign(tiny, word(4), nonce=1))


@pytest.mark.parametrize(
    "fees",
    [
        {"maxFeePerGas": 10, "maxPriorityFeePerGas": 1},
        {"maxFeePerGas": None, "maxPriorityFeePerGas": None, "type": None, "gasPrice": 7},
    ],
)
def test_a_fee_that_is_offered_is_not_taken(chain: Any, sender: Any, fees: Any) -> None:
    contract = deploy(chain, sender, GAS_PRICE_CODE)
    record = chain.transaction(chain.send_raw_transaction(sender.sign(contract, **fees)))
    assert record.succeeded
    assert chain.balance(sender.address) == chain.balance(bytes(20)) == 0, "neither taken nor given"
    (log,) = chain.logs(LogFilter(2, 2))
    assert log.data == word(0)


def test_the_same_transaction_is_not_mined_twice(chain: Any, sender: Any, tiny: bytes) -> None:
    raw = sender.sign(tiny, word(3))
    chain.send_raw_transaction(raw)
    with pytest.raises(TransactionRefused, match="already known"):
        chain.send_raw_transaction(raw)
    assert chain.block_number == 2


def test_legacy_transactions_count_only_with_the_chain_id(chain: Any, sender: Any, tiny: bytes) -> None:
    fees = {"maxFeePerGas": None, "maxPriorityFeePerGas": None, "type": None, "gasPrice": 0}
    with pytest.raises(TransactionRefused, match="chain None"):
        chain.send_raw_transaction(sender.sign(tiny, word(3), chainId=None, **fees))
    assert chain.send_raw_transaction(sender.sign(tiny, word(3), nonce=1, **fees))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_transactions_are_refused(chain: Any, sender: Any, tiny: bytes, data: st.DataObject) -> None:
    raw = bytearray(sender.sign(tiny, word(3), nonce=1))
    kind = data.draw(st.sampled_from(["noise", "cut", "flip"]))
    if kind == "noise":
        raw = bytearray(data.draw(st.binary(max_size=200)))
    elif kind == "cut":
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    before = chain.block_number
    try:
        mined = chain.send_raw_transaction(bytes(raw))
    except TransactionRefused:
        assert chain.block_number == before
    else:  # a flipped bit can make another valid transaction, of another sender
        assert chain.transaction(mined).sender != sender.address


def test_time_never_runs_backward_and_calls_see_it_pass(chain: Any, sender: Any, clock: Any) -> None:
    contract = deploy(chain, sender, TIME_CODE)
    start = chain.header(1).timestamp
    clock.now += 100
    assert chain.call(CallRequest(contract)) == word(start + 100)
    assert chain.call(CallRequest(contract), block=1) == word(start)
    chain.send_raw_transaction(sender.sign(contract))
    clock.now -= 5_000
    chain.send_raw_transaction(sender.sign(contract))
    assert chain.header(2).timestamp == chain.header(3).timestamp == start + 100


def test_blockhash_is_the_hash_of_the_block(chain: Any, sender: Any, open_chain: Callable[..., Any]) -> None:
    contract = deploy(chain, sender, BLOCKHASH_CODE)
    for _ in range(3):
        chain.send_raw_transaction(sender.sign(contract, word(0)))
    assert chain.call(CallRequest(contract, word(4))) == chain.header(4).hash
    assert chain.call(CallRequest(contract, word(1))) == chain.header(1).hash
    assert chain.call(CallRequest(contract, word(5))) == word(0)
    assert chain.call(CallRequest(contract, word(2)), block=3) == chain.header(2).hash
    expected = chain.header(2).hash
    chain.close()
    assert open_chain().call(CallRequest(contract, word(2))) == expected


def test_transient_storage_lasts_for_one_transaction(chain: Any, sender: Any) -> None:
    contract = deploy(chain, sender, TRANSIENT_CODE)
    for _ in range(2):
        chain.send_raw_transaction(sender.sign(contract))
    assert [log.data for log in chain.logs(LogFilter(0, 9))] == [word(0) + word(1)] * 2


def test_calls_say_what_the_contract_said(chain: Any, tiny: bytes) -> None:
    assert chain.call(CallRequest(tiny, word(8))) == word(8)
    with pytest.raises(CallReverted) as refused:
        chain.call(CallRequest(tiny, word(0)))
    assert refused.value.data == word(0)
    with pytest.raises(CallReverted):
        chain.estimate_gas(CallRequest(tiny, word(0)))
    with pytest.raises(CallFailed, match="intrinsic"):
        chain.call(CallRequest(tiny, word(8), gas=100))
    with pytest.raises(CallFailed, match="execution failed"):
        chain.call(CallRequest(tiny, word(8), gas=22_000))
    with pytest.raises(CallFailed):
        chain.call(CallRequest(tiny, word(8), value=1))
    with pytest.raises(UnknownBlock):
        chain.call(CallRequest(tiny, word(8)), block=99)
    assert chain.storage(tiny, 0) == 0


def test_an_estimate_is_enough(chain: Any, sender: Any, tiny: bytes) -> None:
    gas = chain.estimate_gas(CallRequest(tiny, word(9), sender.address))
    assert chain.transaction(chain.send_raw_transaction(sender.sign(tiny, word(9), gas=gas))).succeeded


def test_a_full_disk_leaves_no_half_block(chain: Any, sender: Any, tiny: bytes) -> None:
    database = chain._store._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (unlimited,) = database.execute("PRAGMA max_page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    mined = []

    def fill() -> None:
        for value in range(1, 200):
            mined.append(chain.send_raw_transaction(sender.sign(tiny, word(value))))  # noqa: PERF401

    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill()
    assert chain.block_number == 1 + len(mined)
    assert chain.nonce(sender.address) == 1 + len(mined)
    assert all(chain._store.node(key) == value for key, value in chain._nodes._cache.items())
    database.execute(f"PRAGMA max_page_count = {unlimited}")
    again = chain.send_raw_transaction(sender.sign(tiny, word(500), nonce=1 + len(mined)))
    assert chain.transaction(again).block_number == 2 + len(mined)
    assert chain.storage(tiny, 0) == 500


def test_logs_are_found_by_address_and_topic(chain: Any, sender: Any, tiny: bytes) -> None:
    for value in (1, 2, 3, 2):
        chain.send_raw_transaction(sender.sign(tiny, word(value)))
    assert [log.block_number for log in chain.logs(LogFilter(0, 9, (tiny,), ((word(2),),)))] == [3, 5]
    assert [log.block_number for log in chain.logs(LogFilter(3, 4, (tiny,)))] == [3, 4]
    assert len(chain.logs(LogFilter(0, 9, (tiny,), ((word(1), word(3)),)))) == 2
    assert chain.logs(LogFilter(0, 9, (bytes(20),))) == []
    assert chain.logs(LogFilter(0, 9, (tiny,), ((), (word(1),)))) == []
