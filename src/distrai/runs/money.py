"""Where the money of a run is, for whoever asks: its ledger, its recipe, its contracts, and the members that live here.

The recipe names the contracts, and its hash is on the ledger, so nobody can point a user at others.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.gas import explain
from distrai.ledger.keys import NodeKey
from distrai.network.interface import FetchFailed
from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.feed import LedgerFeed
from distrai.peer.keyring import FIRST, Keyring
from distrai.peer.link import Link
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import WrongBlob
from distrai.protocol.ledger_events import RunOpened
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.recipe import Contracts, ResolvedRecipe
from distrai.protocol.recipe.resolved import RESOLVED_BYTES_MAX
from distrai.runs.anchor import ledger_url
from distrai.runs.folder import RunFolder
from distrai.runs.joining import JoinTarget, choose_join
from distrai.runs.reward_tables import Tables, reaching

RECIPE_S = 60.0
"""How long peers are asked for a recipe."""


class MoneyRefused(LedgerRefused):
    """A contract refuses, said with the amounts of the run's token and what to do."""

    def __init__(self, refusal: LedgerRefused, decimals: int) -> None:
        super().__init__(refusal.name, refusal.arguments)
        self.why = explain(refusal, decimals)

    def __str__(self) -> str:
        return self.why


class NoMoney(ValueError):
    """The run neither pays nor asks for stakes."""


class NoRecipe(ValueError):
    """The run's recipe is neither here nor at its peers."""


class NoSuchMember(ValueError):
    """Nobody here is a member of the run."""


@dataclass(frozen=True)
class RunMoney:
    """A run with its ledger and recipe at hand. ``folder``: where it was opened, if that is on this machine.

    ``ledger`` signs with a key that nobody has: it is for reading.
    """

    target: JoinTarget
    folder: RunFolder | None
    url: str
    ledger: LedgerClient
    resolved: ResolvedRecipe

    @property
    def link(self) -> Link:
        """The run's link, with the address under which its ledger answers now."""
        known = self.target.link
        return Link(self.url, known.chain_id, known.registry, known.run, known.genesis)

    @property
    def run(self) -> int:
        """Its number."""
        return self.target.link.run

    @property
    def contracts(self) -> Contracts:
        """Where its money is. Raises NoMoney."""
        if self.resolved.contracts is None:
            raise NoMoney(
                f"run {self.run} ({self.resolved.recipe.name}) pays nothing and asks for no stake: its recipe has "
                "neither [rewards] nor [stake]"
            )
        return self.resolved.contracts

    def homes(self) -> list[Path]:
        """The homes of this machine that have a key of their own."""
        found = [self.target.home]
        if self.folder is not None:
            found += [
                *sorted(self.folder.path.glob("peers/peer-*")),
                *sorted(self.folder.path.glob("joined*")),
            ]
        return [home for home in dict.fromkeys(found) if (home / FIRST).exists()]

    def homes_and_archive(self) -> list[Path]:
        """All homes that may hold lists of rounds."""
        archive = [] if self.folder is None else [self.folder.archive]
        return list(dict.fromkeys([*archive, *self.homes()]))

    async def members(self) -> dict[MemberId, Path]:
        """The members whose homes are here."""
        members: dict[MemberId, Path] = {}
        for home in self.homes():
            member = await self.ledger.member_of_key(Keyring.open(home).first.address)
            if member is not None:
                members[member] = home
        return members

    def tables(self) -> Tables:
        """The tables of rewards that are on this machine."""
        if self.folder is not None:
            return Tables.of_folder(self.folder)
        stores = [home / "blobs" for home in self.homes()]
        return Tables(tuple(BlobStore(store) for store in stores if store.is_dir()))

    def now(self, ledger_time: int) -> int:
        """Ledger time if a block were made now: that of a run's own chain is the time of this machine."""
        own = self.folder is not None and not self.folder.read().external
        return max(ledger_time, int(time.time())) if own else ledger_time


@asynccontextmanager
async def reach_ledger(
    what: str, home: Path | None = None, rpc: str = ""
) -> AsyncIterator[tuple[JoinTarget, RunFolder | None, str]]:
    """Which run a folder or a link means, its folder if it is here, and where its ledger answers.

    Raises NoRun, CannotJoin or NoLedger.
    """
    target = choose_join(what, home)
    target.check_home()
    if rpc:
        target = replace(target, link=replace(target.link, rpc=rpc))
        yield target, None if what.startswith("distrai:") else RunFolder(Path(what)), rpc
        return
    if what.startswith("distrai:"):
        yield target, None, target.link.rpc
        return
    folder = RunFolder(Path(what))
    async with ledger_url(folder) as url:
        yield target, folder, url


