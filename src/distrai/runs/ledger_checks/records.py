"""Training records: claims that decode, stages in order, closings bound to the state that the run had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distrai.ledger.errors import BadAnswer
from distrai.ledger.training_records import Record, RecordsClient, Request, Result, Stage, read_claims
from distrai.network.store import BlobStore
from distrai.protocol.errors import WrongBlob
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.money_events import RecordClosed, RecordOpened, StageReached
from distrai.protocol.primitives import ZERO_HASH
from distrai.runs.ledger_checks.findings import Findings
from distrai.runs.ledger_checks.heads import Course
from distrai.runs.ledger_checks.pots import BlockTime

_NO_RESULT = Result(ZERO_HASH, ZERO_HASH, 0, 0, 0)


@dataclass
class _Told:
    """What the events say of one record so far."""

    findings: Findings
    opened: RecordOpened
    request: Request | None
    stage: Stage = Stage.REQUESTED
    closed: RecordClosed | None = None


def rebuild(
    events: Sequence[LedgerEvent], courses: Mapping[int, Course]
) -> tuple[dict[int, _Told], list[str]]:
    """The records as the events tell them, and what is wrong with those that have no beginning."""
    records: dict[int, _Told] = {}
    strays: list[str] = []
    for event in events:
        match event:
            case RecordOpened(record=number):
                if number != len(records) + 1:
                    strays.append(f"record {number} follows record {len(records)}: an event is missing")
                records[number] = _opened(event)
            case StageReached(record=number) | RecordClosed(record=number):
                if number in records:
                    _go_on(records[number], event, courses)
                else:
                    strays.append(f"record {number} goes on, and no event opens it: an event is missing")
            case _:
                pass
    return records, strays


def _opened(event: RecordOpened) -> _Told:
    findings = Findings(f"record {event.record}")
    try:
        request = read_claims(event.run, event.claims)
    except BadAnswer as error:
        findings.need(False, str(error))
        request = None
    findings.need(
        request is None or request.source == event.source,
        "its claims name another recipe or script than its event",
    )
    return _Told(findings, event, request)


def _go_on(told: _Told, event: StageReached | RecordClosed, courses: Mapping[int, Course]) -> None:
    need = told.findings.need
    if not need(told.closed is None, "something happened to it after it was closed"):
        return
    if isinstance(event, StageReached):
        stage = Stage(event.stage) if event.stage in list(Stage) else Stage.NONE
        need(told.stage < stage < Stage.CLOSED, f"stage {event.stage} follows stage {int(told.stage)}")
        told.stage = max(stage, told.stage)
        return
    told.stage, told.closed = Stage.CLOSED, event
    if told.opened.run == 0:
        need(
            (event.round, event.state_root) == (0, ZERO_HASH),
            "it is of no run, and its closing names a state",
        )
        return
    course = courses.get(told.opened.run)
    point = None if course is None else course.before(event.at)
    if (
        need(point is not None, f"it is of run {told.opened.run}, of which there are no events")
        and point is not None
    ):
        need(
            (event.round, event.state_root) == (point.round, point.state_root),
            f"it was closed with round {event.round} and state 0x{event.state_root.hex()}, and its run was at round "
            f"{point.round} with 0x{point.state_root.hex()}",
        )


async def check_records(
    events: Sequence[LedgerEvent],
    courses: Mapping[int, Course],
    client: RecordsClient,
    block_time: BlockTime,
    block: int,
) -> tuple[int, list[str]]:
    """How many records there are, and what is wrong with them."""
    records, problems = rebuild(events, courses)
    count = await client.count(block=block)
    if count != len(records):
        problems.append(f"the events open {len(records)} records, the contract has {count}")
    for number, told in records.items():
        if number <= count:
            _compare(told, await client.get(number, block=block), block_time)
        problems += told.findings.problems
    return count, problems


def _compare(told: _Told, held: Record, block_time: BlockTime) -> None:
    same, opened, closed = told.findings.same, told.opened, told.closed
    same("who asked for it", opened.sender, held.sender)
    same("when", block_time(opened.at.block_number), held.requested_at)
    same("its run", opened.run, held.run)
    same("its stage", int(told.stage), int(held.stage))
    if told.request is not None:
        same("its claims", told.request, held.request)
    if closed is None:
        same("its result", _NO_RESULT, held.result)
        return
    result = Result(closed.manifest, closed.table, closed.training_seconds, closed.gpu_seconds, closed.peers)
    same("its result", result, held.result)
    same("its last round", closed.round, held.round)
    same("its state", closed.state_root, held.state_root)
    same("when it was closed", block_time(closed.at.block_number), held.closed_at)


def check_evidence(events: Sequence[LedgerEvent], run: int, blobs: BlobStore) -> list[str]:
    """What is wrong with the manifests and tables of a run's closed records, as far as they lie here."""
    own = {event.record for event in events if isinstance(event, RecordOpened) and event.run == run}
    here = {blob.hash: blob for blob in blobs.refs()}
    problems = []
    for event in events:
        if isinstance(event, RecordClosed) and event.record in own:
            for what, name in (
                ("manifest of its model", event.manifest),
                ("table of its peers", event.table),
            ):
                try:
                    if name in here:
                        blobs.read(here[name])
                except WrongBlob as error:
                    problems.append(f"record {event.record}: the {what} is damaged: {error}")
    return problems
