"""Real peers on a ledger that takes blocks back, across certified rounds: the same rounds are certified again.

Twice: first other blocks stand where known ones were, as on any chain; then the chain is only shorter, as one that was
restored from a copy. Two peers die on their way back, one is away meanwhile.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.msgpack import decode

from distrai.ledger.interface import RunState
from distrai.peer.records import CertificateRecord
from distrai.peer.store import PublicFolder
from distrai.protocol.ledger_events import Certified, LedgerEvent
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.folder import RunFolder
from helpers.local_runs import Death, Drive, check_consistent, ledger_history, logged, tiny_recipe
from helpers.nursery import Nursery
from helpers.reorgs import newest_block, reorganise

pytestmark = pytest.mark.processes

PEERS = [f"peer-{number}" for number in range(4)]
CUT = 3
"""Blocks up to that of the last certificate that are taken back: about as many certified rounds."""
AWAY = "peer-3"
"""Down while the first reorg happens."""
DEATHS = [("peer-1", "reverting"), ("peer-2", "reverted")]
STALL_S = 60


@dataclass
class Reorg:
    """What the ledger had said of the run before, and where it was cut off."""

    before: list[LedgerEvent]
    kept_block: int

    @property
    def lost(self) -> list[Certified]:
        """The certificates that were in blocks that are gone."""
        certified = (event for event in self.before if isinstance(event, Certified))
        return [event for event in certified if event.at.block_number > self.kept_block]


@dataclass
class Record:
    """What came of the run."""

    folder: RunFolder
    drive: Drive
    reorgs: list[Reorg]
    history: list[LedgerEvent]
    state: RunState

    @property
    def certified(self) -> list[Certified]:
        return [event for event in self.history if isinstance(event, Certified)]


async def reorgs(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, path = new_folder("reorg-texts"), new_folder("reorg")
    recipe = tiny_recipe(
        texts,
        rounds={"count": 1000, "d0_s": 0.2, "cut_s": 1.0, "hard_s": 4.0, "stall_seconds": STALL_S},
        membership={"peers": 4, "min_seats": 3},
    )
    folder = RunFolder(path)
    deaths = [Death(name, point, path / f"armed-{name}") for name, point in DEATHS]
    with nursery.attached():
        async with Drive(folder, nursery, recipe, texts, deaths) as drive:
            await drive.until(lambda: drive.observer.newest_round() >= 4, "some rounds")
            first = await take_back(drive, outrun=True, away=True)
            second = await take_back(drive, outrun=False, away=False)
            state, history = await ledger_history(folder)
            await drive.applied_by_all(PEERS, state.round)
            assert not await drive.stop()
    return Record(folder, drive, [first, second], history, state)


async def take_back(drive: Drive, *, outrun: bool, away: bool) -> Reorg:
    """Kill the ledger, change its chain, and let it come back; until all peers have a round on the new one."""
    seen = len(drive.observer.of("reorganised", "peer-0"))
    _, before = await ledger_history(drive.folder)
    kept = max(event.at.block_number for event in before if isinstance(event, Certified)) - CUT

    def change(name: str) -> None:
        if name == "ledger":
            cut = newest_block(drive.folder.ledger) - kept
            reorganise(drive.folder.ledger, cut, cut + 1 if outrun else 0)

    def is_seen() -> bool:
        return len(drive.observer.of("reorganised", "peer-0")) > seen

    drive.before_start = change
    for death in drive.deaths:
        if (death.point == "reverting") == away:
            death.armed.touch()
    await drive.kill("ledger")
    if away:
        drive.held_for[AWAY] = is_seen
        await drive.kill(AWAY)
    await drive.until(is_seen, "word of a reorg")
    drive.before_start = lambda name: None
    last = drive.observer.newest_round()
    await drive.until(
        lambda: all(drive.is_certified(name, last) for name in PEERS), "certificates of all on the new chain"
    )
    return Reorg(before, kept)


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(reorgs(nursery, new_folder))


def test_rounds_whose_blocks_are_gone_are_certified_again_as_they_were(record: Record) -> None:
    now = {event.body.round: event for event in record.certified}
    for reorg in record.reorgs:
        assert reorg.lost
        for event in reorg.lost:
            again = now[event.body.round]
            assert (again.body, again.head) == (event.body, event.head)
            assert again.at.block_hash != event.at.block_hash


def test_nothing_is_lost_and_all_report_the_ledgers_state_root(record: Record) -> None:
    states, observer = (
        record.drive.observer.states(),
        record.drive.observer,
    )  # two states of a round would raise
    rounds = [event.body.round for event in record.certified]
    assert rounds == list(range(1, record.state.round + 1)), "no roll call, nothing twice"
    for event in record.certified:
        expected = ("0x" + event.head.hex(), "0x" + event.body.state_root.hex())
        assert set(states.get(event.body.round, {"": expected}).values()) == {expected}
    assert set(states[record.state.round]) == set(PEERS)
    check_consistent(observer, record.folder, PEERS)


def test_peers_died_on_their_way_back_or_were_away_meanwhile(record: Record) -> None:
    for name, point in DEATHS:
        assert f"failpoint: {point}" in logged(record.folder, name)
    drive = record.drive
    assert drive.deaths_of(AWAY)[0] == -9
    assert [event for event in drive.observer.of("reorganised") if event["from"] == AWAY], "it noticed, too"


def test_the_archive_holds_the_certificates_of_the_chain_that_is(record: Record) -> None:
    public, link = PublicFolder(record.folder.archive / "public"), record.folder.link()
    domain = Domain(link.chain_id, link.registry)
    for event in record.certified[:-1]:  # the last may have landed when the archive was told to stop
        kept = decode(public.certificate_path(event.body.round).read_bytes(), type=CertificateRecord)
        assert kept.body == event.body
        assert all(recover(domain.digest(kept.body.id), signature) for signature in kept.signatures)
