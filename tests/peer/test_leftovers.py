"""What nobody lists does not stay on disk, and what a reorg lists after all does."""

from pathlib import Path

from distrai.network.store import BlobStore
from distrai.peer.leftovers import Leftovers
from distrai.protocol.blobs import BlobRef


def test_leftovers_are_deleted_once_they_are_old_unless_they_were_listed_meanwhile(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    unlisted, relisted, young = (blobs.put(bytes([number]) * 100) for number in range(3))
    left = Leftovers(tmp_path / "left", blobs)
    left.put(3, [unlisted])
    left.put(3, [relisted])  # the same round again, after a reorg
    left.put(4, [young])
    left.prune(2, frozenset)
    assert blobs.has(unlisted)
    left.prune(3, lambda: frozenset({relisted.hash}))
    assert not blobs.has(unlisted) and blobs.has(relisted) and blobs.has(young)
    assert [path.stem for path in left.folder.iterdir()] == ["00000004"]


def test_an_update_that_names_a_blob_of_another_size_deletes_nothing(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    recipe = blobs.put(b"recipe")
    left = Leftovers(tmp_path / "left", blobs)
    left.put(1, [BlobRef(recipe.hash, 4096)])  # an author says so
    left.prune(1, frozenset)
    assert blobs.has(recipe)


def test_a_note_that_a_crash_cut_off_costs_nothing(tmp_path: Path) -> None:
    left = Leftovers(tmp_path, BlobStore(tmp_path / "blobs"))
    blob = left.blobs.put(b"data")
    (tmp_path / "00000001.msgpack").write_bytes(b"\x91\x92")
    left.prune(1, frozenset)
    assert left.blobs.has(blob) and not list(tmp_path.glob("*.msgpack"))