@asynccontextmanager
async def open_money(what: str, home: Path | None = None, rpc: str = "") -> AsyncIterator[RunMoney]:
    """The run that a folder or a link means; ``home`` as for ``distrai join``, ``rpc`` a node to ask instead.

    Raises NoRun, CannotJoin, NoLedger, NoRecipe or a LedgerError.
    """
    async with AsyncExitStack() as stack:
        target, folder, url = await stack.enter_async_context(reach_ledger(what, home, rpc))
        link = target.link
        ledger = await LedgerClient.connect(url, link.registry, link.chain_id, NodeKey.generate())
        stack.push_async_callback(ledger.close)
        money = RunMoney(target, folder, url, ledger, await _recipe(target, folder, url, ledger))
        try:
            yield money
        except LedgerRefused as refusal:
            if money.resolved.contracts is None:
                raise
            raise MoneyRefused(refusal, money.contracts.decimals) from refusal


async def _recipe(
    target: JoinTarget, folder: RunFolder | None, url: str, ledger: LedgerClient
) -> ResolvedRecipe:
    """The resolved recipe, from this machine or else from the peers."""
    if folder is not None:
        name = Hash(bytes.fromhex(folder.read().recipe_hash.removeprefix("0x")))
        homes = [folder.archive, target.home]
    else:
        name, homes = await _named(target.link, ledger), [target.home]
    for home in homes:
        data = _held(home, name)
        if data is not None:
            return ResolvedRecipe.from_bytes(data)
    return ResolvedRecipe.from_bytes(await _fetched(name, url, ledger, target.link.run))


async def _named(link: Link, ledger: LedgerClient) -> Hash:
    """The recipe's hash as the ledger says; the link pins the head that it is part of. Raises NoRecipe."""
    for event in await LedgerFeed(ledger, link.run).next():
        if isinstance(event, RunOpened):
            if link.genesis is not None and event.genesis.head != link.genesis:
                raise NoRecipe(
                    f"run {link.run} on this ledger begins with another head than the link says: it is another run, or "
                    "the ledger lies"
                )
            return event.genesis.recipe_hash
    raise NoRecipe(f"there is no run {link.run} on this ledger: check the link")


def _held(home: Path, name: Hash) -> bytes | None:
    if not (home / "blobs").is_dir():
        return None
    store = BlobStore(home / "blobs")
    try:
        return store.read(BlobRef(name, store.manifest(name)[0]))
    except (MissingBlob, WrongBlob):
        return None


async def _fetched(name: Hash, url: str, ledger: LedgerClient, run: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="distrai-") as folder:
        async with reaching(Tables(()), ledger, url, run, Path(folder)) as reached:
            assert reached.transport is not None
            try:
                blob = await reached.transport.resolve(name, reached.holders, RESOLVED_BYTES_MAX, RECIPE_S)
                await reached.transport.fetch(blob, reached.holders, RECIPE_S, "data")
            except FetchFailed as error:
                raise NoRecipe(
                    f"no peer of this run gives its recipe ({error}): is the run going on, and can this machine reach "
                    "it? `distrai doctor` with the link says more"
                ) from None
            return reached.stores[0].read(blob)


async def check_member(money: RunMoney, member: MemberId) -> None:
    """Raise NoSuchMember unless the ledger knows this member."""
    try:
        await money.ledger.member(member)
    except LedgerRefused as refusal:
        if refusal.name != "UnknownMember":
            raise
        raise NoSuchMember(
            f"no member 0x{member.hex()[:12]}... is on this ledger: `distrai earnings` shows the ids of all who earned"
        ) from None


def one_member(members: dict[MemberId, Path], money: RunMoney, wanted: MemberId | None) -> Sequence[MemberId]:
    """The members that are meant: the one that is named, else all whose homes are here. Raises NoSuchMember."""
    if wanted is not None:
        return [wanted]
    if not members:
        raise NoSuchMember(
            f"no member of run {money.run} has its home here ({money.target.home}): name one with --member, or its "
            "home with --home"
        )
    return list(members)
