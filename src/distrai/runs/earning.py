"""``distrai earnings`` and ``distrai claim``: what members of a run have, and having it paid out."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.coins import CoinClient
from distrai.ledger.deployment import Deployment
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.peer.public import PublicFolder
from distrai.protocol.amounts import format_amount
from distrai.protocol.ledger_events import Certified, RollCalled, Started
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import MemberId
from distrai.protocol.typed_data import Domain
from distrai.runs.accounts import LABEL, Account, accounts
from distrai.runs.anchor import deployment_of
from distrai.runs.bookkeeping import Books
from distrai.runs.claiming import claim_for
from distrai.runs.joining import read_member
from distrai.runs.money import NoMoney, RunMoney, check_member, one_member, open_money
from distrai.runs.reward_tables import Tables, reaching
from distrai.runs.telling import TRUST
from distrai.runs.topping_up import check_gas
from distrai.runs.wallet import Wallet

CLAIM_GAS = 300_000
"""What claiming uses, with room."""
INDEX = "earnings.sqlite"
"""In a home: what the ledger said, for whoever asks what its member has earned."""


@dataclass(frozen=True)
class Ledgers:
    """A run's index, brought up to date, and the client of its distributor."""

    money: RunMoney
    index: LedgerIndex
    source: LogSource
    pots: PotsClient

    @property
    def domain(self) -> Domain:
        """The distributor's."""
        return Domain(self.money.link.chain_id, self.money.contracts.rewards)

    @property
    def finality(self) -> int:
        """How many blocks must be on top of what is believed."""
        rewards = self.money.resolved.recipe.rewards
        return 0 if rewards is None else rewards.finality_blocks

    async def sync(self) -> None:
        """Read what is new on the ledger."""
        await self.index.sync(self.source)

    @classmethod
    @asynccontextmanager
    async def opened(cls, money: RunMoney, key: NodeKey | None) -> "AsyncIterator[Ledgers]":
        """The ledgers of a run that pays; ``key`` sends. Raises NoMoney or a LedgerError."""
        check_pays(money)
        chain, at = money.link.chain_id, money.contracts
        async with AsyncExitStack() as stack:
            pots = await PotsClient.connect(money.url, at.rewards, chain, key)
            stack.push_async_callback(pots.close)
            source = await LogSource.connect(money.url, chain)
            stack.push_async_callback(source.close)
            path = _index_path(money, stack)
            index = LedgerIndex.open(path, _deployment(money))
            stack.callback(index.close)
            made = cls(money, index, source, pots)
            await made.sync()
            yield made


def check_pays(money: RunMoney) -> None:
    """Raise NoMoney for a run that pays nothing."""
    if money.resolved.recipe.rewards is None:
        raise NoMoney(
            f"run {money.run} ({money.resolved.recipe.name}) pays nothing: its recipe has no [rewards]"
        )


def _index_path(money: RunMoney, stack: AsyncExitStack) -> Path:
    """Where the index is kept: beside the run or the home, else nowhere."""
    if money.folder is not None:
        return money.folder.index
    if money.target.home.is_dir():
        return money.target.home / INDEX
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distrai-"))) / INDEX


def _deployment(money: RunMoney) -> Deployment:
    """The contracts whose events are read: as the run's folder and recipe say, else from the first block on."""
    written = None if money.folder is None else deployment_of(money.folder)
    return written or Deployment.named_by(money.contracts, money.link.chain_id, money.link.registry)


def earnings_of(what: str, home: Path | None, member: str) -> dict[str, Any]:
    """The four states of what members have, as plain data. Raises NoMoney and what ``open_money`` raises."""
    wanted = read_member(member) if member else None

    async def run() -> dict[str, Any]:
        async with (
            open_money(what, home) as money,
            Ledgers.opened(money, None) as ledgers,
            _tables(money) as tables,
        ):
            books = await _books(ledgers)
            found = await accounts(books, tables)
            decimals = money.contracts.decimals
            own = set(await money.members())
            shown = [wanted] if wanted is not None else sorted({*found.members, *own})
            if wanted is not None:
                await check_member(money, wanted)
            return {
                "ok": True,
                "run": money.run,
                "name": money.resolved.recipe.name,
                "trust": TRUST,
                "label": LABEL,
                "ledger_time": books.now,
                "distributor": "0x" + money.contracts.rewards.hex(),
                "members": [
                    found.of(each).to_json(decimals)
                    | await _beside(ledgers, found.of(each), here=each in own)
                    for each in shown
                ],
                "paid": format_amount(found.paid, decimals),
                "owed": format_amount(found.owed, decimals),
                "missing": list(found.missing),
            }

    return asyncio.run(run())


