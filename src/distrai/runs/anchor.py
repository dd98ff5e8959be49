"""What the ledger of a run says: from the process that serves it, or from its folder when nobody does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.interface import RunState
from distrai.ledger.locks import InUse
from distrai.ledger.reader import LedgerReader
from distrai.ledger.rpc import Patience, Rpc
from distrai.peer.feed import LedgerFeed
from distrai.protocol.ledger_events import RollCalled
from distrai.protocol.typed_data import Domain
from distrai.runs.folder import RunFolder


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
    async with ledger_url(folder) as url, _reader(url, Domain(link.chain_id, link.registry)) as reader:
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
    except InUse:  # the run is going on: its own process answers
        yield link.rpc
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


@asynccontextmanager
async def _reader(url: str, domain: Domain) -> AsyncIterator[LedgerReader]:
    patience = Patience()
    rpc = Rpc([url], patience)
    rpc.chain_id = domain.chain_id
    reader = LedgerReader(rpc, domain, patience)
    try:
        yield reader
    finally:
        await reader.close()
