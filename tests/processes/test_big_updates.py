"""Updates above 8 MiB, and a holder that dies while it serves one: who was fetching finishes from another."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.network.store import BlobStore
from distrai.protocol.lists import decode_list
from distrai.runs.folder import RunFolder
from helpers.failpoints import BIG_BLOB_BYTES
from helpers.local_runs import Death, Drive, logged, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

AUTHOR, RELAY, LATE = "peer-0", "peer-1", "peer-2"


def test_a_holder_killed_in_mid_transfer(nursery: Nursery, new_folder: Callable[[str], Path]) -> None:
    """peer-2 dies in round 1 and misses it. When it comes back peer-1 dies while it passes on what peer-0 made, and
    stays away until peer-2 has the round.
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
    armed = path / "armed"
    armed.touch()
    deaths = [Death(LATE, "trained", armed), Death(RELAY, "relayed", armed)]
    folder = RunFolder(path)

    async def drive_it() -> Drive:
        with nursery.attached():
            async with Drive(folder, nursery, recipe, texts, deaths) as drive:
                drive.held = {LATE: 0}
                drive.held_for = {RELAY: lambda: drive.has_applied(LATE, 1)}
                assert await drive.finish()
                return drive

    drive = asyncio.run(drive_it())
    assert drive.deaths_of(LATE)[0] == drive.deaths_of(RELAY)[0] == -9
    assert "failpoint: relayed" in logged(folder, RELAY)
    (update,) = (
        update
        for update in decode_list((folder.archive / "public/lists/00000001.msgpack").read_bytes()).updates
        if update.member.hex() == drive.observer.of("started")[0]["members"][AUTHOR]
    )
    assert update.blob_size > BIG_BLOB_BYTES
    events = drive.observer.events
    died = next(
        at for at, event in enumerate(events) if event == {"event": "exited", "code": -9, "from": RELAY}
    )
    assert not any(event["event"] == "applied" and event["from"] == LATE for event in events[:died])
    assert update.blob_hash in {blob.hash for blob in BlobStore(folder.peer(2) / "blobs").refs()}
    assert drive.observer.final_root()
