"""A seat gets a new node key while its peer is down: it comes back, attests with the old one, and is promoted."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.ledger.locks import InUse
from distrai.protocol.ledger_events import Certified, KeyChanged
from distrai.runs.folder import RunFolder
from distrai.runs.rotation import CannotRotate, rotate
from helpers.local_runs import Drive, check_consistent, ledger_history, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

PEERS = [f"peer-{number}" for number in range(3)]
ROTATED = "peer-2"


async def drive_it(nursery: Nursery, new_folder: Callable[[str], Path]) -> None:
    texts, path = new_folder("rotation-texts"), new_folder("rotation")
    recipe = tiny_recipe(
        texts,
        rounds={"count": 1000, "cut_s": 1.5, "hard_s": 10.0, "stall_seconds": 400},
        membership={"peers": 3, "min_seats": 3},
    )
    folder, is_rotated = RunFolder(path), False
    with nursery.attached():
        async with Drive(folder, nursery, recipe, texts) as drive:
            await drive.until(lambda: drive.is_certified(ROTATED, 0), "a first certificate")
            home, link = folder.peer(2), folder.link()
            with pytest.raises(InUse):
                await rotate(home, link)  # its peer runs
            drive.held_for[ROTATED] = lambda: is_rotated
            await drive.kill(ROTATED)
            rotated = await rotate(home, link)
            is_rotated = True
            drive.observer.news.set()
            await drive.until(lambda: len(drive.observer.of("ready", ROTATED)) == 2, "its return")
            state, _ = await ledger_history(folder)
            after = state.round + 3
            await drive.until(lambda: drive.is_certified(ROTATED, after), "certificates with the new key")
            _, history = await ledger_history(folder)
            check_consistent(drive.observer, folder, PEERS)
            assert not await drive.stop()
    changed = [event for event in history if isinstance(event, KeyChanged)]
    assert [(event.member, event.key) for event in changed] == [(rotated.member, rotated.key)]
    bodies = [event.body for event in history if isinstance(event, Certified)]
    pairs = [(item.member, item.key) for body in bodies for item in body.promotions]
    assert pairs == [(rotated.member, rotated.key)]
    assert not any(body.drops for body in bodies)


def test_a_seat_rotates_its_key_and_goes_on(nursery: Nursery, new_folder: Callable[[str], Path]) -> None:
    asyncio.run(drive_it(nursery, new_folder))


def test_a_folder_that_is_no_home_is_said(new_folder: Callable[[str], Path]) -> None:
    with pytest.raises(CannotRotate, match="no peer's home"):
        asyncio.run(rotate(new_folder("nobody"), None))  # type: ignore[arg-type]
