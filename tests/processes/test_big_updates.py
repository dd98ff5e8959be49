"""Updates above 8 MiB, and a holder that dies while it serves one: who was fetching finishes from another."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.lists import decode_list
from distrai.runs.folder import RunFolder
from helpers.failpoints import BIG_BLOB_BYTES
from helpers.local_runs import Death, Drive, logged, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

AUTHOR, RELAY, LATE = "peer-0", "peer-1", "peer-2"


def test_a_holder_killed_in_mid_transfer(nursery: Nursery, new_folder: Callable[[str], Path]) -> None:
    """peer-2 dies in round 1 and misses it. When it comes back peer-1 dies while it passes on what peer-0 made, and
    stays away until peer-2 has that round.
    """
    texts, path = new_folder("big-texts"), new_folder("big")
    config = tiny_recipe(texts).model.config
    recipe = tiny_recipe(
        texts,
        model={"config": {**config, "hidden_size": 256, "intermediate_size": 2900}},
        algorithm={"preset": "diloco", "inner_steps": 1, "inner_state": "reset"},
        training={"batch": 1},
        membership={"peers": 3, "min_seats": 3},
        rounds={"count": 4, "cut_s": 4.0, "hard_s": 60.0, "stall_seconds": 400},
    )
    at_once, then = path / "armed-late", path / "armed-relay"
    at_once.touch()
    deaths = [Death(LATE, "trained", at_once), Death(RELAY, "relayed", then)]
    folder = RunFolder(path)

    async def drive_it() -> Drive:
        with nursery.attached():
            async with Drive(folder, nursery, recipe, texts, deaths) as drive:
                drive.held = {LATE: 0}
                # not before: in a swarm the relay serves the late one already before that dies
                drive.before_start = lambda name: then.touch() if drive.deaths_of(LATE) else None
                drive.held_for = {RELAY: lambda: bool(applied_without_relay(drive))}
                assert await drive.finish()
                return drive

    drive = asyncio.run(drive_it())
    assert drive.deaths_of(LATE)[0] == drive.deaths_of(RELAY)[0] == -9
    assert "failpoint: relayed" in logged(folder, RELAY)
    number = applied_without_relay(drive)[0]["round"]  # the round whose updates were on their way
    certified = decode_list((folder.archive / f"public/lists/{number:08}.msgpack").read_bytes())
    author = drive.observer.of("started")[0]["members"][AUTHOR]
    (update,) = (update for update in certified.updates if update.member.hex() == author)
    assert update.blob_size > BIG_BLOB_BYTES
    assert BlobRef(update.blob_hash, update.blob_size) in set(BlobStore(folder.peer(2) / "blobs").refs())
    assert drive.observer.final_root()


def applied_without_relay(drive: Drive) -> list[dict[str, Any]]:
    """What the late peer applied after the relay's death and before its return."""
    events = drive.observer.events
    died = next(
        (at for at, event in enumerate(events) if event["event"] == "exited" and event["from"] == RELAY), None
    )
    if died is None:
        return []
    back = next(
        (
            died + at
            for at, event in enumerate(events[died:])
            if event["event"] == "member" and event["from"] == RELAY
        ),
        len(events),
    )
    return [event for event in events[died:back] if event["event"] == "applied" and event["from"] == LATE]
