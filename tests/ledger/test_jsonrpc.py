"""JSON-RPC on the embedded chain: answers, error codes, and bounds."""

import json
from typing import Any

import pytest
from eth_bloom import BloomFilter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distrai.ledger.embedded.jsonrpc import BATCH_MAX, answer
from distrai.ledger.embedded.methods import METHODS
from distrai.ledger.embedded.parameters import BLOCK_RANGE_MAX
from distrai.ledger.embedded.server import is_local_or_literal


def ask(chain: Any, method: str, *params: Any) -> Any:
    said = json.loads(
        answer(chain, json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    )
    assert said["id"] == 1
    return said


def result(chain: Any, method: str, *params: Any) -> Any:
    return ask(chain, method, *params)["result"]


def error(chain: Any, method: str, *params: Any) -> Any:
    return ask(chain, method, *params)["error"]


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def test_a_transaction_and_all_that_can_be_read_about_it(chain: Any, sender: Any, tiny: bytes) -> None:
    mined = result(chain, "eth_sendRawTransaction", hexed(sender.sign(tiny, word(6))))
    receipt = result(chain, "eth_getTransactionReceipt", mined)
    transaction = result(chain, "eth_getTransactionByHash", mined)
    block = result(chain, "eth_getBlockByNumber", "latest", True)
    assert block == result(chain, "eth_getBlockByHash", receipt["blockHash"], True)
    assert block["transactions"] == [transaction]
    assert result(chain, "eth_getBlockByNumber", "0x2", False)["transactions"] == [mined]
    for named in ("0x2", receipt["blockHash"], "latest"):
        assert result(chain, "eth_getBlockReceipts", named) == [receipt]
    for way, named in (("Number", "0x2"), ("Hash", receipt["blockHash"])):
        assert result(chain, f"eth_getBlockTransactionCountBy{way}", named) == "0x1"
        ask_for = f"eth_getTransactionByBlock{way}AndIndex"
        assert result(chain, ask_for, named, "0x0") == transaction
        assert result(chain, ask_for, named, "0x1") is None
    assert result(chain, "eth_getBlockReceipts", "0x0") == []
    assert result(chain, "eth_getBlockTransactionCountByNumber", "earliest") == "0x0"
    assert receipt["logs"][0]["blockTimestamp"] == block["timestamp"] != "0x0"
    assert transaction["gasPrice"] == receipt["effectiveGasPrice"] == "0x0"
    assert receipt["status"] == "0x1"
    assert receipt["from"] == transaction["from"] == hexed(sender.address)
    assert receipt["to"] == hexed(tiny)
    assert transaction["input"] == hexed(word(6))
    assert receipt["logs"] == result(chain, "eth_getLogs", {"fromBlock": "0x0", "address": hexed(tiny)})
    bloom = int(BloomFilter.from_iterable([tiny, word(6)])).to_bytes(256, "big")
    assert receipt["logsBloom"] == block["logsBloom"] == hexed(bloom)
    assert receipt["gasUsed"] == block["gasUsed"]
    assert result(chain, "eth_blockNumber") == "0x2"
    assert result(chain, "eth_getTransactionCount", hexed(sender.address), "pending") == "0x2"
    assert result(chain, "eth_getStorageAt", hexed(tiny), "0x0", "latest") == hexed(word(6))
    assert result(chain, "eth_getStorageAt", hexed(tiny), "0x0", "0x1") == hexed(word(0))
    assert result(chain, "eth_getCode", hexed(tiny)).startswith("0x600035")
    assert result(chain, "eth_getBalance", hexed(tiny)) == "0x0"
    assert result(chain, "eth_chainId") == hex(chain.chain_id)
    assert result(chain, "net_version") == str(chain.chain_id)
    assert result(chain, "eth_feeHistory", "0x2", "latest", [5])["baseFeePerGas"] == ["0x0"] * 3


def test_what_is_not_there_is_null(chain: Any) -> None:
    nothing = hexed(bytes(32))
    for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getBlockByHash"):
        assert result(chain, method, nothing) is None
    assert result(chain, "eth_getBlockByNumber", "0x99", False) is None
    assert result(chain, "eth_getBlockReceipts", "0x99") is None
    assert result(chain, "eth_getBlockTransactionCountByHash", nothing) is None


def test_a_revert_carries_the_contract_s_words(chain: Any, tiny: bytes) -> None:
    for method in ("eth_call", "eth_estimateGas"):
        refusal = error(chain, method, {"to": hexed(tiny), "data": hexed(word(0))})
        assert refusal == {"code": 3, "message": "execution reverted", "data": hexed(word(0))}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_accounts", [], -32601),
        ("eth_sendTransaction", [{}], -32601),
        ("personal_unlockAccount", [], -32601),
        ("evm_mine", [], -32601),
        ("eth_getBalance", [], -32602),
        ("eth_getBalance", ["0x12"], -32602),
        ("eth_getBalance", ["zz"], -32602),
        ("eth_getBlockByNumber", ["0xzz"], -32602),
        ("eth_getBlockByNumber", ["0x" + "f" * 65], -32602),
        ("eth_getBalance", ["0x" + "00" * 20, "0x99"], -32000),
        ("eth_getBalance", ["0x" + "00" * 20, "0x" + "f" * 64], -32000),
        ("eth_call", ["0x"], -32602),
        ("eth_feeHistory", ["0x1", "latest", 5], -32602),
        ("eth_feeHistory", ["0x1", "latest", [1] * 129], -32602),
        ("eth_getLogs", [{"topics": [None] * 5}], -32602),
        ("eth_getLogs", [{"address": ["0x" + "00" * 20] * 65}], -32602),
        ("eth_sendRawTransaction", ["0x02"], -32000),
        ("eth_sendRawTransaction", ["0x03ff"], -32000),
    ],
)
def test_errors_have_their_codes(chain: Any, method: str, params: list[Any], code: int) -> None:
    assert error(chain, method, *params)["code"] == code


