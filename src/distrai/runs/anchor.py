"""What the ledger of a run says: from the process that serves it, or from its folder when nobody does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.interface import RunState
from distrai.ledger.locks import InUse
from distrai.ledger.reader import LedgerReader
from distrai.ledger.rpc import Patience, Rpc
from distrai.peer.feed import LedgerFeed
from distrai.protocol.ledger_events import Certified, LedgerEvent, RollCalled, Started
from distrai.protocol.primitives import Hash
from distrai.protocol.typed_data import Domain
from distrai.runs.archive import Archive
from distrai.runs.folder import RunFolder

SERVED = "served"
"""In a chain's folder: the number of the process that served it by `distrai ledger serve`, and where."""


class NoLedger(ValueError):
    """The run's ledger is not there."""


async def ledger_state(folder: RunFolder) -> RunState:
    """Where the run stands. Raises NoRun, NoLedger or a LedgerError."""
    async with open_ledger(folder) as ledger:
        return await ledger.run_state(folder.link().run)


async def roll_calls_until(folder: RunFolder, round_number: int) -> frozenset[int]:
    """The rounds up to this one that a roll call ended, as the ledger's events say. Raises as ``ledger_state``."""
    async with open_ledger(folder) as ledger:
        events = await LedgerFeed(ledger, folder.link().run).next()
    calls = {event.round for event in events if isinstance(event, RollCalled)}
    return frozenset(number for number in calls if number <= round_number)


@asynccontextmanager
async def open_ledger(folder: RunFolder) -> AsyncIterator[LedgerReader]:
    """A reader of the run's ledger. Raises NoRun or NoLedger."""
    link = folder.link()
    async with (
        ledger_url(folder) as url,
        registry_reader(url, Domain(link.chain_id, link.registry)) as reader,
    ):
        yield reader


@asynccontextmanager
async def ledger_url(folder: RunFolder) -> AsyncIterator[str]:
    """Where the run's ledger answers: its own process, the chain that the run is on, or this process until the end.

    Raises NoRun or NoLedger.
    """
    link = folder.link()
    if folder.read().external:
        yield link.rpc
        return
    if not (folder.ledger / "chain.sqlite").exists():
        raise NoLedger(
            f"the ledger is missing: {folder.ledger} has no chain. Give the head that you trust with --head 0x..., or "
            "restore that folder"
        )
    try:
        chain = EmbeddedChain.open(folder.ledger)
    except InUse:  # the run is going on: its own process answers; or `distrai ledger serve` does, elsewhere
        yield served_url(folder.ledger) or link.rpc
        return
    try:
        if chain.chain_id != link.chain_id:
            raise NoLedger(
                f"{folder.ledger} is another chain ({chain.chain_id}, not {link.chain_id}): restore the folder"
            )
        async with serve(chain, "127.0.0.1", 0) as url:
            yield url
    finally:
        chain.close()


def served_url(ledger: Path) -> str:
    """Where `distrai ledger serve` serves the chain in a folder now; empty if it does not."""
    try:
        process, _, url = (ledger / SERVED).read_text().partition(" ")
        return url if process == (ledger / "chain.lock").read_text().strip() else ""
    except FileNotFoundError:
        return ""


@asynccontextmanager
async def registry_reader(url: str, domain: Domain) -> AsyncIterator[LedgerReader]:
    """A reader of a registry on the chain behind an address."""
    patience = Patience()
    rpc = Rpc([url], patience)
    rpc.chain_id = domain.chain_id
    reader = LedgerReader(rpc, domain, patience)
    try:
        yield reader
    finally:
        await reader.close()


def deployment_of(folder: RunFolder) -> Deployment | None:
    """The contracts that the run's recipe names; None for a run without money. Raises NoRun, NothingPublished.

    ``deployment.json`` adds how they were set up, and from which block on to read. Raises NoLedger if it names others.
    """
    link = folder.link()
    name = Hash(bytes.fromhex(folder.read().recipe_hash.removeprefix("0x")))
    found = Archive(folder.archive).recipe(name).contracts
    if found is None:
        return None
    named = Deployment.named_by(found, link.chain_id, link.registry)
    if not folder.deployment.exists():
        return named
    written = Deployment.read(folder.deployment)
    if replace(written, block=0, settings=None) != named:
        raise NoLedger(
            f"{folder.deployment} names other contracts than the run's recipe: remove it, or restore the folder"
        )
    return written


@dataclass(frozen=True)
class PotEvents:
    """What the ledger says of a run and its money. ``head_time``: ledger time of the newest head, 0 without one."""

    deployment: Deployment
    run: int
    events: list[LedgerEvent]
    head_time: int

    @property
    def domain(self) -> Domain:
        """The distributor's."""
        return Domain(self.deployment.chain_id, self.deployment.rewards)


async def pot_events(folder: RunFolder, deployment: Deployment) -> PotEvents:
    """Read them anew, whatever index there is. Raises NoRun, NoLedger or a LedgerError."""
    run = folder.link().run
    with TemporaryDirectory() as scratch:
        async with ledger_url(folder) as url, AsyncExitStack() as stack:
            index = LedgerIndex.open(Path(scratch) / "index.sqlite", deployment)
            stack.callback(index.close)
            source = await LogSource.connect(url, deployment.chain_id)
            stack.push_async_callback(source.close)
            await index.sync(source)
            events = index.events(run=run)
            heads = [event for event in events if isinstance(event, Started | Certified | RollCalled)]
            head_time = index.block_time(heads[-1].at.block_number) if heads else None
            return PotEvents(deployment, run, events, head_time or 0)
