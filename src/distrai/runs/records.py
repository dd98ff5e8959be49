"""The training records of a ledger, read and filtered: what the ledger knows apart from what senders claim."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distrai.jobs.records.ledgers import OwnLedger
from distrai.jobs.records.told import history_of, told_of, unfinished_of
from distrai.jobs.records.waiting import READING, said_while_waiting
from distrai.jobs.running.store import JobState, NoJob, find_job
from distrai.ledger.deployment import Deployment
from distrai.ledger.training_records import Record, RecordsClient
from distrai.protocol.primitives import Address
from distrai.runs.money import open_money
from distrai.runs.wallet import parse_address, show_address

_AT_ONCE = 16
OWN_WAIT_S = 5.0
"""How long a job that writes to the user's own chain is waited for."""


class NoRecords(ValueError):
    """A run that keeps none."""


class BadFilter(ValueError):
    """What is looked for cannot be read; the message says how to write it."""


@dataclass(frozen=True)
class Wanted:
    """Which records are asked for; what is empty, None or 0 filters nothing. ``since`` is ledger time."""

    theme: str = ""
    model: str = ""
    sender: Address | None = None
    since: int = 0
    run: int = 0

    @classmethod
    def read(cls, theme: str, model: str, sender: str, since: str, run: int) -> "Wanted":
        """From what a user types. Raises BadAddress or BadFilter."""
        return cls(theme, model, parse_address(sender) if sender else None, _time(since) if since else 0, run)

    def fits(self, record: Record) -> bool:
        """Whether a record is one of them."""
        request = record.request
        return (
            self.theme.lower() in request.theme.lower()
            and self.model.lower() in request.model.lower()
            and (self.sender is None or self.sender == record.sender)
            and record.requested_at >= self.since
            and (not self.run or self.run == record.run)
        )


def _time(text: str) -> int:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise BadFilter(
            f"--since {text[:40]!r} is no time: write 2026-11-21 or 2026-11-21T18:00 (UTC)"
        ) from None
    return int((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp())


def records_of(what: str, url: str, deployment: Path | None, wanted: Wanted) -> dict[str, Any]:
    """The records that are asked for, as plain data; a note for a run that keeps none. Raises a LedgerError."""

    async def run() -> dict[str, Any]:
        async with _reached(what, url, deployment) as at:
            client = at.client
            count = await client.count()
            found: list[Record] = []
            for first in range(1, count + 1, _AT_ONCE):
                numbers = range(first, min(first + _AT_ONCE, count + 1))
                found += await asyncio.gather(*(client.get(number) for number in numbers))
            fitting = [record for record in found if wanted.fits(record)]
            unfinished = await unfinished_of(client, at.url, at.first_block, fitting)
            shown = [told_of(record, unfinished=record.number in unfinished) for record in fitting]
            return {
                "ok": True,
                "chain_id": client.chain_id,
                "contract": show_address(client.address),
                "count": count,
                "records": shown,
            }

    try:
        return asyncio.run(run())
    except NoRecords as error:
        return {
            "ok": True,
            "chain_id": None,
            "contract": None,
            "count": 0,
            "records": [],
            "note": str(error),
        }


def record_of(which: str, what: str, url: str, deployment: Path | None) -> dict[str, Any]:
    """One record with its stages: ``which`` is its number, or the job that it is of.

    Raises BadFilter, NoSuchRecord, NoRecords or a LedgerError.
    """
    number, own = _number(which)
    if own and not what and not url:
        what = own

    async def run() -> dict[str, Any]:
        async with _reached(what, url, deployment) as at:
            return {"ok": True, **await history_of(at.client, at.url, at.first_block, number)}

    return asyncio.run(run())


def _number(which: str) -> tuple[int, str]:
    """The number of a record, and the folder of the chain that it is on, if a job says so."""
    if which.isascii() and which.isdigit():
        return int(which), ""
    try:
        state = find_job(which).read()
    except NoJob:
        raise BadFilter(
            f"{which[:80]!r} is no training record and no job: give a number, as `distrai records list` shows it"
        ) from None
    return _recorded(state)


def _recorded(state: JobState) -> tuple[int, str]:
    told = state.record
    if told is None:
        raise BadFilter(f"the job {state.job_id} has no training record")
    folder = str(told["ledger"])
    if not Path(folder).is_absolute():
        return int(told["number"]), ""
    return int(told["number"]), folder


@dataclass(frozen=True)
class _Reached:
    """The contract, the node, and the block where its events begin."""

    client: RecordsClient
    url: str
    first_block: int


@asynccontextmanager
async def _reached(what: str, url: str, deployment: Path | None) -> AsyncIterator[_Reached]:
    if what and (url or deployment):
        raise BadFilter("give a run, or --rpc and --deployment, and not both")
    if bool(url) != (deployment is not None):
        raise BadFilter(
            "a chain is --rpc URL with --deployment FILE: give both, or neither for your own chain"
        )
    if deployment is not None:
        async with _connected(url, Deployment.read(deployment)) as reached:
            yield reached
    elif not what or _is_chain(Path(what)):
        async with _own(OwnLedger(Path(what)) if what else OwnLedger()) as reached:
            yield reached
    else:
        async with open_money(what) as money:
            if money.resolved.contracts is None:
                raise NoRecords(
                    f"run {money.run} ({money.resolved.recipe.name}) keeps no training records: runs with [rewards] or "
                    "[stake] in their recipe do"
                )
            contracts, link = money.contracts, money.link
            made = Deployment.named_by(contracts, link.chain_id, link.registry)
            async with _connected(money.url, made) as reached:
                yield reached


@asynccontextmanager
async def _own(ledger: OwnLedger) -> AsyncIterator[_Reached]:
    """The chain that jobs keep their records on: where it is served now, else opened here."""
    if not _is_chain(ledger.folder):
        raise BadFilter(
            f"there is no chain of yours in {ledger.folder} yet (the first job makes it): give a run, its folder or "
            "link, or --rpc URL with --deployment FILE"
        )
    own = OwnLedger(ledger.folder, wait_s=OWN_WAIT_S)
    async with own.connected() as at, _connected(at.url, at.deployment) as reached:
        yield reached


@asynccontextmanager
async def _connected(url: str, made: Deployment) -> AsyncIterator[_Reached]:
    with said_while_waiting("the node of the ledger"):
        client = await RecordsClient.connect(url, made.records, made.chain_id, patience=READING)
    try:
        yield _Reached(client, url, made.block)
    finally:
        await client.close()


def _is_chain(folder: Path) -> bool:
    """Whether a folder is a chain of jobs."""
    return (folder / "chain.sqlite").is_file() and (folder / "deployment.json").is_file()