def claim_in(what: str, home: Path | None, member: str, wallet: Wallet) -> dict[str, Any]:
    """Pay members what is payable; what came of each, as plain data.

    Raises NoMoney, NoSuchMember, a KeyFileError or a LedgerError.
    """
    wanted = read_member(member) if member else None

    async def run() -> dict[str, Any]:
        async with open_money(what, home) as money:
            check_pays(money)
            members = one_member(await money.members(), money, wanted)
            if wanted is not None:
                await check_member(money, wanted)
            key = await sending_key(money, wallet)
            async with Ledgers.opened(money, key) as ledgers, _tables(money) as tables:
                claims = [await _claimed(ledgers, tables, each) for each in members]
        bad = ("no-table", "unknown")
        return {
            "ok": not any(claim["state"] in bad for claim in claims),
            "run": money.run,
            "claims": claims,
        }

    return asyncio.run(run())


async def _claimed(ledgers: Ledgers, tables: Tables, member: MemberId) -> dict[str, Any]:
    money = ledgers.money
    claim = await claim_for(
        ledgers.index,
        ledgers.pots,
        ledgers.domain,
        money.run,
        member,
        tables,
        sync=ledgers.sync,
        finality=ledgers.finality,
    )
    state = await money.ledger.member(member)
    to = state.payout if any(state.payout) else state.controller
    now = money.now(await ledgers.pots.ledger_time())
    return claim.to_json(money.contracts.decimals) | {"payout": "0x" + to.hex(), "ledger_time": now}


async def sending_key(money: RunMoney, wallet: Wallet) -> NodeKey:
    """Who sends what anybody may send: the wallet where gas costs something, else a key that is made for it.

    Raises TooExpensive or a KeyFileError.
    """
    coins = await CoinClient.connect(money.url, money.link.chain_id, NodeKey.generate())
    try:
        price = await coins.gas_price()
    finally:
        await coins.close()
    check_gas(CLAIM_GAS * price, money.url)
    return NodeKey.generate() if price == 0 else wallet.open()


@asynccontextmanager
async def _tables(money: RunMoney) -> AsyncIterator[Tables]:
    """The tables of this machine; for a run that goes on elsewhere also those of its peers."""
    if money.folder is not None:
        yield money.tables()
        return
    with tempfile.TemporaryDirectory(prefix="distrai-") as folder:
        async with reaching(money.tables(), money.ledger, money.url, money.run, Path(folder)) as tables:
            yield tables


async def _books(ledgers: Ledgers) -> Books:
    events = ledgers.index.events(run=ledgers.money.run, finality=ledgers.finality)
    heads = [event for event in events if isinstance(event, Started | Certified | RollCalled)]
    head_time = ledgers.index.block_time(heads[-1].at.block_number) if heads else 0
    assert head_time is not None, "the index knows the times of blocks with events"
    now = ledgers.money.now(await ledgers.pots.ledger_time())
    return Books(events, _lists(ledgers.money), ledgers.domain, ledgers.money.run, now, head_time)


def _lists(money: RunMoney) -> dict[int, CertifiedList]:
    """The certified lists of this machine; whether they are the ledger's is checked where they are used."""
    found: dict[int, CertifiedList] = {}
    for home in money.homes_and_archive():
        folder = PublicFolder(home / "public")
        for number in folder.list_rounds():
            if number not in found:
                found[number] = folder.read_list(number)
    return found


async def _beside(ledgers: Ledgers, account: Account, *, here: bool) -> dict[str, Any]:
    """What else is told of a member: whether the run's owner lets it earn now, and what the newest root covers."""
    allowed = (await ledgers.pots.account_of(ledgers.money.run, account.member)).allowed
    settled = 0 if account.root is None else account.root.last_round
    return {"here": here, "allowed": allowed, "settled_until": settled}
