"""What the opener of a run does about money, dying after every transaction that it sends: each is sent once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.client import LedgerClient
from distrai.ledger.deployment import LOCAL, deploy
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.errors import WrongChain
from distrai.ledger.keys import NodeKey
from distrai.ledger.sender import Sender
from distrai.ledger.stakes import StakeTerms
from distrai.ledger.training_records import Stage
from distrai.protocol.money_events import Funded, MemberAllowed, PotOpened, RecordOpened, StakeTermsSet
from distrai.protocol.primitives import Address, MemberId
from distrai.protocol.recipe import Recipe, RecipeError
from distrai.runs.archive import Archive
from distrai.runs.chain import Chain
from distrai.runs.folder import RunFolder
from distrai.runs.gas_supply import NotEnoughGas
from distrai.runs.opening import Opener
from distrai.runs.paying import NotEnough, Paying
from distrai.runs.recording import Recording
from distrai.runs.tills import Tills
from helpers.local_runs import tiny_recipe

REWARDS = {"price": "1", "cap": "0.5", "max_members": 3}
STAKE = {"minimum": "10", "fault_max": "1"}
TOKEN = 10**18
OWNER = NodeKey(b"\x07" * 32)
PEERS = tuple(NodeKey(bytes([number]) * 32) for number in (21, 22))


class Died(BaseException):
    """The process was killed after its transaction was mined."""


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


@asynccontextmanager
async def chain_in(folder: RunFolder) -> AsyncIterator[tuple[str, int]]:
    chain = EmbeddedChain.open(folder.ledger)
    try:
        async with serve(chain, "127.0.0.1", 0) as url:
            yield url, chain.chain_id
    finally:
        chain.close()


def dies_after_each(monkeypatch: pytest.MonkeyPatch, on: Callable[[], bool]) -> None:
    """Kill whoever sends a transaction as soon as it is mined, as long as ``on`` says so."""
    send = Sender.send

    async def send_and_die(self: Sender, *arguments: Any, **settings: Any) -> Any:
        receipt = await send(self, *arguments, **settings)
        if on():
            raise Died
        return receipt

    monkeypatch.setattr(Sender, "send", send_and_die)


async def prepare(folder: RunFolder, url: str, chain_id: int, recipe: Recipe, texts: Path) -> list[Any]:
    """All that an opener does until the peers may join and earn."""
    told: list[Any] = []
    if not folder.exists():
        await Opener(folder, url, chain_id, OWNER, told.append).open(recipe, texts)
    async with tills_of(folder, url) as tills:
        paying = Paying(tills, Recording(tills, "cpu", told.append), told.append, asyncio.Lock())
        await paying.begin()
        for member, address in await members_of(tills.registry):
            await paying.admit(member, address)
    return told


@asynccontextmanager
async def tills_of(folder: RunFolder, url: str) -> AsyncIterator[Tills]:
    resolved = Archive(folder.archive).recipe(
        bytes.fromhex(folder.read().recipe_hash[2:])  # type: ignore[arg-type]
    )
    async with Tills.opened(url, folder, resolved, OWNER) as tills:
        yield tills


async def members_of(ledger: LedgerClient) -> list[tuple[MemberId, Address]]:
    known = [(await ledger.member_of_key(key.address), key) for key in PEERS]
    found = [member or await ledger.register(key, key.address, key.address) for member, key in known]
    return sorted(zip(found, (key.address for key in PEERS), strict=True))


def test_nothing_is_opened_funded_or_sent_twice(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(texts, rewards=REWARDS, stake=STAKE)
    folder, dying = RunFolder(tmp_path / "run"), True
    folder.path.mkdir()
    dies_after_each(monkeypatch, lambda: dying)

    async def go() -> None:
        nonlocal dying
        async with chain_in(folder) as (url, chain_id):
            deaths = 0
            while deaths < 60:
                try:
                    await prepare(folder, url, chain_id, recipe, texts)
                except Died:
                    deaths += 1
                else:
                    break
            assert deaths > 15, "every transaction is a death"
            dying = False
            assert await prepare(folder, url, chain_id, recipe, texts) == [], "nothing is left to do"
            async with tills_of(folder, url) as tills:
                await check(tills)

    async def check(tills: Tills) -> None:
        kinds = (PotOpened, Funded, MemberAllowed, RecordOpened, StakeTermsSet)
        events = await tills.events(kinds)
        assert Counter(type(event) for event in events) == dict.fromkeys(kinds, 1) | {MemberAllowed: 2}
        assert await tills.registry.run_count() == 1
        pot = await tills.pots.pot_of(tills.run)
        assert pot is not None
        assert pot.funded == 6 * 3 * TOKEN // 2, "rounds, members, cap"
        assert await tills.stakes.terms_of(tills.run) == StakeTerms(10 * TOKEN, TOKEN)
        for key in PEERS:
            assert await tills.token.balance(key.address) == 10 * TOKEN
        supply = await tills.token.total_supply()
        assert await tills.token.balance(OWNER.address) == supply - pot.funded - 20 * TOKEN
        record = await tills.records.get(1)
        assert (record.stage, record.run, record.sender) == (Stage.REQUESTED, tills.run, OWNER.address)
        assert (record.request.theme, record.request.provider) == ("test", "own machine")
        assert record.request.gpu.startswith("no GPU; CPU")
        assert '"inner_steps":2' in record.request.parameters

    asyncio.run(go())


def test_a_pot_that_the_opener_cannot_fill_is_said_before_anything_is_sent(
    tmp_path: Path, texts: Path
) -> None:
    recipe = tiny_recipe(texts, rewards=REWARDS | {"cap": "100000000"})
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()

    async def go() -> None:
        async with chain_in(folder) as (url, chain_id):
            with pytest.raises(
                RecipeError, match=r"rewards.cap: .* up to 1800000000 tokens, .* are 1000000000; lower"
            ):
                await prepare(folder, url, chain_id, recipe, texts)
            assert not folder.exists(), "with a lower cap the same command begins anew"

    asyncio.run(go())


def test_on_a_chain_that_is_there_tokens_and_coins_are_counted_before_anything_is_sent(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(texts, rewards=REWARDS, stake=STAKE)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    poor, told = NodeKey(b"\x08" * 32), list[Any]()

    async def go() -> None:
        async with chain_in(folder) as (url, chain_id):
            made = await deploy(url, chain_id, OWNER, LOCAL)
            opener = await Opener.on(Chain(url, made), folder, poor, told.append)
            with pytest.raises(NotEnough, match=rf"up to 29 tokens, .* has 0: send 0x{poor.address.hex()}"):
                await opener.open(recipe, texts)  # 9 for the pot, 10 for each of two seats
            monkeypatch.setattr("distrai.ledger.coins.CoinClient.gas_price", price)
            with pytest.raises(NotEnoughGas, match="has 0 coins for gas"):
                await opener.open(recipe, texts)
            with pytest.raises(WrongChain, match="not those of the deployment"):
                await Opener.on(Chain(url, replace(made, token=made.rewards)), folder, poor, told.append)

    async def price(self: object) -> int:
        return 10**9

    asyncio.run(go())
    assert told == []
    assert not folder.exists()
