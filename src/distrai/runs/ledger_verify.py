"""Verifying a ledger: every head, root, claim, stake and record from events, and each against what the contracts hold.

Nothing is believed of the folder: events are read anew, lists count where certificates commit to them, tables where
they make the roots. What the contracts hold is read as of one block, so that a chain that goes on disturbs nothing.
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from distrai.ledger.contract import Contract
from distrai.ledger.deployment import check
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.embedded.audit import audit
from distrai.ledger.errors import BadAnswer, NodeError
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.pots import PotsClient
from distrai.ledger.reader import LedgerReader
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.ledger.training_records import RecordsClient
from distrai.network.store import BlobStore
from distrai.peer.public import PublicFolder
from distrai.protocol.errors import ProtocolError
from distrai.protocol.ledger_events import RunOpened
from distrai.protocol.lists import check_list, decode_list
from distrai.protocol.primitives import Address
from distrai.protocol.rewards import WorkedRound, accepted_tokens
from distrai.protocol.typed_data import Domain
from distrai.runs.anchor import deployment_of, ledger_url, registry_reader
from distrai.runs.folder import RunFolder
from distrai.runs.ledger_checks.heads import Course, check_course
from distrai.runs.ledger_checks.indexes import compare_index
from distrai.runs.ledger_checks.pots import PotCheck, check_pot, check_pot_views
from distrai.runs.ledger_checks.records import check_evidence, check_records
from distrai.runs.ledger_checks.report import Report, ledger_verify_text, unchecked
from distrai.runs.ledger_checks.stakes import check_stake_views, check_stakes
from distrai.runs.ledger_checks.tokens import check_balances, check_moves
from distrai.runs.reward_tables import Tables

__all__ = ["Beside", "Report", "ledger_verify", "ledger_verify_text", "verify_folder", "verify_ledger"]

_C = TypeVar("_C", bound=Contract)
LOOKS_MAX = 3
"""How often to look again where a reorg came in between."""


@dataclass(frozen=True)
class Beside:
    """What lies beside a ledger and helps to check it: of one run its lists and tables, and an index that is used."""

    run: int = 0
    public: PublicFolder | None = None
    tables: Tables = Tables(())  # noqa: RUF009 - it is frozen, and has nothing
    index: Path | None = None
    blobs: BlobStore | None = None


def ledger_verify(folder: RunFolder) -> dict[str, Any]:
    """Check the ledger of the run in a folder; plain data. Raises NoRun, NoLedger or LedgerUnreachable."""
    return asyncio.run(verify_folder(folder)).to_json()


async def verify_folder(folder: RunFolder) -> Report:
    """Check the ledger of the run in a folder, with the lists and tables that are there."""
    link = folder.link()
    deployment = deployment_of(folder)
    beside = Beside(
        link.run,
        PublicFolder(folder.archive / "public"),
        Tables.of_folder(folder),
        folder.index if folder.index.exists() else None,
        BlobStore(folder.archive / "blobs"),
    )
    async with ledger_url(folder) as url:
        if deployment is None:
            report = await _verify_registry(url, Domain(link.chain_id, link.registry), link.run)
        else:
            report = await verify_ledger(url, deployment, beside)
    if not folder.read().external:
        changed = [f"{folder.ledger / 'chain.sqlite'}: {problem}" for problem in audit(folder.ledger)]
        report.problems += changed
    return report


async def _verify_registry(url: str, domain: Domain, run: int) -> Report:
    """Check a run that has nothing to do with money."""
    report = Report()
    async with registry_reader(url, domain) as reader:
        report.block = await reader.block_number()
        try:
            course = Course.of(run, await reader.events(run, 0, report.block))
            await check_course(course, reader, domain, report.block)
        except (BadAnswer, NodeError) as error:
            report.problems.append(f"ledger: {error}")
            return report
    _count(report, course)
    return report


async def verify_ledger(url: str, deployment: Deployment, beside: Beside | None = None) -> Report:
    """Check everything on the contracts of a deployment. Raises LedgerUnreachable or WrongChain."""
    with tempfile.TemporaryDirectory() as scratch:
        async with AsyncExitStack() as stack:
            index = LedgerIndex.open(Path(scratch) / "index.sqlite", deployment)
            stack.callback(index.close)
            source = await LogSource.connect(url, deployment.chain_id)
            stack.push_async_callback(source.close)
            clients = await _Clients.connect(url, deployment, stack)
            for _ in range(LOOKS_MAX):
                verifier = _Verifier(deployment, beside or Beside(), index, Report(deployment.decimals))
                try:
                    await index.sync(source)
                    await verifier.run(url, clients)
                    if await verifier.is_still_so(source):
                        break
                except (BadAnswer, NodeError) as error:
                    verifier.report.problems.append(f"ledger: {error}")
            return verifier.report


@dataclass
class _Verifier:
    """One look at all contracts of a deployment, as of one block."""

    deployment: Deployment
    beside: Beside
    index: LedgerIndex
    report: Report

    async def is_still_so(self, source: LogSource) -> bool:
        """Whether the ledger took nothing back meanwhile: what it did take back cannot add up."""
        before = self.index.events()
        await self.index.sync(source)
        return [
            event for event in self.index.events() if event.at.block_number <= self.report.block
        ] == before

    async def run(self, url: str, clients: "_Clients") -> None:
        """Check everything, into the report."""
        made, report, block = self.deployment, self.report, self.index.newest_block
        report.block = block
        if made.settings is not None:
            report.problems += [f"deployment: {finding}" for finding in await check(url, made)]
        report.problems += compare_index(self.beside.index, made, self.index)
        events, courses, held, staked = self.index.events(), dict[int, Course](), 0, 0
        for number in [event.genesis.run for event in events if isinstance(event, RunOpened)]:
            course, pot, of_stakes = await self._check_run(number, clients)
            courses[number] = course
            held, staked = held + pot.held, staked + of_stakes
        report.runs, count = len(courses), await clients.reader.run_count(block=block)
        if len(courses) != count:
            report.problems.append(
                f"the events open {len(courses)} runs, the registry has {count}: events are missing"
            )
        report.records, problems = await check_records(events, courses, clients.records, self._time, block)
        report.problems += problems + check_moves(made, events)
        if self.beside.blobs is not None:
            report.problems += check_evidence(events, self.beside.run, self.beside.blobs)
        report.problems += await check_balances(
            made, events, clients.token, clients.stakes, pots_hold=held, stakes_hold=staked, block=block
        )

    async def _check_run(self, number: int, clients: "_Clients") -> tuple[Course, PotCheck, int]:
        """One run: its course, its pot, and what its stakes come to."""
        events, block, report = self.index.events(run=number), self.report.block, self.report
        course = Course.of(number, events)
        await check_course(course, clients.reader, clients.reader.domain, block)
        is_beside = number == self.beside.run
        worked = self._worked(course) if is_beside else []
        tables = self.beside.tables if is_beside else Tables(())
        pot = check_pot(course, events, worked, tables, clients.pots.domain, self._time)
        await check_pot_views(pot, course, events, clients.pots, block)
        stakes = check_stakes(number, events, self._time)
        owed = await check_stake_views(stakes, course.joined, clients.stakes, block)
        _count(report, course)
        report.roots += len(pot.pot.epochs)
        report.recomputed += pot.recomputed
        report.by_table += pot.by_table
        report.paid, report.owed = report.paid + pot.paid, report.owed + pot.owed
        report.problems += pot.findings.problems + stakes.findings.problems
        if is_beside:
            report.problems += unchecked(pot)
        return course, pot, stakes.total + owed

    def _time(self, block: int) -> int:
        """The time of a block that an event is in."""
        time = self.index.block_time(block)
        assert time is not None, "blocks with events are kept with their times"
        return time

    def _worked(self, course: Course) -> list[WorkedRound]:
        """The non-empty rounds whose lists lie beside; a list that was not certified is none."""
        found, public = list[WorkedRound](), self.beside.public
        for event, _ in course.certificates:
            body = event.body
            if body.is_empty or public is None or not public.list_path(body.round).exists():
                continue
            try:
                listed = decode_list(public.list_path(body.round).read_bytes())
                check_list(listed, body)
            except ProtocolError as error:
                self.report.problems.append(f"run {course.run}: {public.list_path(body.round)}: {error}")
            else:
                found.append(WorkedRound(body.round, accepted_tokens(listed)))
        return found


@dataclass(frozen=True)
class _Clients:
    """Readers of all contracts."""

    reader: LedgerReader
    pots: PotsClient
    stakes: StakesClient
    token: TokenClient
    records: RecordsClient

    @classmethod
    async def connect(cls, url: str, made: Deployment, stack: AsyncExitStack) -> "_Clients":
        """Connected until ``stack`` ends."""
        reader = await stack.enter_async_context(registry_reader(url, Domain(made.chain_id, made.registry)))

        async def opened(kind: type[_C], address: Address) -> _C:
            client = await kind.connect(url, address, made.chain_id)
            stack.push_async_callback(client.close)
            return client

        return cls(
            reader,
            await opened(PotsClient, made.rewards),
            await opened(StakesClient, made.stakes),
            await opened(TokenClient, made.token),
            await opened(RecordsClient, made.records),
        )


def _count(report: Report, course: Course) -> None:
    report.certificates += len(course.certificates)
    report.problems += course.findings.problems
