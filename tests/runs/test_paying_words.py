"""What a user says and reads about a run that pays: chains, gas, and the table at the end."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.deployment import Deployment
from distrai.ledger.keys import NodeKey, WrongPassword, create_key
from distrai.protocol.primitives import Address
from distrai.runs.chain import CannotUseChain, Chain, choose_chain, open_owner
from distrai.runs.folder import RunFolder
from distrai.runs.gas_supply import HIGH, LOW, GasSupply, NotEnoughGas, check_opener
from distrai.runs.payday_text import payday_lines
from distrai.runs.progress import Progress
from distrai.runs.purse import Purse
from distrai.runs.wallet import Wallet
from helpers.run_folders import FakeRun

RPC = "http://127.0.0.1:9"
OWNER = NodeKey(b"\x07" * 32)
KEY = Address(b"\x0a" * 20)
ETHER = 10**18


@pytest.fixture
def deployment(paid: Any) -> Path:
    return Path(paid.folder.deployment)


def external(fake_run: FakeRun) -> RunFolder:
    """The fake run, as if it were on a chain that was there."""
    fake_run.folder.write(replace(fake_run.folder.read(), external=True))
    return fake_run.folder


# Which chain


def test_a_chain_that_is_there_is_named_with_its_contracts(tmp_path: Path, deployment: Path) -> None:
    folder, wallet = RunFolder(tmp_path / "new"), Wallet(tmp_path / "wallet.json")
    assert choose_chain("", None, None, folder) is None
    expected = Chain(RPC, Deployment.read(deployment), wallet)
    assert choose_chain(RPC, deployment, wallet, folder) == expected
    for rpc, file, purse, why in (
        (RPC, None, None, "needs --deployment FILE"),
        ("", deployment, None, "name its node with --rpc"),
        ("", None, wallet, "name its node with --rpc"),
        ("localhost:8545", deployment, None, "no URL of a node"),
    ):
        with pytest.raises(CannotUseChain, match=why):
            choose_chain(rpc, file, purse, folder)


def test_a_run_remembers_its_chain(fake_run: FakeRun) -> None:
    with pytest.raises(CannotUseChain, match="on a chain of its own"):
        choose_chain(RPC, None, None, fake_run.folder)
    folder = external(fake_run)
    assert choose_chain("", None, None, folder) is None
    assert choose_chain("http://other:1", None, None, folder) == Chain("http://other:1", None, None)


def test_the_opener_is_who_the_wallet_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = RunFolder(tmp_path), tmp_path / "wallet.json"
    monkeypatch.setattr("distrai.ledger.keys._STANDARD_SCRYPT_N", 1 << 12)
    key = create_key(path, "correct horse")
    monkeypatch.setenv("DISTRAI_PASSWORD", "correct horse")
    assert open_owner(folder, Wallet(path)).address == key.address
    own = open_owner(folder).address
    assert own != key.address
    assert open_owner(folder).address == own, "made once"
    monkeypatch.setenv("DISTRAI_PASSWORD", "something else")
    with pytest.raises(WrongPassword) as caught:
        open_owner(folder, Wallet(path))
    assert "something else" not in str(caught.value)


# Gas


@dataclass
class Coins:
    """A chain's coins, of which the opener has some; a unit of gas costs ``price``."""

    price: int = 10**9
    balances: dict[Address, int] = field(default_factory=dict)

    async def gas_price(self) -> int:
        return self.price

    async def balance(self, account: Address) -> int:
        return self.balances.get(account, 0)

    async def send(self, to: Address, amount: int) -> None:
        self.balances[OWNER.address] -= amount
        self.balances[to] = self.balances.get(to, 0) + amount


def supply(coins: Coins, told: list[dict[str, Any]], peers: int = 1, rounds: int = 1) -> GasSupply:
    lock = asyncio.Lock()
    return GasSupply.bounded(coins, OWNER.address, peers, rounds, told.append, lock)  # type: ignore[arg-type]


def test_a_key_with_little_gas_is_filled_up_and_one_with_enough_is_left_alone() -> None:
    coins, told = Coins(balances={OWNER.address: ETHER, KEY: 5}), list[dict[str, Any]]()
    gas = supply(coins, told)
    asyncio.run(gas.top_up(KEY))
    assert coins.balances[KEY] == 2 * 10**9 * HIGH
    coins.balances[KEY] = 2 * 10**9 * LOW
    asyncio.run(gas.top_up(KEY))
    assert [event["event"] for event in told] == ["gas-sent"]
    coins.price = 0
    coins.balances[KEY] = 0
    asyncio.run(gas.top_up(KEY))
    assert len(told) == 1, "where gas is free nobody needs any"


