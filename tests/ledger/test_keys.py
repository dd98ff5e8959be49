"""Keys: what is written, who may read it, and what never shows."""

import json
import multiprocessing
import pickle
import stat
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from distrai.ledger.keys import (
    BadKeystore,
    KeyExists,
    KeyReadableByOthers,
    NodeKey,
    NoSuchKey,
    WrongPassword,
    create_key,
    key_lock,
    load_key,
    read_password,
    save_key,
)
from distrai.ledger.locks import InUse
from distrai.ledger.transactions import Transaction
from distrai.protocol.primitives import Address, Hash
from distrai.protocol.signatures import recover

SECRET = bytes(range(1, 33))


def test_a_key_signs_as_its_address() -> None:
    key, digest = NodeKey.generate(), Hash(b"\x07" * 32)
    signature = key.sign(digest)
    assert len(signature) == 65
    assert recover(digest, signature) == key.address
    assert key.sign(digest) == signature
    assert NodeKey(SECRET).address.hex() == Account.from_key(SECRET).address[2:].lower()


@pytest.mark.parametrize("password", ["", "correct horse"])
def test_a_keystore_opens_with_its_password_only(
    tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distrai.ledger.keys._STANDARD_SCRYPT_N", 1 << 13)
    path = tmp_path / "keys" / "node.json"
    key = create_key(path, password)
    assert load_key(path, password).address == key.address
    with pytest.raises(WrongPassword):
        load_key(path, password + "x")
    with pytest.raises(KeyExists):
        create_key(path, password)
    assert load_key(path, password).address == key.address
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["node.json"]


def test_other_tools_open_our_keystores_and_we_open_theirs(tmp_path: Path) -> None:
    save_key(NodeKey(SECRET), tmp_path / "ours", "pw")
    assert Account.decrypt((tmp_path / "ours").read_text(), "pw") == SECRET
    theirs = tmp_path / "theirs"
    theirs.touch(0o600)
    theirs.write_text(json.dumps(Account.encrypt(SECRET, "pw", iterations=2)))
    assert load_key(theirs, "pw").address == NodeKey(SECRET).address


def test_the_key_is_in_no_text_and_leaves_no_process(tmp_path: Path) -> None:
    key = NodeKey(SECRET)
    save_key(key, tmp_path / "node.json")
    for shown in (repr(key), str(key), f"{key}", (tmp_path / "node.json").read_text()):
        assert SECRET.hex() not in shown
    assert not hasattr(key, "__dict__")
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(key)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": 3}', '{"version": 1, "crypto": {}}', "\x00"])
def test_other_files_are_no_keystores(tmp_path: Path, content: str) -> None:
    path = tmp_path / "node.json"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(BadKeystore):
        load_key(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    create_key(path)
    path.chmod(0o644)
    with pytest.raises(KeyReadableByOthers, match="chmod 600"):
        load_key(path)
    with pytest.raises(NoSuchKey):
        load_key(tmp_path / "none.json")


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret words\r\nsecond line\n")
    assert read_password(path) == "secret words"
    assert read_password(None) == ""


def hold(
    path: Path, held: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event"
) -> None:
    with key_lock(path):
        held.set()
        done.wait(20)


@pytest.mark.processes
def test_one_process_holds_a_key_and_its_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(path, held, done))
    holder.start()
    assert held.wait(20)
    with pytest.raises(InUse, match=f"process \\(number {holder.pid}\\)"):
        key_lock(path).acquire()
    holder.kill()
    holder.join(20)
    with key_lock(path), pytest.raises(InUse):
        key_lock(path).acquire()
    key_lock(path).acquire().release()


@given(
    chain_id=st.integers(1, 1 << 53),
    nonce=st.integers(0, 1 << 40),
    gas=st.integers(21_000, 1 << 30),
    to=st.none() | st.binary(min_size=20, max_size=20),
    data=st.binary(max_size=300),
    fee=st.integers(0, 1 << 60),
    value=st.integers(0, 1 << 90),
)
def test_transactions_are_signed_as_eth_account_signs_them(
    chain_id: int, nonce: int, gas: int, to: bytes | None, data: bytes, fee: int, value: int
) -> None:
    ours = Transaction(chain_id, nonce, gas, None if to is None else Address(to), data, fee, fee // 2, value)
    theirs = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "gas": gas,
        "data": data,
        "maxFeePerGas": fee,
        "maxPriorityFeePerGas": fee // 2,
        "value": value,
    }
    if to is not None:
        theirs["to"] = to
    signed = Account.from_key(SECRET).sign_transaction(theirs)
    assert ours.sign(NodeKey(SECRET)) == (signed.raw_transaction, signed.hash)


def test_a_secret_is_the_same_every_time_and_another_for_every_key_and_purpose() -> None:
    key, other = NodeKey.generate(), NodeKey.generate()
    assert key.secret("sealing") == key.secret("sealing") and len(key.secret("sealing")) == 32
    assert len({key.secret("sealing"), key.secret("else"), other.secret("sealing")}) == 3
