"""What of the object stores needs no store: settings, outboxes, and looking into those of hostile owners."""

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from distrai.network.http.proofs import Deliveries
from distrai.network.inbox import Inbox
from distrai.network.interface import AskFailed, Endpoint, NetworkError, SendFailed
from distrai.network.objects import find_settings
from distrai.network.objects.locations import base_of, bucket_url
from distrai.network.objects.outbox import Outbox, OutboxLimits, head_name, letter, letter_name
from distrai.network.objects.poller import Poller, PollLimits
from distrai.protocol.primitives import MemberId
from distrai.protocol.signatures import address_of, recover, sign

KEYS = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
ME, ALICE, EVE = (address_of(key.public_key) for key in KEYS)
SIGNS = {address_of(key.public_key): partial(sign, key) for key in KEYS}
QUICK = PollLimits(pause_s=0.001, pause_max_s=0.01, asks_per_s=1e6, taken_max=4)
FILE = 'endpoint = "https://s3.example.org"\nbucket = "b"\nprefix = "/p/"\n'


class Shelves:
    """The documents of everybody, in memory."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.asked = 0
        self.fails = False

    async def show(self, name: str, document: bytes) -> None:
        if self.fails:
            raise NetworkError("the store is gone")
        self.documents[name] = document

    async def hide(self, names: Any) -> None:
        for name in names:
            del self.documents[name]

    async def ask(self, endpoint: Endpoint, name: str, size_max: int) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if name not in self.documents or len(self.documents[name]) > size_max:
            raise AskFailed("nothing")
        return self.documents[name]


def poller(shelves: Shelves, places: Path | None = None) -> Poller:
    return Poller(shelves.ask, ME, Deliveries(ME, recover), Inbox(), random.Random(1), QUICK, places)


def endpoint(address: Any) -> Endpoint:
    return Endpoint(MemberId(address + bytes(12)), address, ("s3+https://s3.example.org/b",))


async def heard(looking: Poller, count: int) -> list[bytes]:
    messages = aiter(looking.inbox.messages())
    async with asyncio.timeout(60):
        return [(await anext(messages))[1] for _ in range(count)]


async def test_a_restart_takes_nothing_twice(tmp_path: Path) -> None:
    shelves, outbox = Shelves(), None
    outbox = Outbox(shelves, ALICE, SIGNS[ALICE])
    for number in range(10):
        await outbox.put(ME, b"%d" % number)
    first = poller(shelves, tmp_path / "places")
    first.watch(endpoint(ALICE))
    assert await heard(first, 10) == [b"%d" % number for number in range(10)]
    await first.close()
    second = poller(shelves, tmp_path / "places")
    second.watch(endpoint(ALICE))
    await outbox.put(ME, b"new")
    assert await heard(second, 1) == [b"new"]
    restarted = Outbox(shelves, ALICE, SIGNS[ALICE])  # counts from nought again, in a new epoch
    await restarted.put(ME, b"newer")
    assert await heard(second, 1) == [b"newer"]
    for each in (second, outbox, restarted):
        await each.close()


async def test_what_a_hostile_owner_lays_out_costs_itself_only() -> None:
    """An endless outbox, letters that are none, of others, or for others; somebody else is heard all the same."""
    shelves = Shelves()
    epoch, after = (7).to_bytes(8, "big"), (2**64 - 1).to_bytes(8, "big")
    eves, endless = Shelves(), epoch + bytes(8) + after
    eves.documents[head_name(ME)] = endless
    bad = [b"", b"\xff" * 9, letter(b"x", ALICE, ME, SIGNS[ALICE]), letter(b"x", EVE, ALICE, SIGNS[EVE])]
    for number, raw in enumerate(bad):
        eves.documents[letter_name(ME, 7, number)] = raw
    outbox = Outbox(shelves, ALICE, SIGNS[ALICE])
    await outbox.put(ME, b"hello")
    both = {ALICE: shelves, EVE: eves}
    looking = poller(shelves)
    looking.ask = lambda whom, name, size: both[whom.address].ask(whom, name, size)
    looking.watch(endpoint(EVE))
    async with asyncio.timeout(60):
        while eves.asked <= len(bad) + 2:  # noqa: ASYNC110 - it has gone through them, and looks again
            await asyncio.sleep(0)
    looking.watch(endpoint(ALICE))
    assert await heard(looking, 1) == [b"hello"]
    assert len(looking.inbox) == 0 and not looking.inbox.dropped
    await looking.close()
    await outbox.close()


async def test_an_outbox_is_bounded_and_its_author_tidies_up() -> None:
    shelves = Shelves()
    now = [0.0]
    limits = OutboxLimits(messages_max=3, keep_s=10, receivers_max=1)
    outbox = Outbox(shelves, ALICE, SIGNS[ALICE], limits, lambda: now[0])
    for number in range(5):
        await outbox.put(ME, b"%d" % number)
    assert sorted(shelves.documents) == [
        head_name(ME),
        *(letter_name(ME, outbox.epoch, number) for number in (2, 3, 4)),
    ]
    now[0] = 11.0
    await outbox.put(ME, b"late")
    assert sorted(shelves.documents) == [head_name(ME), letter_name(ME, outbox.epoch, 5)]
    with pytest.raises(SendFailed, match="receivers"):
        await outbox.put(EVE, b"one too many")
    shelves.fails = True
    with pytest.raises(SendFailed, match="gone"):
        await outbox.put(ME, b"lost")
    await outbox.close()


def test_settings_come_from_a_file_of_the_owner_alone_and_the_environment(tmp_path: Path) -> None:
    assert find_settings(tmp_path, {}) is None
    file = tmp_path / "store.toml"
    file.touch(0o600)
    secret = 'access_key_id = "me"\nsecret_access_key = "hidden"\nlisten = false\n'
    file.write_text(FILE + secret)
    found = find_settings(tmp_path, {"DISTRAI_STORE_BUCKET": "other"})
    assert found is not None and not found.listen
    assert found.access.read_url == "s3+https://s3.example.org/other/p"
    assert "hidden" not in repr(found) and found.access.secret_access_key == "hidden"
    file.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        find_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (FILE + "secret = 1", "not known"),
        (FILE + 'secret_access_key = "hidden"', "both"),
        ('bucket = "b"', "endpoint"),
        ('secret_access_key = "hidden', "no TOML"),
        (FILE + "listen = 1", "listen"),
        (FILE + 'read_url = "ftp://x"', "no URL"),
    ],
)
def test_wrong_settings_are_explained_without_secrets(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "store.toml").touch(0o600)
    (tmp_path / "store.toml").write_text(text)
    with pytest.raises(ValueError, match=why) as caught:
        find_settings(tmp_path, {})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://h/b",
        "s3+ftp://h/b",
        "s3+https://u:p@h/b",
        "s3+https://h/b?x=1",
        "s3+https://h/b c",
        "s3+https://h/b#f",
        "s3+https:///b",
        "s3+nonsense",
        "s3+https://h:x/b",
    ],
)
def test_what_is_no_bucket_is_not_asked(url: str) -> None:
    with pytest.raises(ValueError):
        base_of(url)


def test_the_address_of_a_bucket_is_kept() -> None:
    assert str(base_of(bucket_url("https://s3.example.org:9000/b/p/"))) == "https://s3.example.org:9000/b/p"
