"""Published bytes that were changed with care, so that everything around them fits: the replay is not taken in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from distrai.algorithms.algorithm import Algorithm
from distrai.peer.records import CertificateRecord
from distrai.protocol.body import Body, Promotion
from distrai.protocol.canonical import canonical_json, decode_canonical_json
from distrai.protocol.cipher import binding, key_hash, seal
from distrai.protocol.lists import CertifiedList, Entry, Trainer, root_of_trainers
from distrai.protocol.messages import open_envelope
from distrai.protocol.primitives import Address
from distrai.protocol.signatures import recover
from helpers.archives import WHO, ArchiveMaker, FakeArchive, attested, failure, replayed
from helpers.messages import DOMAIN, Author
from helpers.rounds import authors

SEATS = authors(4)
STRANGERS = [Author(number) for number in range(20, 24)]


def another_update(archive: FakeArchive, number: int) -> CertifiedList:
    """The list of a round with its first update replaced by other work of the same author, who helps."""
    certified = archive.certified(number)
    old, author = certified.updates[0], SEATS[WHO[number][0]]
    data = archive.read(old.blob_hash)
    bound, key = binding(old.run, old.round, old.previous_head, old.member), bytes(32)
    blob = archive.blobs.put(seal(data[:-16], key, bound))
    update = replace(old, blob_hash=blob.hash, key_hash=key_hash(key, bound))
    return with_first(certified, Entry(author.seal(update).raw, key))


def with_first(certified: CertifiedList, entry: Entry) -> CertifiedList:
    return replace(certified, entries=(entry, *certified.entries[1:]))


def recertify(archive: FakeArchive, number: int, by: list[Author], **changes: object) -> None:
    """Change the body of a round's certificate, and have it signed."""
    body = replace(archive.certificate(number).body, **changes)
    archive.write_certificate(number, CertificateRecord(body, attested(body, by)))


# The files around a changed one are made to match


def test_a_list_with_another_update(archive: FakeArchive):
    archive.write_list(2, another_update(archive, 2))
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("list of round 2", "WrongUpdatesRoot")


@pytest.mark.parametrize("number", [2, 8])
def test_a_list_and_its_certificate_with_another_update(archive: FakeArchive, number):
    certified = another_update(archive, number)
    archive.write_list(number, certified)
    record = archive.certificate(number)
    body = replace(record.body, updates_root=certified.updates_root)
    archive.write_certificate(number, CertificateRecord(body, record.signatures))
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == (f"certificate of round {number}", "WrongHead")


@pytest.mark.parametrize("number", [2, 8])
def test_the_seats_sign_another_certificate_afterwards(archive: FakeArchive, number):
    certified = another_update(archive, number)
    archive.write_list(number, certified)
    recertify(archive, number, SEATS[:3], updates_root=certified.updates_root)
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == (f"certificate of round {number}", "WrongHead")


def test_a_key_its_list_and_its_certificate(archive: FakeArchive):
    certified = archive.certified(2)
    changed = with_first(certified, replace(certified.entries[0], key=bytes(32)))
    archive.write_list(2, changed)
    recertify(archive, 2, SEATS[:3], updates_root=changed.updates_root)
    assert failure(archive).culprit == "certificate of round 2"


def test_changed_bytes_under_the_old_name(archive: FakeArchive):
    update = archive.certified(2).updates[0]
    path = archive.blob_path(update.blob_hash)
    path.write_bytes(path.read_bytes()[::-1])
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == (
        f"update of member {update.member.hex()[:12]} in round 2",
        "WrongBlob",
    )


def test_changed_bytes_under_their_own_name(archive: FakeArchive):
    update = archive.certified(2).updates[0]
    path = archive.blob_path(update.blob_hash)
    archive.blobs.put(path.read_bytes()[::-1])
    path.unlink()
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == (
        f"update of member {update.member.hex()[:12]} in round 2",
        "MissingBlob",
    )


def test_another_signature_by_a_stranger_under_an_update(archive: FakeArchive):
    """An update's signature is in no hash: whoever changes it must still be found out."""
    certified = archive.certified(2)
    update = open_envelope(certified.entries[0].update, DOMAIN, recover).message
    forged = Entry(STRANGERS[0].seal(update).raw, certified.entries[0].key)
    archive.write_list(2, with_first(certified, forged))
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("list of round 2", "BadSignature")


def test_seats_of_strangers_in_genesis_with_their_certificate(archive: FakeArchive):
    record = archive.genesis()
    seats = tuple(
        replace(seat, key=other.address) for seat, other in zip(record.seats, STRANGERS, strict=True)
    )
    archive.write_genesis(replace(record, seats=seats))
    recertify(archive, 1, STRANGERS)
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("genesis", "WrongHead")


def test_a_certificate_signed_by_strangers(archive: FakeArchive):
    recertify(archive, 2, STRANGERS)
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("certificate of round 2", "NotASeat")


