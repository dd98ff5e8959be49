"""A peer that nobody can reach: it listens on no port, and has only a bucket. It trains, and is in certificates."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.runs.folder import RunFolder
from helpers.local_runs import Drive, check_consistent, tiny_recipe
from helpers.nursery import Nursery
from helpers.rclone import OWNER, SECRET, object_server

pytestmark = pytest.mark.processes

NAMES, HIDDEN = ["peer-0", "peer-1", "peer-2"], "peer-2"


def test_a_peer_without_a_port_takes_part(nursery: Nursery, new_folder: Callable[[str], Path]) -> None:
    """Its updates are too large to ride with their announcement: the others fetch them from its bucket."""
    texts, path, store = new_folder("hidden-texts"), new_folder("hidden"), new_folder("hidden-store")
    config = tiny_recipe(texts).model.config
    recipe = tiny_recipe(
        texts,
        model={"config": {**config, "hidden_size": 64, "intermediate_size": 1000}},
        algorithm={"preset": "diloco", "inner_steps": 1, "inner_state": "reset"},
        training={"batch": 1},
        membership={"peers": 3, "min_seats": 3},
        rounds={"count": 3, "d0_s": 2.0},
    )
    folder = RunFolder(path)
    with object_server(store / "server") as server:
        access = server.access("hidden")
        settings = {
            "endpoint": access.endpoint,
            "bucket": access.bucket,
            "prefix": access.prefix,
            "read_url": access.read_url,
            "access_key_id": OWNER,
            "secret_access_key": SECRET,
        }

        def before_start(name: str) -> None:
            if name == HIDDEN:
                file = folder.peer(2) / "store.toml"
                file.touch(mode=0o600)
                lines = [f'{key} = "{value}"' for key, value in settings.items()]
                file.write_text("\n".join([*lines, "listen = false", ""]))

        async def drive_it() -> Drive:
            with nursery.attached():
                async with Drive(folder, nursery, recipe, texts, before_start=before_start) as drive:
                    assert await drive.finish()
                    return drive

        drive = asyncio.run(drive_it())
        observer = drive.observer
        (ready,) = observer.of("ready", HIDDEN)
        assert ready["url"] == access.read_url
        member = observer.of("started")[0]["members"][HIDDEN]
        for number in (1, 2, 3):
            (applied,) = (event for event in observer.of("applied", "peer-0") if event["round"] == number)
            assert member in applied["members"]
        assert observer.final_root()
        sizes = [path.stat().st_size for path in server.path("hidden", "blob").iterdir()]
        assert sum(size > 256 << 10 for size in sizes) >= 3
        assert SECRET not in "".join(log.read_text() for log in path.glob("*.log"))
        check_consistent(observer, folder, NAMES)
