"""A replay arrives where the run did, from genesis and published bytes alone, and says what is missing."""

import shutil
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from distrai.protocol.blobs import BlobRef
from distrai.runs.archive import Archive
from distrai.runs.replay import Anchor, Replay, ReplayFailed
from helpers.archives import WHO, FakeArchive, failure, replayed


@pytest.mark.parametrize("rounds", [None, 8])
def test_reproduces_head_and_state_root(published: FakeArchive, rounds):
    done = replayed(published, rounds)
    assert (done.head, done.state_root) == (published.head, published.state_root)
    assert done.rounds == 8
    assert done.updates == sum(map(len, WHO.values()))


def test_tells_every_round_and_its_updates(published: FakeArchive):
    told = []
    Replay(published.public, published.blobs, lambda *round_: told.append(round_)).run(Anchor(published.head))
    assert told == [(number, len(who)) for number, who in sorted(WHO.items())]


def test_its_state_is_the_one_that_the_peers_had(published: FakeArchive):
    assert replayed(published).state == (published.home / "states" / "00000008.bin").read_bytes()


def test_works_the_same_in_another_place(archive: FakeArchive):
    assert replayed(archive).state_root == archive.state_root


def test_works_on_an_archive_that_is_only_read(archive: FakeArchive):
    public = Archive(archive.home)
    done = Replay(public.public, public.blobs, lambda number, updates: None).run(Anchor(archive.head))
    assert done.state_root == archive.state_root


@pytest.mark.parametrize("how", ["deleted", "other bytes"])
def test_never_reads_a_later_state(archive: FakeArchive, how):
    states = archive.home / "states"
    for path in states.iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    if how == "deleted":
        shutil.rmtree(states)
    assert replayed(archive).state_root == archive.state_root


def test_stops_at_the_head_that_is_believed(published: FakeArchive):
    body = published.certificate(4).body
    done = Replay(published.public, published.blobs, lambda *_: None).run(Anchor(body.head))
    assert (done.rounds, done.head, done.state_root) == (4, body.head, body.state_root)


def test_certificates_after_the_head_change_nothing(archive: FakeArchive):
    shutil.copy(archive.public.certificate_path(8), archive.public.certificate_path(9))
    shutil.copy(archive.public.list_path(8), archive.public.list_path(9))
    assert replayed(archive).rounds == replayed(archive, 8).rounds == 8


def test_opens_every_update_once(published: FakeArchive):
    blobs, read = published.blobs, Counter[BlobRef]()

    class Counted(type(blobs)):  # type: ignore[misc]
        def read(self, blob: BlobRef) -> bytes:
            read[blob] += 1
            return super().read(blob)

        def chunks(self, blob: BlobRef) -> Iterator[bytes]:
            read[blob] += 1
            return super().chunks(blob)

    Replay(published.public, Counted(blobs.path), lambda *_: None).run(Anchor(published.head))
    assert sum(read.values()) == sum(map(len, WHO.values())) + 2, "recipe and initial state besides"
    assert set(read.values()) == {1}


def test_leaves_the_number_of_threads_alone(published: FakeArchive):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        replayed(published)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# What is missing


def missing(archive: FakeArchive) -> str:
    wrong = failure(archive)
    assert wrong.rule in ("Missing", "MissingBlob")
    return wrong.culprit


def test_says_that_genesis_is_missing(archive: FakeArchive):
    archive.public.genesis_path.unlink()
    assert missing(archive) == "genesis"


@pytest.mark.parametrize("number", range(1, 9))
def test_says_which_certificate_is_missing(archive: FakeArchive, number):
    archive.public.certificate_path(number).unlink()
    assert missing(archive) == f"certificate of round {number}"


@pytest.mark.parametrize("number", [1, 4, 8])
def test_says_which_certificate_is_missing_where_rounds_are_not_known(archive: FakeArchive, number):
    archive.public.certificate_path(number).unlink()
    with pytest.raises(ReplayFailed) as caught:
        replayed(archive)
    assert caught.value.culprit == f"certificate of round {number}"


def test_says_that_all_certificates_are_missing(archive: FakeArchive):
    shutil.rmtree(archive.public.certificate_path(1).parent)
    assert missing(archive) == "certificate of round 8"


@pytest.mark.parametrize("number", range(1, 9))
def test_says_which_list_is_missing(archive: FakeArchive, number):
    archive.public.list_path(number).unlink()
    assert missing(archive) == f"list of round {number}"


def test_says_that_all_lists_are_missing(archive: FakeArchive):
    shutil.rmtree(archive.public.list_path(1).parent)
    assert missing(archive) == "list of round 1"


def test_says_whose_update_is_missing(archive: FakeArchive):
    for number in (1, 8):
        for update in archive.certified(number).updates:
            path = archive.blob_path(update.blob_hash)
            data = path.read_bytes()
            path.unlink()
            assert missing(archive) == f"update of member {update.member.hex()[:12]} in round {number}"
            path.write_bytes(data)


def test_says_that_the_recipe_is_missing(archive: FakeArchive):
    archive.blob_path(archive.genesis().genesis.recipe_hash).unlink()
    assert missing(archive) == "recipe"


def test_says_that_the_initial_state_is_missing(archive: FakeArchive):
    archive.blob_path(archive.initial_state()).unlink()
    assert missing(archive) == "initial state"


def test_says_what_is_missing_without_any_blob(archive: FakeArchive):
    shutil.rmtree(archive.home / "blobs")
    assert missing(archive) == "recipe"


def test_says_that_a_file_cannot_be_read(archive: FakeArchive):
    path = archive.public.list_path(2)
    path.unlink()
    path.mkdir()
    assert failure(archive).culprit == "list of round 2"
