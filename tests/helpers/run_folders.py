"""A run's whole folder without processes: what its archive published, and the event logs of its peers.

Four rounds of ten seconds each. Training takes 6, 6.5, 7 and 7.5 seconds (peer 0 to 3); peer n applies at 10 + n / 10.
Peer 3 misses round 2, nobody is in round 3, and peer 1 is started twice.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from distrai.ledger.interface import Limits, RunState
from distrai.network.counters import Counters
from distrai.peer.events import Apply
from distrai.peer.journal import Evaluated, Journal, Trained
from distrai.peer.link import Link
from distrai.peer.log import EventLog
from distrai.peer.records import APPLIED, encode_checkpoint
from distrai.protocol.body import Body
from distrai.protocol.canonical import canonical_json
from distrai.protocol.ledger_events import Position
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import ZERO_HASH, Address, Hash
from distrai.protocol.standing import Standing
from distrai.runs.folder import RunFolder, RunInfo
from helpers.archives import SEATS, ArchiveMaker
from helpers.messages import DOMAIN
from helpers.rounds import RUN

WHO = {1: (0, 1, 2, 3), 2: (0, 1, 2), 3: (), 4: (0, 1, 2, 3)}
BEGAN, ROUND_S = 1000.0, 10.0


@dataclass(frozen=True)
class FakeRun:
    """A run of four rounds in a folder that a test may spoil once it was copied."""

    folder: RunFolder
    standing: Standing
    genesis_head: Hash

    @property
    def ledger(self) -> RunState:
        """What the ledger would say."""
        now = self.standing
        return RunState(
            owner=Address(b"\7" * 20),
            recipe_hash=Hash(bytes.fromhex(self.folder.read().recipe_hash[2:])),
            started=True,
            round=now.round,
            seats=SEATS,
            head=now.head,
            head_at=0,
            state_root=now.state_root,
            beacon=ZERO_HASH,
            epoch_seats=SEATS,
            epoch_rounds_left=1,
            limits=Limits(1, 64, 100),
        )


def make_run(path: Path, texts: Path) -> FakeRun:
    """The run that the module's text describes."""
    folder = RunFolder(path)
    maker = ArchiveMaker.opened(folder.archive, texts)
    genesis = maker.archive().genesis().genesis
    standings = [maker.standing]
    for number in sorted(WHO):
        maker.round(WHO[number])
        standings.append(maker.standing)
    folder.write(
        RunInfo(
            link=str(Link("http://127.0.0.1:9", DOMAIN.chain_id, DOMAIN.registry, RUN)),
            preset="prime",
            peers=SEATS,
            rounds=len(WHO),
            recipe_hash="0x" + genesis.recipe_hash.hex(),
            name="smoke",
        )
    )
    for number in range(SEATS):
        with pytest.MonkeyPatch.context() as patch:
            _write_log(folder, number, maker, standings, patch)
    return FakeRun(folder, maker.standing, genesis.head)


def _write_log(
    folder: RunFolder,
    number: int,
    maker: ArchiveMaker,
    standings: list[Standing],
    patch: pytest.MonkeyPatch,
) -> None:
    now = BEGAN
    patch.setattr("distrai.peer.log.time.time", lambda: now)
    home = folder.peer(number)
    home.mkdir(parents=True, exist_ok=True)
    log, counters = EventLog(home / "peer.sqlite"), Counters()
    journal = Journal(log, counters)
    journal.running(maker.people[number].member)
    for before, after in pairwise(standings):
        start = BEGAN + ROUND_S * (after.round - 1)
        took = 6.0 + number / 2
        now = start + took
        if number in WHO[after.round]:
            journal.trained(
                after.round, before.head, Trained(4.0 - after.round / 10, 4, 256, took, start, now)
            )
        if number == 0:
            journal.evaluated(
                before.round, before.head, Evaluated(5.0 - before.round, 7.0 - before.round, 16)
            )
        if number == 2 and after.round == 4:
            log.append("refused", before.round, before.head, canonical_json({"rule": "PayloadSize"}))
        now = start + ROUND_S + number / 10
        counters.add("up", "updates", 1000 * (number + 1))
        counters.add("down", "data", 500)
        log.append(APPLIED, after.round, after.head, encode_checkpoint(_apply(before, after)))
        journal.traffic(after.round, after.head)
        if number == 1 and after.round == 2:
            counters = Counters()  # another process goes on, and counts from nothing
            journal = Journal(log, counters)
            journal.running(maker.people[number].member)
    log.close()


def _apply(before: Standing, after: Standing) -> Apply:
    """What a checkpoint is made from; body and list are no part of it."""
    body = Body(RUN, after.round, before.head, ZERO_HASH, after.state_root, ZERO_HASH)
    listed = CertifiedList(0, (), ())
    return Apply(before, after, body, listed, False, {}, Position(after.round, 0, ZERO_HASH))
