"""Tokens of a hub: where they come from, what they may do, and where they may be."""

from pathlib import Path

import pytest

from distrai.jobs.hub.errors import BadRepository
from distrai.jobs.hub.pull import pull_model
from distrai.jobs.hub.push import (
    UnsafeEndpoint,
    check_for_rented,
    check_repo,
    open_api,
)
from distrai.jobs.hub.token import (
    BadToken,
    NoToken,
    TokenInArguments,
    TokenTooWide,
    find_token,
    is_rented,
    need_token,
    read_scope,
    refuse_token,
)
from distrai.jobs.models.store import ModelStore, Saved
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NOT_OURS, REPO, given, push

pytestmark = pytest.mark.filterwarnings(NOT_OURS)


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "kept"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(NoToken, match="--token-file"):
        need_token()
    (tmp_path / "kept").write_text("hf_kept")
    (tmp_path / "file").write_text("hf_file and more\n")
    assert find_token().value == "hf_kept"
    assert find_token(None, {"HF_TOKEN": " hf_set\n"}).value == "hf_set"
    assert find_token(tmp_path / "file", {"HF_TOKEN": "hf_set"}).value == "hf_file"
    assert "hf_" not in repr(find_token()) and "hf_" not in f"{find_token()}"
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for bad, error in (("empty", BadToken), ("binary", BadToken), ("nowhere", NoToken)):
        with pytest.raises(error):
            find_token(tmp_path / bad)
    with pytest.raises(TokenInArguments) as refused:
        refuse_token("models", "hf_" + "q" * 34)
    assert "qqq" not in str(refused.value)
    assert is_rented({"DISTRAI_RENTED": "1"}) and not is_rented({}) and not is_rented({"DISTRAI_RENTED": "0"})


def test_what_is_not_understood_of_a_token_counts_as_everything() -> None:
    fine = {"type": "access_token", "accessToken": {"role": "fineGrained", "fineGrained": {"scoped": [{}]}}}
    for auth in ({}, {"accessToken": {"role": "new"}}, {"accessToken": {"role": "fineGrained"}}, None, fine):
        scope = read_scope({"name": "a", "auth": auth})
        assert not scope.is_only(REPO) and scope.writes


def test_a_rented_machine_pulls_only_with_a_token_that_can_harm_nothing_else(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    push(store, saved, hub.token("alice"))
    with pytest.raises(TokenTooWide, match="on your own machine"):
        pull_model(store, REPO, given(hub.token("alice")), rented=True)
    for token in (hub.token("alice", "read"), hub.one_repository("alice", REPO)):
        assert pull_model(store, REPO, given(token), rented=True).sealed


def test_names_of_repositories() -> None:
    check_repo("alice/tiny-1.0_b")
    for bad in ("", "a", "a/b/c", "a/../b", "-a/b", "a/b.git", "a/b--c", "a b/c", "a/" + "x" * 97):
        with pytest.raises(BadRepository):
            check_repo(bad)


def test_a_token_is_not_sent_where_others_can_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("http://example.org", "http://127.0.0.1.example.org", "ftp://localhost"):
        monkeypatch.setenv("HF_ENDPOINT", bad)
        with pytest.raises(UnsafeEndpoint):
            open_api(given("hf_" + "x" * 34))
    assert open_api(None).endpoint == "ftp://localhost"


@pytest.mark.parametrize("kind", ["write", "owner", "two", "global"])
def test_a_wider_token_is_refused_on_a_rented_machine_and_before_it_is_sent_there(
    hub: FakeHub, store: ModelStore, saved: Saved, kind: str
) -> None:
    hub.create(REPO, private=True)
    one = ("model", REPO, "repo.content.read,repo.write")
    token = {
        "write": lambda: hub.token("alice"),
        "owner": lambda: hub.token("alice", "fineGrained", ("user", "alice", "repo.write")),
        "two": lambda: hub.token("alice", "fineGrained", one, ("model", "alice/other", "repo.write")),
        "global": lambda: hub.token("alice", "fineGrained", one),
    }[kind]()
    if kind == "global":
        hub.tokens[token].fine["global"].append("discussion.write")
    with pytest.raises(TokenTooWide, match="this machine is rented") as refused:
        push(store, saved, token, rented=True)
    with pytest.raises(TokenTooWide):
        check_for_rented(given(token), REPO)
    assert token not in str(refused.value)
    assert len(hub.repos["model", REPO].commits) == 1
    assert {asked.path for asked in hub.asked} == {"/api/whoami-v2"}


def test_a_token_of_one_repository_pushes_from_a_rented_machine(
    hub: FakeHub, store: ModelStore, saved: Saved
) -> None:
    hub.create(REPO, private=True)
    token = hub.one_repository("alice", REPO)
    check_for_rented(given(token), REPO)
    assert push(store, saved, token, rented=True).note == ""
