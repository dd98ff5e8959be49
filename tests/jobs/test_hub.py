"""Pushing to a hub with the real client, against a hub on loopback that checks what it is asked."""

from pathlib import Path

import pytest

from distrai.jobs.hub.errors import BadRepository, HubFailed, HubUnreachable, RepositoryChanged
from distrai.jobs.hub.pull import pull_model
from distrai.jobs.hub.push import (
    RepositoryIsPublic,
)
from distrai.jobs.hub.token import (
    BadToken,
    TokenMayNot,
)
from distrai.jobs.models.contents import PickleRefused, SecretRefused
from distrai.jobs.models.manifest import MANIFEST, Manifest
from distrai.jobs.models.store import DamagedModel, ModelStore, Saved
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NAME, NOT_OURS, REPO, given, push

pytestmark = pytest.mark.filterwarnings(NOT_OURS)


def test_a_pushed_model_is_private_and_whole_and_comes_back_as_the_same(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    token = hub.token("alice")
    done = push(store, saved, token)
    repo = hub.repos["model", REPO]
    assert repo.private and done.private and done.commit == repo.head and done.others == ()
    for path, entry in saved.manifest.files.items():
        assert repo.files[path].sha256 == entry.sha256
    assert Manifest.of_bytes(repo.files[MANIFEST].content) == saved.manifest
    assert len(repo.commits) == 2  # the one that made it, and one with everything
    assert "may write everywhere" in done.note and token not in done.note
    pulled = pull_model(store, REPO, given(token), expected=saved.manifest.hash)
    assert pulled.sealed and pulled.saved.manifest == saved.manifest and pulled.left == ()
    assert pulled.saved.name == f"hub/alice--tiny--{done.commit[:8]}" and store.verify(pulled.saved).ok
    assert pull_model(store, REPO, given(token)) == pulled  # again: nothing new
    assert not list(Path(store.place.root).glob(".pull-*"))


def test_pushing_again_adds_no_commit(hub: FakeHub, store: ModelStore, saved: Saved) -> None:
    token = hub.token("alice")
    first = push(store, saved, token)
    assert push(store, saved, token).commit == first.commit
    assert len(hub.repos["model", REPO].commits) == 2


def test_a_public_repository_needs_saying_so(hub: FakeHub, store: ModelStore, saved: Saved) -> None:
    token = hub.token("alice")
    hub.create(REPO)
    with pytest.raises(RepositoryIsPublic, match="--public"):
        push(store, saved, token)
    assert len(hub.repos["model", REPO].commits) == 1
    assert not push(store, saved, token, public=True).private
    push(store, saved, token, "alice/new", public=True)
    assert not hub.repos["model", "alice/new"].private


@pytest.mark.parametrize(
    ("make", "repo", "error", "words"),
    [
        (lambda hub: "hf_" + "x" * 34, REPO, BadToken, "does not know the token of a test"),
        (lambda hub: hub.token("alice", "read"), REPO, TokenMayNot, "may only read"),
        (lambda hub: hub.token("alice"), "bob/tiny", TokenMayNot, "check the name"),
        (lambda hub: hub.one_repository("alice", "alice/other"), REPO, TokenMayNot, "model:alice/other"),
        (
            lambda hub: hub.one_repository("alice", "alice/gone"),
            "alice/gone",
            TokenMayNot,
            "make it in the browser",
        ),
        (lambda hub: hub.token("alice"), "alice", BadRepository, "OWNER/NAME"),
        (lambda hub: hub.token("alice"), "alice/a/b", BadRepository, "OWNER/NAME"),
    ],
)
def test_a_wrong_token_or_repository_is_one_sentence_and_pushes_nothing(
    hub: FakeHub, store: ModelStore, saved: Saved, make, repo: str, error: type[Exception], words: str
) -> None:
    token = make(hub)
    with pytest.raises(error) as refused:
        push(store, saved, token, repo)
    said = str(refused.value)
    assert words in said and token not in said and "\n" not in said
    assert all(len(repo.commits) == 1 for repo in hub.repos.values()) and store.verify(saved).ok


@pytest.mark.parametrize(
    ("method", "part", "status", "error"),
    [
        ("GET", "whoami", 503, HubFailed),
        ("POST", "preupload", 500, HubFailed),
        ("POST", "commit", 429, HubFailed),
        ("POST", "commit", 412, RepositoryChanged),
        ("PUT", "/large/", 403, TokenMayNot),
    ],
)
def test_a_hub_that_fails_halfway_has_all_or_nothing_and_the_next_try_works(
    hub: FakeHub, store: ModelStore, saved: Saved, method: str, part: str, status: int, error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    token = hub.token("alice")
    hub.create(REPO, private=True)
    for _ in range(6 if part == "preupload" else 1):
        hub.fail(method, part, status)
    with pytest.raises(error) as refused:
        push(store, saved, token)
    assert token not in str(refused.value)
    assert list(hub.repos["model", REPO].files) == [".gitattributes"] and store.verify(saved).ok
    hub._failures.clear()
    push(store, saved, token)


def test_a_repository_that_was_made_for_a_push_that_failed_is_told_and_taken_next_time(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    token = hub.token("alice")
    hub.fail("POST", "commit", 403)
    with pytest.raises(TokenMayNot, match="alice/tiny, which was made for it, is there and empty"):
        push(store, saved, token)
    assert list(hub.repos["model", REPO].files) == [".gitattributes"]
    hub.fail("POST", "commit", 403)
    with pytest.raises(TokenMayNot) as again:
        push(store, saved, token)
    assert "made for it" not in str(again.value)
    assert push(store, saved, token).private


def test_what_somebody_else_writes_at_the_same_time_is_not_lost(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    token = hub.token("alice")
    hub.meanwhile = lambda: hub.put(REPO, {"config.json": b"theirs"})
    with pytest.raises(RepositoryChanged, match="push again"):
        push(store, saved, token)
    assert hub.repos["model", REPO].files["config.json"].content == b"theirs"
    push(store, saved, token)


def test_no_hub_is_one_sentence(
    hub: FakeHub, store: ModelStore, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"127\.0\.0\.1:9 does not answer"):
        push(store, saved, hub.token("alice"))
    with pytest.raises(HubUnreachable):
        pull_model(store, REPO)


def test_nothing_damaged_pickled_or_secret_is_pushed(hub: FakeHub, store: ModelStore, saved: Saved) -> None:
    token = hub.token("alice")
    root = Path(store.place.path(NAME))
    config = (root / "config.json").read_bytes()
    (root / "config.json").write_text("{}")
    with pytest.raises(DamagedModel, match=r"config\.json was changed"):
        push(store, saved, token)
    (root / "config.json").write_bytes(config)
    (root / "weights.bin").write_bytes(b"\x80\x04")
    assert push(store, saved, token).commit  # a file beside the model is not the model's
    assert "weights.bin" not in hub.repos["model", REPO].files
    for name, content, error in (("x.bin", b"1", PickleRefused), ("x.txt", token.encode(), SecretRefused)):
        entry = type(saved.manifest.files["config.json"])
        digest = __import__("hashlib").sha256(content).hexdigest()
        forged = Manifest({**saved.manifest.files, name: entry(len(content), digest)}, saved.manifest.origin)
        (root / name).write_bytes(content)
        with pytest.raises(error):
            push(store, Saved(NAME, saved.location, forged), token, "alice/never")
    assert ("model", "alice/never") not in hub.repos


def test_what_lies_beside_the_model_in_a_repository_is_told(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    token = hub.token("alice")
    hub.put(REPO, {"pytorch_model.bin": b"old", "notes.txt": b"mine"}, private=True)
    assert push(store, saved, token).others == ("notes.txt", "pytorch_model.bin")
    assert "notes.txt" in hub.repos["model", REPO].files
    assert pull_model(store, REPO, given(token)).left == ("notes.txt", "pytorch_model.bin")


def test_a_repository_that_does_not_keep_what_was_sent_is_noticed(
    hub: FakeHub, store: ModelStore, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = hub.token("alice")
    kept = type(hub.create("alice/x")).commit

    def forgetful(repo, files):
        return kept(repo, {path: blob for path, blob in files.items() if path != "config.json"})

    monkeypatch.setattr("helpers.fake_hub.Repo.commit", forgetful)
    with pytest.raises(HubFailed, match=r"does not have config\.json"):
        push(store, saved, token)