def test_what_peers_may_have_is_bounded() -> None:
    coins = Coins(balances={OWNER.address: 1000 * ETHER})
    gas = supply(coins, [])

    async def drain() -> None:
        for _ in range(10):
            coins.balances[KEY] = 0
            await gas.top_up(KEY)

    with pytest.raises(NotEnoughGas, match="more gas than this run can need"):
        asyncio.run(drain())
    assert 1000 * ETHER - coins.balances[OWNER.address] <= 2 * 10**9 * (2 * HIGH + HIGH // 5)


def test_an_opener_without_coins_is_told_how_many_to_send_where() -> None:
    coins = Coins(balances={OWNER.address: 10**15})
    with pytest.raises(
        NotEnoughGas, match=rf"0x{OWNER.address.hex()}.* has 0.001 coins .* 0.02: .* 0.019 or more"
    ):
        asyncio.run(check_opener(coins, OWNER.address, 1))  # type: ignore[arg-type]
    with pytest.raises(NotEnoughGas, match=r"needs 0.012042 for .* at least 0.011042,"):
        asyncio.run(supply(coins, []).top_up(KEY))
    assert KEY not in coins.balances


# The table

MONEY: dict[str, Any] = {
    "token": "PLAY",
    "price": "2",
    "cap": "0.5",
    "min_round_seconds": 1,
    "stake": None,
    "epochs": 1,
    "label": "trusted",
    "unpaid": "pending, unverified",
    "pending": "0",
    "funded": "4",
    "refunded": "1.5",
    "embedded": True,
    "waits": [],
}
SUMMARY: dict[str, Any] = {
    "finished": True,
    "tokens_of": {"peer-0": 1_000_000, "peer-1": 250_000},
    "earned": {"peer-0": "2", "peer-1": "0.5"},
    "claimed": {"peer-0": "2"},
    "money": MONEY,
}


def test_the_table_says_who_earned_and_got_what() -> None:
    lines = payday_lines(SUMMARY, "runs/x")
    text = "\n".join(lines)
    assert "    peer-0        1,000,000              2        2" in lines
    assert "    peer-1          250,000            0.5        0" in lines
    assert "The opener paid in 4, 1.5 went back to it" in text
    assert "play money" in text
    assert "one operator" in text
    assert "no audit" in text
    assert "Less than" not in text
    assert payday_lines(SUMMARY | {"money": None}, "runs/x") == []


def test_it_says_what_is_missing_and_why() -> None:
    money = MONEY | {"pending": "0.5", "waits": ["payable from 12 on"], "embedded": False, "stake": "10"}
    earned = {"peer-0": "1.9", "peer-1": "0.5"}
    text = "\n".join(payday_lines(SUMMARY | {"money": money, "earned": earned}, "runs/x"))
    assert "0.5 not paid yet (pending, unverified)" in text
    assert "Less than price times tokens" in text
    assert "Not done yet: payable from 12 on.\n    What goes on with that: distrai run runs/x" in text
    assert "each seat has 10 PLAY at stake" in text
    assert "play money" not in text


# On the way


def test_the_display_follows_the_money() -> None:
    now = Progress()
    now.take({"event": "member", "from": "peer-1", "member": "aa" * 32})
    for event in (
        {"event": "pot-opened", "price": "2", "cap": "1"},
        {"event": "epoch-settled", "from": "peer-0", "epoch": 2, "last_round": 31},
        {"event": "epoch-settled", "from": "peer-1", "epoch": 1, "last_round": 16},  # a peer that is late
        {"event": "claimed", "member": "0x" + "aa" * 32, "amount": "1.5"},
        {"event": "settlement-given-up", "why": "a list is missing"},
    ):
        now.take(event)
    assert (now.epochs, now.settled_round) == (2, 31)
    assert now.doing == "paid 1.5 tokens to peer-1"
    assert now.notices == [
        "this run pays 2 tokens for a million accepted tokens of work",
        "the last rounds are not settled: a list is missing",
    ]


def test_a_folder_from_before_there_was_money_is_read(fake_run: FakeRun) -> None:
    path = fake_run.folder.path / "run.json"
    old = {
        key: value
        for key, value in json.loads(path.read_bytes()).items()
        if key not in ("external", "wallet")
    }
    path.write_text(json.dumps(old))
    info = fake_run.folder.read()
    assert (info.external, info.wallet) == (False, "")
    fake_run.folder.summary.write_text('{"finished": true}')
    assert fake_run.folder.is_settled()
    fake_run.folder.summary.write_text('{"finished": true, "money": {"done": false}}')
    assert fake_run.folder.is_finished()
    assert not fake_run.folder.is_settled()


def test_the_last_epoch_is_waited_for_as_long_as_something_is_heard_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def go() -> None:
        loop, now = asyncio.get_running_loop(), 1000.0
        monkeypatch.setattr(loop, "time", lambda: now)
        async with asyncio.TaskGroup() as group:
            purse = Purse(None, None, group)
            purse.begin_settling()
            for seconds, event, in_vain in (
                (59.0, {"event": "epoch-signed"}, False),
                (59.0, {"event": "settlement-waits", "why": "the list of round 3 is missing"}, False),
                (2.0, {"event": "step"}, True),
            ):
                now += seconds
                purse.take("peer-0", event)
                assert purse.is_waited_for_in_vain() is in_vain
            assert (purse.settled, purse.why) == (False, "the list of round 3 is missing")
            purse.take("peer-1", {"event": "settlement-done"})
            assert purse.settled

    asyncio.run(go())
