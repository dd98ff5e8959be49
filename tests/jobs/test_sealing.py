"""Encrypted models: what the owner opens is what was saved, and every change to a single bit is found."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.cli.main import main
from distrai.jobs.models.manifest import MANIFEST, Manifest, Origin
from distrai.jobs.models.saving import ModelExists, save_model
from distrai.jobs.models.sealed import NotSealed, decrypt_model, save_sealed, sealed_copy
from distrai.jobs.models.sealing import BLOCK, WrongKey, seal, unseal
from distrai.jobs.models.store import DamagedModel, ModelStore, Saved, expect
from distrai.jobs.records.ledgers import OwnLedger
from distrai.ledger.keys import NodeKey

KEY = NodeKey(bytes(range(1, 33)))
ADDRESS = "0x" + KEY.address.hex()
ORIGIN = Origin(kind="sft", base_model="secret-base", address=ADDRESS, job="first", record=7)


def sealed(content: bytes, name: str = "a.json") -> bytes:
    out = io.BytesIO()
    seal(io.BytesIO(content), out, KEY.public_key, name)
    return out.getvalue()


def opened(content: bytes, key: NodeKey = KEY, name: str = "a.json", size_max: int = 1 << 30) -> bytes:
    out = io.BytesIO()
    unseal(io.BytesIO(content), out, key, name, size_max)
    return out.getvalue()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_what_was_sealed_is_opened_whatever_its_size(size: int) -> None:
    content = os.urandom(size)
    there = sealed(content)
    assert opened(there) == content
    assert there != sealed(content), "each time with another key"
    assert len(there) == 16 + 33 + size + 16 * max(1, -(-size // BLOCK))
    if size:
        with pytest.raises(WrongKey, match="longer than it may be"):
            opened(there, size_max=size - 1)


@given(place=st.integers(0, 16 + 33 + 300 + 16 - 1), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(place: int, bit: int) -> None:
    changed = bytearray(sealed(b"x" * 300))
    changed[place] ^= 1 << bit
    with pytest.raises(WrongKey):
        opened(bytes(changed))


def test_blocks_cannot_be_cut_moved_repeated_or_put_under_another_name() -> None:
    there, size = sealed(os.urandom(3 * BLOCK)), BLOCK + 16
    head, blocks = there[:49], [there[49 + i * size : 49 + (i + 1) * size] for i in range(3)]
    wrong: list[list[bytes]] = [
        blocks[:2],
        blocks[:1],
        [],
        [blocks[1], blocks[0], blocks[2]],
        [*blocks, blocks[2]],
    ]
    for order in wrong:
        with pytest.raises(WrongKey):
            opened(head + b"".join(order))
    for key, name in ((NodeKey.generate(), "a.json"), (KEY, "b.json")):
        with pytest.raises(WrongKey):
            opened(there, key, name)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(3000))
    (folder / "sub" / "config.json").write_text('{"a": 1}')
    return folder


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    return ModelStore.at(
        str(tmp_path / "models") if request.param == "folder" else f"memory://{tmp_path.name}"
    )


def test_an_encrypted_model_shows_nothing_and_opens_whole_for_its_owner(
    store: ModelStore, made: Path
) -> None:
    saved = save_sealed(
        store, made, f"{ADDRESS}/first", ORIGIN, KEY, {"README.md": b"# card of secret-base\n"}
    )
    assert sorted(saved.manifest.files) == [
        "README.md", "README.md.sealed", "distrai.json.sealed", "model.safetensors.sealed", "sub/config.json.sealed",
    ]  # fmt: skip
    assert store.verify(saved).ok
    weights = (made / "model.safetensors").read_bytes()
    for path in saved.manifest.files:
        content = store.place.fs.cat_file(f"{store.place.path(saved.name)}/{path}")
        assert weights[:64] not in content and b"secret-base" not in content
    assert b"secret-base" not in saved.manifest.to_bytes()
    assert (
        save_sealed(store, made, f"{ADDRESS}/first", ORIGIN, KEY, {"README.md": b"# card of secret-base\n"})
        == saved
    )
    with pytest.raises(ModelExists):
        save_sealed(store, made, f"{ADDRESS}/first", ORIGIN, KEY)
    plain = decrypt_model(store, saved, KEY)
    assert plain.manifest.hash == saved.manifest.origin.sealed and plain.manifest.origin == ORIGIN
    assert store.verify(plain).ok
    expect(saved, plain.manifest.hash)  # the record has the one hash for both


def test_only_its_owner_opens_a_model_and_nothing_stays_of_a_try(
    store: ModelStore, made: Path, tmp_path: Path
) -> None:
    saved = save_sealed(store, made, f"{ADDRESS}/first", ORIGIN, KEY)
    other = NodeKey.generate()
    with pytest.raises(WrongKey, match=f"it is encrypted to {ADDRESS}; name that wallet"):
        decrypt_model(store, saved, other, tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(store.all()) == 1
    with pytest.raises(NotSealed):
        decrypt_model(store, save_model(store, made, "hub/plain", ORIGIN), KEY)


def test_another_model_cannot_be_put_within(store: ModelStore, made: Path, tmp_path: Path) -> None:
    """Anyone may encrypt to a public key: what is within must be what the manifest outside says."""
    good = save_sealed(store, made, f"{ADDRESS}/first", ORIGIN, KEY)
    (made / "sub" / "config.json").write_text('{"a": 2}')
    bad = save_sealed(store, made, f"{ADDRESS}/second", ORIGIN, KEY)
    told = json.loads(bad.manifest.to_bytes())
    told["origin"]["sealed"] = good.manifest.origin.sealed
    forged = Manifest.of_bytes((json.dumps(told, indent=2, sort_keys=True) + "\n").encode())
    store.place.fs.pipe_file(f"{store.place.path(bad.name)}/{MANIFEST}", forged.to_bytes())
    with pytest.raises(DamagedModel, match="put together by somebody else"):
        decrypt_model(store, Saved(bad.name, bad.location, forged), KEY, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_copy_is_made_once(store: ModelStore, made: Path) -> None:
    saved = save_model(store, made, f"{ADDRESS}/first", ORIGIN)
    copy = sealed_copy(store, saved, KEY)
    assert copy.name == f"{ADDRESS}/first-sealed" and copy.manifest.origin.sealed == saved.manifest.hash
    assert sealed_copy(store, saved, KEY) == copy == sealed_copy(store, copy, KEY)


def test_decrypting_by_command(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DISTRAI_MODELS", str(tmp_path / "models"))
    key = OwnLedger().signer()
    address = "0x" + key.address.hex()
    saved = save_sealed(ModelStore.at(), made, f"{address}/first", Origin(address=address), key)

    def say(*arguments: Any) -> tuple[int, str, str]:
        code = main(["models", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    assert "encrypted to " + address in say("list")[1]
    code, out, _ = say("verify", "first")
    assert code == 0 and f"encrypted to {address}" in out
    code, _, err = say("generate", "first", "Hello")
    assert code == 2 and "distrai models decrypt" in err
    code, out, _ = say("decrypt", "first")
    assert code == 0 and saved.manifest.origin.sealed in out and say("verify", "first-open")[0] == 0
    assert say("decrypt", "first", "--out", tmp_path / "new")[0] == 0
    assert (tmp_path / "new" / "sub" / "config.json").read_text() == '{"a": 1}'
    assert say("verify", tmp_path / "new")[0] == 0
    code, _, err = say("decrypt", "first", "--out", tmp_path / "new")
    assert code == 2 and "give --out a folder that is new" in err
    code, _, err = say("decrypt", "first-open")
    assert code == 2 and "is not encrypted" in err