def test_log_queries_are_bounded(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(chain), "block_number", BLOCK_RANGE_MAX + 5)
    refusal = error(chain, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "latest"})
    assert refusal["code"] == -32005
    assert result(chain, "eth_getLogs", {"fromBlock": "0x1", "toBlock": hex(BLOCK_RANGE_MAX)}) == []


def test_too_many_logs_are_refused(
    chain: Any, sender: Any, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distrai.ledger.embedded.store.LOGS_MAX", 1)
    for value in (1, 2):
        chain.send_raw_transaction(sender.sign(tiny, word(value)))
    assert error(chain, "eth_getLogs", {"fromBlock": "0x0"})["code"] == -32005
    assert len(result(chain, "eth_getLogs", {"fromBlock": "0x3"})) == 1


def test_batches_are_answered_in_order_and_bounded(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [{"jsonrpc": "2.0", "id": number, "method": "eth_blockNumber"} for number in range(BATCH_MAX)]
    said = json.loads(answer(chain, json.dumps(calls).encode()))
    assert [item["id"] for item in said] == list(range(BATCH_MAX))
    assert json.loads(answer(chain, json.dumps([*calls, calls[0]]).encode()))["error"]["code"] == -32600
    assert json.loads(answer(chain, b"[]"))["error"]["code"] == -32600
    monkeypatch.setattr("distrai.ledger.embedded.jsonrpc.ANSWER_BYTES_MAX", 50)
    said = json.loads(answer(chain, json.dumps(calls[:5]).encode()))
    assert ["result" in item for item in said] == [True, True, False, False, False]


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"[" * 100_000, b"[" * 2_000 + b"]" * 2_000, b"1e999999"]
)
def test_what_is_not_json_is_said_to_be_so(chain: Any, body: bytes) -> None:
    said = json.loads(answer(chain, body))
    refusal = said[0] if isinstance(said, list) else said
    assert refusal["error"]["code"] in (-32700, -32600)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["0x", "0x0", "0x1", "0x" + "f" * 64, "0x" + "ab" * 20, "latest", "earliest", "0x" + "00" * 32]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["to", "from", "data", "gas", "fromBlock", "toBlock", "address", "topics", "blockHash"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(sorted(METHODS)), params=st.lists(JSON, max_size=3) | JSON)
def test_no_parameters_make_it_fail(chain: Any, method: str, params: Any) -> None:
    said = json.loads(answer(chain, json.dumps({"id": 1, "method": method, "params": params}).encode()))
    assert "result" in said or said["error"]["code"] != -32603


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8545", True),
        ("localhost:1", True),
        ("localhost", True),
        ("[::1]:8545", True),
        ("10.0.0.7:8545", True),
        ("evil.example:8545", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:80", False),
        ("", False),
    ],
)
def test_only_hosts_that_no_dns_can_forge(host: str, allowed: bool) -> None:
    assert is_local_or_literal(host) is allowed
