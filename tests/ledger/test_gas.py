"""Every refusal that a user can meet is a sentence that says what to do."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from distrai.ledger.abi import Abi, all_errors
from distrai.ledger.embedded.server import serve as serve_chain
from distrai.ledger.errors import (
    BadAnswer,
    LedgerRefused,
    LedgerUnreachable,
    NodeError,
    NotMined,
    TooDear,
    TooLittleGas,
    WrongChain,
)
from distrai.ledger.gas import _SENTENCES, explain
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.rpc import Patience, Rpc
from distrai.ledger.sender import Sender
from distrai.protocol.primitives import Address
from helpers.money_chain import FAULT_MAX, MINIMUM, TERMS, WINDOWS, MoneyChain, refusal

_INTERNAL = re.compile(
    "ECDSA|ERC2612|ERC20Invalid|InvalidShortString|StringTooLong|InvalidAccountNonce|NothingMinted|TooShort|"
    "EmptyWindow|NoContract|NoRegistry|BadTreasury|NotStored|Missing|Unsorted|BadSignaturesLength|"
    "Wrong(Round|Signer|PreviousHead|ParentHead)|Bad(Epoch|Parent|RollCall|Seat|Stall)|Parent|SeatsDiffer|Drops|"
    "EmptyRound|Promoted|TooManyChanges|TooManySeats|TooFew|NoRollCall|RollCall|Closable|WindowClosed|CheckedIn|"
    "NotStalled|NotASeat$|NotASeatSender|EndpointTooLong|KeyTaken|MemberExists|NeverRegistered|NotJoined|ZeroAddress|"
    "RunNotStarted|NoStakes|AlreadyAllowed|AlreadyMarked|NoSeats"
)
"""Errors that only a defect of this program meets, or that its clients turn into results."""


ERRORS = sorted((entry.name, entry.inputs) for entry in all_errors()._errors.values())
"""All errors with the types of their arguments; two contracts may give one name to two errors."""


def sample(kind: str) -> object:
    if kind.startswith("uint"):
        return 7 * 10**17
    return bytes(20 if kind == "address" else 32) if kind != "string" else "text"


def test_every_error_has_a_sentence_or_is_none_of_the_user_s() -> None:
    names = {name for name, _ in ERRORS}
    assert set(_SENTENCES) <= names
    assert {name for name in names - set(_SENTENCES) if not _INTERNAL.search(name)} == set()


@pytest.mark.parametrize(("name", "kinds"), [each for each in ERRORS if each[0] in _SENTENCES])
def test_every_sentence_fits_its_error(name: str, kinds: tuple[str, ...]) -> None:
    said = explain(LedgerRefused(name, [sample(kind) for kind in kinds]))
    assert "{" not in said
    assert not said.startswith("the ledger refuses")


def test_errors_that_are_not_known_are_told_as_they_are() -> None:
    assert explain(LedgerRefused("Strange", (5,))) == "the ledger refuses: Strange(5)"
    assert explain(LedgerRefused("NotActive")) == "the ledger refuses: NotActive()"
    assert explain(NotMined("not mined after 3 s")).endswith(
        "nothing is paid twice if you give the same command again"
    )
    assert "give the same command again later" in explain(LedgerUnreachable("no answer"))
    assert "another one" in explain(BadAnswer("no JSON"))
    assert explain(WrongChain("the node serves chain 1, the run is on chain 2")).startswith(
        "the node serves chain 1"
    )
    assert "not the contract" in explain(NodeError(-32000, "busy"))
    assert explain(ValueError("something else")) == "something else"


async def test_a_node_cannot_name_any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = {"eth_estimateGas": "0x10000", "eth_gasPrice": "0x5", "eth_maxPriorityFeePerGas": hex(10**13)}

    async def call(self: Rpc, method: str, *params: Any, **options: Any) -> Any:
        asked.append(method)
        return answers.get(method, {"baseFeePerGas": "0x64"})

    monkeypatch.setattr(Rpc, "call", call)
    rpc = Rpc(["http://127.0.0.1:1"], Patience())
    with pytest.raises(TooDear, match="asks for up to 0.73728000001474") as dear:
        await Sender(rpc, Abi([]), 1.0).send(NodeKey.generate(), Address(bytes(20)), b"")
    assert "no more than 0.1 is spent: check the node's address" in explain(dear.value)
    assert "eth_sendRawTransaction" not in asked
    await rpc.close()


@pytest.fixture
async def money(chain: Any, clock: Any) -> AsyncIterator[MoneyChain]:
    def wait(seconds: int) -> None:
        clock.now += seconds

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve_chain(chain, "127.0.0.1", 0))
        yield await MoneyChain(url, chain.chain_id, wait, stack, NodeKey.generate()).deploy()


async def test_what_users_do_wrong_is_answered_with_what_to_do(money: MoneyChain) -> None:
    run = await money.run(staked=True)
    number, pots, (first, second, _) = run.number, run.pots, run.members
    key = run.keys[first]
    poor = await money.pots(key)

    async def said(work: Any) -> str:
        return explain(await refusal(work), decimals=2, symbol="PLAY")

    assert "has 0 PLAY and this takes 0.05 PLAY: send it more" in await said(poor.fund(number, 5))
    assert "run 99 has no pot" in await said(pots.fund(99, 5))
    member, stranger = await run.register()
    assert "too little there: stake first" in await said(run.join(member, stranger))
    await (await money.token()).transfer(stranger.address, MINIMUM)
    assert "stake at least 100 PLAY in all" in await said(
        (await money.stakes(stranger)).stake(number, member, FAULT_MAX)
    )
    assert "leave the run first" in await said((await money.stakes(key)).unbond(number, first))
    await run.work(1)
    unfunded = await run.epoch({first: 5})
    unsigned = await said(pots.settle(unfunded, run.sign(run.domain, unfunded.id)))
    assert "the pot holds 0 PLAY and 0.05 PLAY are to be settled: its owner must fund it" in unsigned
    await pots.fund(number, TERMS.rate)
    assert await pots.settle(unfunded, run.sign(run.domain, unfunded.id))
    epoch = await pots.epoch_of(number, 1)
    assert epoch.active_from == await pots.ledger_time() + WINDOWS.activation_seconds
    early = await said(pots.claim(number, 1, first, 5, run.proof(first)))
    assert re.match(r"this is payable from 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC on", early)
    money.wait(WINDOWS.activation_seconds)
    assert "another run, epoch or ledger" in await said(pots.claim(number, 1, second, 5, run.proof(first)))
    assert "has no epoch 2, or it was taken back" in await said(
        pots.claim(number, 2, first, 5, run.proof(first))
    )
    assert "use the owner's wallet" in await said(poor.disallow(number, first))
    with pytest.raises(WrongChain) as wrong:
        await PotsClient.connect(money.url, money.deployment.rewards, 5, patience=Patience(call_s=5))
    assert "serves chain" in explain(wrong.value)


async def test_too_little_gas_names_the_account_and_the_amount(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The embedded chain takes nothing for gas, so these are the answers of one that does."""
    answers: dict[str, Any] = {
        "eth_estimateGas": "0x10000",
        "eth_gasPrice": "0x5",
        "eth_getBlockByNumber": {"baseFeePerGas": "0x64"},
        "eth_maxPriorityFeePerGas": "0x7",
        "eth_getTransactionCount": "0x0",
        "eth_getBalance": "0x64",
    }

    async def call(self: Rpc, method: str, *params: Any, **options: Any) -> Any:
        if method == "eth_sendRawTransaction":
            raise NodeError(-32003, "Insufficient funds for gas * price + value")
        return answers[method]

    monkeypatch.setattr(Rpc, "call", call)
    rpc = Rpc(["http://127.0.0.1:1"], Patience())
    rpc.chain_id = 5
    key = NodeKey.generate()
    with pytest.raises(TooLittleGas) as poor:
        await Sender(rpc, Abi([]), 1.0).send(key, Address(bytes(20)), b"")
    needed = 0x10000 * 9 // 8 * 207
    assert (poor.value.account, poor.value.has, poor.value.needed) == (key.address, 100, needed)
    assert f"0x{key.address.hex()} has 0.0000000000000001 of the chain's coin" in explain(poor.value)
    assert "send it 0.000000000015261596 or more" in explain(poor.value)
    await rpc.close()
