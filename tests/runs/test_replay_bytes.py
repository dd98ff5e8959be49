"""One byte of anything that is published changed: the replay says which thing it was."""

import pytest

from helpers.archives import WHO, FakeArchive, failure, flipped

ROUNDS = sorted(WHO)


def test_every_byte_of_genesis(spoiled: FakeArchive):
    path = spoiled.public.genesis_path
    for at in range(0, path.stat().st_size, 3):
        with flipped(path, at):
            assert failure(spoiled).culprit == "genesis", at


@pytest.mark.parametrize("number", ROUNDS)
def test_every_byte_of_a_certificates_body(spoiled: FakeArchive, number):
    path = spoiled.public.certificate_path(number)
    first_signature = path.read_bytes().index(spoiled.certificate(number).signatures[0])
    end = first_signature - 3  # what is between: the heads of an array and of the first signature
    for at in range(0, end, 1 if number == 1 else 17):
        with flipped(path, at):
            assert failure(spoiled).culprit == f"certificate of round {number}", at


@pytest.mark.parametrize("number", ROUNDS)
def test_every_signature_of_a_certificate(spoiled: FakeArchive, number):
    path = spoiled.public.certificate_path(number)
    data = path.read_bytes()
    for signature in spoiled.certificate(number).signatures:
        with flipped(path, data.index(signature) + (0, 40, 64)[number % 3]):
            wrong = failure(spoiled)
        assert wrong.culprit == f"certificate of round {number}"
        assert wrong.rule in ("NotASeat", "BadSignature", "RepeatedSigner")


def test_every_update(spoiled: FakeArchive):
    for number in ROUNDS:
        for update in spoiled.certified(number).updates:
            with flipped(spoiled.blob_path(update.blob_hash), update.blob_size // 2):
                wrong = failure(spoiled)
            assert wrong.culprit == f"update of member {update.member.hex()[:12]} in round {number}"
            assert wrong.rule == "WrongBlob"


@pytest.mark.parametrize("at", [0, -1])
def test_the_ends_of_an_update(spoiled: FakeArchive, at):
    update = spoiled.certified(2).updates[1]
    with flipped(spoiled.blob_path(update.blob_hash), at % update.blob_size):
        assert failure(spoiled).culprit == f"update of member {update.member.hex()[:12]} in round 2"


@pytest.mark.parametrize("number", ROUNDS)
def test_every_key(spoiled: FakeArchive, number):
    path = spoiled.public.list_path(number)
    data = path.read_bytes()
    for entry in spoiled.certified(number).entries:
        with flipped(path, data.index(entry.key)):
            wrong = failure(spoiled)
        assert (wrong.culprit, wrong.rule) == (f"list of round {number}", "WrongUpdatesRoot")


@pytest.mark.parametrize(("number", "step"), [(1, 13), (3, 11)])
def test_every_region_of_a_list(spoiled: FakeArchive, number, step):
    """A full list, and that of an empty round: cursor, trainers and their keys, updates, signatures, lengths."""
    path = spoiled.public.list_path(number)
    for at in range(0, path.stat().st_size, step):
        with flipped(path, at):
            assert failure(spoiled).culprit == f"list of round {number}", at


def test_the_recipe(spoiled: FakeArchive):
    path = spoiled.blob_path(spoiled.genesis().genesis.recipe_hash)
    for at in range(0, path.stat().st_size, 300):
        with flipped(path, at):
            assert failure(spoiled).culprit == "recipe"


def test_the_initial_state(spoiled: FakeArchive):
    path = spoiled.blob_path(spoiled.initial_state())
    size = path.stat().st_size
    for at in (0, size // 2, size - 1):
        with flipped(path, at):
            assert failure(spoiled).culprit == "initial state"