def test_another_recipe_and_a_genesis_that_names_it(archive: FakeArchive):
    record = archive.genesis()
    recipe = decode_canonical_json(archive.read(record.genesis.recipe_hash))
    recipe["limits"]["norm_ceiling"] = 49.0
    blob = archive.blobs.put(canonical_json(recipe))
    archive.write_genesis(replace(record, genesis=replace(record.genesis, recipe_hash=blob.hash)))
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("genesis", "WrongHead")


def test_another_recipe_under_the_old_name(archive: FakeArchive):
    path = archive.blob_path(archive.genesis().genesis.recipe_hash)
    recipe = decode_canonical_json(path.read_bytes())
    recipe["limits"]["norm_ceiling"] = 49.0
    path.write_bytes(canonical_json(recipe))
    assert failure(archive).culprit == "recipe"


def test_another_run_altogether(archive: FakeArchive, conspiracy: ArchiveMaker):
    """Everything fits together, but not what the ledger says."""
    for number in sorted(WHO):
        conspiracy.round(WHO[number][::-1])
    other = conspiracy.archive()
    believed = FakeArchive(other.home, archive.head, archive.state_root, 8)
    wrong = failure(believed)
    assert (wrong.culprit, wrong.rule) == ("certificate of round 8", "WrongHead")


def test_a_shorter_chain_to_another_place(archive: FakeArchive):
    for number in (7, 8):
        archive.public.certificate_path(number).unlink()
    assert failure(archive, 6).culprit == "certificate of round 6"


def test_rounds_in_another_order(archive: FakeArchive):
    second, fourth = (archive.public.certificate_path(number) for number in (2, 4))
    one, other = second.read_bytes(), fourth.read_bytes()
    second.write_bytes(other)
    fourth.write_bytes(one)
    assert failure(archive).culprit == "certificate of round 4"


# Signatures beside a body that is right


@pytest.mark.parametrize(
    ("by", "rule"),
    [
        ([], "NotEnoughSignatures"),
        (SEATS[:1], "NotEnoughSignatures"),
        ([SEATS[0], SEATS[0], SEATS[1]], "RepeatedSigner"),
        ([*SEATS[:2], STRANGERS[0]], "NotASeat"),
        ([SEATS[0], SEATS[1], SEATS[3]], "NotASeat"),  # had a seat once, and was dropped
    ],
)
def test_signatures_that_are_no_certificate(archive: FakeArchive, by, rule):
    recertify(archive, 8, by)
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("certificate of round 8", rule)


def test_signatures_in_another_order(archive: FakeArchive):
    record = archive.certificate(8)
    archive.write_certificate(8, replace(record, signatures=record.signatures[::-1]))
    assert failure(archive).rule == "BadSignature"


# What two thirds of the seats could get past the ledger


def judged(run: ArchiveMaker) -> tuple[str, str]:
    wrong = failure(run.archive())
    return wrong.culprit, wrong.rule


def first_author() -> str:
    return f"update of member {SEATS[0].member.hex()[:12]} in round 2"


def test_honest_rounds_of_the_same_maker_replay(conspiracy: ArchiveMaker):
    conspiracy.round((0, 1, 2, 3))
    conspiracy.round((0, 1, 2))
    assert replayed(conspiracy.archive()).state_root == conspiracy.standing.state_root


def test_a_state_that_the_updates_do_not_give(conspiracy: ArchiveMaker):
    conspiracy.round((0, 1, 2, 3))
    conspiracy.round((0, 1, 2, 3), {"state_root": bytes(32)})
    assert judged(conspiracy) == ("state of round 2", "WrongStateRoot")


def test_an_empty_round_that_changes_the_state(conspiracy: ArchiveMaker):
    conspiracy.round((0, 1, 2, 3))
    conspiracy.round((), {"state_root": bytes(32)})
    assert judged(conspiracy) == ("certificate of round 2", "WrongStateRoot")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"inner_steps": 5, "tokens": 5 * 64}, "TooManySteps"),
        ({"inner_steps": 0, "tokens": 0}, "TooManySteps"),
        ({"tokens": 5 * 64}, "WrongTokenCount"),
        ({"base_round": 0}, "WrongBase"),
        ({"codec": "fp32/1"}, "WrongCodec"),
        ({"fragment": 1}, "WrongFragment"),
        ({"version": 2}, "MalformedMessage"),
        ({"blob_size": 5}, "WrongBlobSize"),
        ({"round": 3}, "WrongRound"),
        ({"run": 8}, "ForeignRun"),
        ({"previous_head": bytes(32)}, "ForeignHead"),
        ({"key_hash": bytes(32)}, "WrongKey"),
        ({"blob_hash": bytes(32)}, "MissingBlob"),
    ],
)
def test_an_update_that_breaks_a_rule(conspiracy: ArchiveMaker, changes, rule):
    conspiracy.round((0, 1, 2, 3))
    conspiracy.round((0, 1, 2, 3), update_changes=changes)
    assert judged(conspiracy) == (first_author(), rule)


