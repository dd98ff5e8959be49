"""One of four members sends garbage of every kind; the others refuse it by name, and finish with one state."""

import asyncio
import os
import struct
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from distrai.ledger.errors import LedgerRefused
from distrai.network.holders import HolderError
from distrai.network.interface import MESSAGE_BYTES_MAX
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.messages import (
    BodySignature,
    Digest,
    Envelope,
    Have,
    Key,
    Proposal,
    Update,
    seal_envelope,
)
from distrai.protocol.primitives import Address
from distrai.protocol.typed_data import Domain
from distrai.runs.archive import Archive
from distrai.runs.folder import RunFolder
from distrai.runs.logs import read_log
from distrai.runs.verify import verify
from helpers.hostile import HONEST, Hostile, HostileDrive
from helpers.local_runs import tiny_recipe
from helpers.messages import Author
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

ROUNDS = 8
STRANGER = Author(77)
TIMES = {"count": ROUNDS, "d0_s": 0.2, "cut_s": 12.0, "hard_s": 60.0, "stall_seconds": 400}


def test_a_member_that_sends_garbage(nursery: Nursery, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    members = {"peers": 4, "min_seats": 4}
    recipe = tiny_recipe(texts, rounds=TIMES, membership=members, limits={"norm_ceiling": 50.0})
    folder = RunFolder(tmp_path / "run")

    async def run() -> None:
        with nursery.attached():
            async with HostileDrive(folder, nursery, recipe, texts) as drive:
                hostile = drive.hostile
                await hostile.begin()
                for number, play in enumerate(ROUND_BY_ROUND):
                    if number:
                        await hostile.follow(number)
                    await play(hostile)
                await hostile.follow(ROUNDS)
                hostile.done(ROUNDS)
                assert await drive.finish()
                assert not drive.observer.of("restarting"), "no honest peer ended"
                everybody = drive.observer.states()
                for number in range(1, ROUNDS + 1):
                    told = {everybody[number][name] for name in HONEST}
                    assert len(told) == 1, f"heads and state roots after round {number}"
                check_lists(folder, hostile)

    asyncio.run(run())
    verdict = verify(folder, None, lambda number, updates: None)
    assert verdict.ok, verdict.failure
    check_logs(folder)


def check_lists(folder: RunFolder, hostile: Hostile) -> None:
    """The honest are in every list, the hostile one only where it sent two good updates, and then once.

    (But for round 1: what is sent to somebody who has not seen the start yet is lost, and comes with a digest or late.)
    """
    for number, certified in Archive(folder.archive).lists():
        authors = [update.member for update in certified.updates]
        assert set(hostile.honest.values()) <= set(authors) or number == 1, f"round {number}"
        assert authors.count(hostile.member) == 0 or number == TWO_UPDATES
        assert authors.count(hostile.member) <= 1


def check_logs(folder: RunFolder) -> None:
    """What was refused is in the event logs too."""
    for number in range(3):
        rules = read_log(folder.peer(number)).refused
        assert {*MESSAGE_RULES, "NonFinitePayload", "CannotOpen", "NormAboveCeiling"} <= set(rules)


# Round 1: messages that nobody keeps, certificates that the ledger does not take, a payload that is no number

MESSAGE_RULES = {
    *("WrongBlobSize", "BadSignature", "ForeignHead", "ForeignRun", "WrongBase", "TooManySteps"),
    *(
        "WrongTokenCount",
        "WrongCodec",
        "WrongFragment",
        "MalformedMessage",
        "NotCanonical",
        "MessageTooLarge",
    ),
    *("NotATrainer", "NotASeat", "WrongKey", "WrongProposer", "UnsortedList"),
}


async def garbage_and_no_number(hostile: Hostile) -> None:
    await uncertified(hostile)
    endpoint = hostile.endpoints[hostile.honest["peer-0"]]
    way = await hostile.transport.client.prove(endpoint)
    with pytest.raises(HolderError, match="413|cannot be reached"):
        await hostile.transport.client.post(way, "/message", bytes(MESSAGE_BYTES_MAX + 1), {}, "control")
    await hostile.send(garbage(hostile))
    for rule in MESSAGE_RULES - {"ForeignHead"}:
        await hostile.refused(rule)
    data = bytearray(hostile.payload())
    data[:1024] = struct.pack("<f", float("nan")) * 256
    await hostile.everything(hostile.work(bytes(data)))


def garbage(hostile: Hostile) -> list[bytes]:
    """One message for each rule that a message alone can break, and some more."""
    good = hostile.work(hostile.payload())
    update = good.signed.message
    assert isinstance(update, Update)
    header, steps = hostile.header(), update.inner_steps
    signed = [
        replace(update, blob_size=update.blob_size + 1),
        replace(update, base_round=7),
        replace(update, run=update.run + 1),
        replace(update, round=update.round + 1),  # kept for later, and refused then: it names the head of now
        replace(update, inner_steps=steps + 1, tokens=update.tokens // steps * (steps + 1)),
        replace(update, inner_steps=0, tokens=0),
        replace(update, tokens=update.tokens + 1),
        replace(update, codec="fp32"),
        replace(update, fragment=1),
        replace(update, version=9),
        Have(**header, updates=(bytes([2]) * 32, bytes([1]) * 32)),  # type: ignore[arg-type]
        Have(**header, updates=tuple(bytes([n]) * 32 for n in range(100))),  # type: ignore[arg-type]
        Proposal(**header, attempt=wrong_turn(hostile), body=b"", updates=(), haves=(), keys=()),
        BodySignature(**header, body_id=hostile.head, attestation=bytes(65)),  # type: ignore[arg-type]
    ]
    others = next(iter(hostile.honest.values()))
    stranger = {**header, "member": STRANGER.member}
    elsewhere = Domain(hostile.domain.chain_id, Address(bytes(20)))
    forged = [
        STRANGER.seal(update, hostile.domain),  # in the own name, by another key
        hostile.seal(replace(update, member=others)),  # by the own key, in another's name
        seal_envelope(
            update, elsewhere, hostile.key.sign, hostile.key.address
        ),  # signed for another folder's registry
        STRANGER.seal(replace(update, member=STRANGER.member), hostile.domain),
        STRANGER.seal(Have(**stranger, updates=()), hostile.domain),
        hostile.seal(Digest(**{**header, "run": 99}, salt=bytes(16), known=b"")),
    ]
    envelope = good.signed.envelope
    raw = [
        b"",
        os.urandom(200),
        encode_canonical(Envelope("no such kind" * 4000, envelope.body, envelope.signature)),
        encode_canonical(Envelope("update", envelope.body[:-1], envelope.signature)),
        encode_canonical(Envelope("update", envelope.body, envelope.signature[:-1])),  # type: ignore[arg-type]
        bytes([0xDC, 0, 3]) + good.signed.raw[1:],  # the same, spelt longer
        encode_canonical(Envelope("update", bytes(70_000), envelope.signature)),
        msgspec.msgpack.encode([1] * 1000),
    ]
    ghost = hostile.seal(
        replace(update, blob_hash=hostile.head)
    )  # nobody has its ciphertext; kept, until a key comes
    lock = hostile.seal(Key(**header, update=ghost.id, key=bytes(32)))
    return [
        ghost.raw,
        lock.raw,
        *(hostile.seal(each).raw for each in signed),
        *(each.raw for each in forged),
        *raw,
    ]


def wrong_turn(hostile: Hostile) -> int:
    """An attempt in which it is somebody else's turn to propose."""
    seats = sorted([*hostile.honest.values(), hostile.member])
    own = (seats.index(hostile.member) - hostile.round - 1) % len(seats)
    return (own + 1) % len(seats)


async def uncertified(hostile: Hostile) -> None:
    """The ledger takes no certificate without two thirds of the seats."""
    body = hostile.body()
    digest = hostile.domain.digest(body.id)
    own, strange = hostile.key.sign(digest), STRANGER.sign(digest)
    for signatures in ([], [own], [own] * 3, [strange] * 3, sorted([own, strange, strange]), [b"short"]):  # type: ignore[type-var]
        with pytest.raises(LedgerRefused):
            await hostile.ledger.certify(body, signatures)  # type: ignore[arg-type]
    assert (await hostile.ledger.run_state(hostile.run)).round == 0


# The other rounds: updates that all honest peers hold, and that must not count


async def anothers_ciphertext(hostile: Hostile) -> None:
    await hostile.refused("NonFinitePayload")
    theirs = (await hostile.hear("update", hostile.honest["peer-1"])).message
    assert isinstance(theirs, Update)
    own = hostile.work(hostile.payload(), blob_hash=theirs.blob_hash)
    await hostile.send([own.signed, hostile.reveal(own), await hostile.have(own)])


async def a_key_that_does_not_open(hostile: Hostile) -> None:
    await hostile.refused("ForeignHead")
    await hostile.refused("CannotOpen")
    await hostile.everything(hostile.work(hostile.payload(), opens_with=bytes(range(32))))


async def a_key_never_revealed(hostile: Hostile) -> None:
    await hostile.refused("CannotOpen", times=2)
    await hostile.everything(hostile.work(hostile.payload()), key=False)


async def two_updates(hostile: Hostile) -> None:
    one, other = hostile.work(hostile.payload()), hostile.work(hostile.payload())
    await hostile.everything(one, HONEST[:1])
    await hostile.everything(other, HONEST[1:])
    await hostile.send([one.signed, hostile.reveal(one), await hostile.have(one)], to=HONEST[1:])
    await hostile.send([other.signed, hostile.reveal(other), await hostile.have(other)], to=HONEST[:1])


async def far_too_large(hostile: Hostile) -> None:
    observer = hostile.drive.observer
    await hostile.drive.until(
        lambda: {event["from"] for event in observer.of("equivocation")} >= set(HONEST), "word of two updates"
    )
    await hostile.everything(hostile.work(hostile.payload(scale=1e4)))


async def a_flood(hostile: Hostile) -> None:
    """Nobody writes down every piece of it."""
    await hostile.refused("NormAboveCeiling")
    before = [hostile.refusals(name).count("BadSignature") for name in HONEST]
    update = hostile.work(hostile.payload()).signed.message
    forged = [STRANGER.seal(replace(update, tokens=number), hostile.domain).raw for number in range(60)]
    for _ in range(4):
        await hostile.send(forged)
    await hostile.everything(hostile.work(hostile.payload(scale=1e4)))
    await hostile.refused("NormAboveCeiling", times=2)
    for name, count in zip(HONEST, before, strict=True):
        assert 1 <= hostile.refusals(name).count("BadSignature") - count <= 40, (
            "of 240, also if a head came between"
        )


async def wrong_bytes(hostile: Hostile) -> None:
    own = hostile.work(hostile.payload())
    hostile.store.lies = True
    await hostile.send([own.signed, hostile.reveal(own), await hostile.have(own)])
    observer = hostile.drive.observer
    await hostile.drive.until(
        lambda: all(
            any("sent other bytes" in event["why"] for event in observer.of("fetch-failed", name))
            for name in HONEST
        ),
        "word of wrong bytes",
    )


ROUND_BY_ROUND = [
    garbage_and_no_number,
    anothers_ciphertext,
    a_key_that_does_not_open,
    a_key_never_revealed,
    two_updates,
    far_too_large,
    a_flood,
    wrong_bytes,
]
TWO_UPDATES = 1 + ROUND_BY_ROUND.index(two_updates)
assert len(ROUND_BY_ROUND) == ROUNDS