def payload_of(run: ArchiveMaker, spoil: Callable[[bytearray], None]) -> bytes:
    """The payload of nobody's update, spoiled."""
    algorithm = Algorithm(run.plan.spec, run.plan.layout)
    zeros = tuple(torch.zeros_like(each) for each in run.state.params)
    data = bytearray(algorithm.encode(zeros, run.state.moments).payload)
    spoil(data)
    return bytes(data)


def not_a_number(data: bytearray) -> None:
    data[:4] = b"\x00\x00\xc0\x7f"


def far_too_large(data: bytearray) -> None:
    data[:1024] = b"\x00\x00\x00\x7e" * 256


@pytest.mark.parametrize(
    ("spoil", "rules"),
    [
        (not_a_number, {"NonFinitePayload"}),
        (far_too_large, {"NormAboveCeiling"}),
        (lambda data: data.pop(), {"WrongBlobSize"}),
    ],
)
def test_a_payload_that_breaks_a_rule(conspiracy: ArchiveMaker, spoil, rules):
    conspiracy.round((0, 1, 2, 3))
    conspiracy.round((0, 1, 2, 3), payload=payload_of(conspiracy, spoil))
    culprit, rule = judged(conspiracy)
    assert culprit == first_author()
    assert rule in rules


@pytest.mark.parametrize("what", ["drop", "promotion"])
def test_a_change_of_seats_that_is_not_due(conspiracy: ArchiveMaker, what):
    changes = {
        "drop": {"drops": (SEATS[3].member,)},
        "promotion": {"promotions": (Promotion(STRANGERS[0].member, STRANGERS[0].address),)},
    }
    conspiracy.round((0, 1, 2, 3), changes[what])
    assert judged(conspiracy) == ("certificate of round 1", "WrongMembershipChange")


def test_a_cursor_that_skips_data(conspiracy: ArchiveMaker):
    trainers = conspiracy.standing.next_trainers
    conspiracy.round(
        (0, 1, 2, 3), {"trainers_root": root_of_trainers(7, trainers)}, list_changes={"cursor": 7}
    )
    assert judged(conspiracy) == ("certificate of round 1", "WrongTrainersRoot")


def test_a_trainer_that_the_list_does_not_know(conspiracy: ArchiveMaker):
    """Round 1 makes a stranger a trainer, with everybody's signature: from then on its updates count, and replay."""
    stranger = Trainer(STRANGERS[0].member, STRANGERS[0].address)
    trainers = tuple(sorted((*conspiracy.standing.next_trainers, stranger)))
    cursor = conspiracy.plan.rules.run.block_samples * 4
    changes = {"trainers_root": root_of_trainers(cursor, trainers)}
    conspiracy.round((0, 1, 2, 3), changes)
    assert judged(conspiracy) == ("list of round 1", "WrongTrainersRoot")


def test_an_update_of_a_stranger(conspiracy: ArchiveMaker):
    conspiracy.people.append(STRANGERS[0])
    conspiracy.round((0, 1, 2, 4))
    assert judged(conspiracy) == ("list of round 1", "BadSignature")


# Fields of impossible sizes


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe_hash": b"short"},
        {"registry": Address(b"")},
        {"chain_id": -1},
        {"parent_round": -1},
    ],
)
def test_genesis_of_impossible_sizes(archive: FakeArchive, changes):
    record = archive.genesis()
    archive.write_genesis(replace(record, genesis=replace(record.genesis, **changes)))
    assert failure(archive).culprit == "genesis"


def test_genesis_without_seats(archive: FakeArchive):
    archive.write_genesis(replace(archive.genesis(), seats=()))
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("genesis", "MalformedMessage")


@pytest.mark.parametrize("changes", [{"round": 0}, {"state_root": b""}, {"drops": (b"x",)}, {"run": -1}])
def test_a_body_of_impossible_sizes(archive: FakeArchive, changes):
    body: Body = replace(archive.certificate(8).body, **changes)
    archive.write_certificate(8, CertificateRecord(body, ()))
    wrong = failure(archive)
    assert (wrong.culprit, wrong.rule) == ("certificate of round 8", "MalformedMessage")


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x94" * 100_000, b"{}", bytes(1 << 20)])
@pytest.mark.parametrize("what", ["genesis", "certificate of round 3", "list of round 3"])
def test_files_of_nonsense(archive: FakeArchive, what, data):
    paths: dict[str, Path] = {
        "genesis": archive.public.genesis_path,
        "certificate of round 3": archive.public.certificate_path(3),
        "list of round 3": archive.public.list_path(3),
    }
    paths[what].write_bytes(data)
    assert failure(archive).culprit == what
