"""``distrai models``: what a user types, with a toy model and a hub on loopback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distrai.cli.main import main
from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.saving import save_model
from distrai.jobs.models.store import ModelStore, Saved
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NOT_OURS
from helpers.toy_models import make_toy_model

pytestmark = pytest.mark.filterwarnings(NOT_OURS)
ADDRESS = "0x" + "cd" * 20
REPO = "alice/toy"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy") / "model", hidden=64, layers=1)


@pytest.fixture
def distrai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("DISTRAI_MODELS", str(tmp_path / "models"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["models", *map(str, arguments)])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def saved(toy: Path, tmp_path: Path) -> Saved:
    origin = Origin(kind="sft-qlora", base_model="toy", address=ADDRESS, job="first", record=3)
    return save_model(ModelStore.at(str(tmp_path / "models")), toy, f"{ADDRESS}/first", origin)


def test_list_shows_every_model_and_says_which_are_broken(distrai: Run, saved: Saved, tmp_path: Path) -> None:
    code, out, _ = distrai("list", "--json")
    told = json.loads(out)
    assert code == 0 and [model["manifest"] for model in told["models"]] == [saved.manifest.hash]
    assert told["models"][0]["origin"]["record"] == 3
    code, out, _ = distrai("list")
    assert f"{ADDRESS}/first" in out and "sft-qlora from toy, record 3" in out
    (tmp_path / "models" / ADDRESS / "first" / "distrai.json").write_text("{}")
    code, out, _ = distrai("list")
    assert code == 1 and "broken" in out
    assert "no models in" in distrai("list", "--store", tmp_path / "other")[1]


def test_push_pull_verify_generate_from_the_command_line(
    distrai: Run, hub: FakeHub, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = hub.token("alice")
    (tmp_path / "token").write_text(token)
    code, out, err = distrai("push", "first", REPO, "--token-file", tmp_path / "token")
    assert code == 0 and f"{hub.url}/{REPO}, private" in out and "is safer" in out
    assert token not in out + err and hub.repos["model", REPO].private
    monkeypatch.setenv("HF_TOKEN", token)
    code, out, err = distrai("pull", REPO, "--expect", saved.manifest.hash, "--json")
    told = json.loads(out)
    assert code == 0 and told["sealed"] and told["manifest"] == saved.manifest.hash and err == ""
    code, out, _ = distrai("verify", told["name"], "--expect", saved.manifest.hash)
    assert code == 0 and "all is well" in out
    code, out, _ = distrai("generate", told["name"], "Hello", "--tokens", 5, "--json")
    written = json.loads(out)
    assert code == 0 and written["prompt"] == "Hello" and isinstance(written["text"], str)
    again = [
        distrai("generate", "first", "Hello", "--tokens", 5, "--json", "--seed", seed)[1]
        for seed in (0, 0, 1)
    ]
    assert json.loads(again[0])["text"] == json.loads(again[1])["text"] == written["text"]
    assert distrai("generate", "first", "Hi", "--chat", "--temperature", 0, "--tokens", 3)[0] == 0


def test_a_damaged_or_foreign_model_fails_to_verify(distrai: Run, saved: Saved, tmp_path: Path) -> None:
    assert distrai("verify", "first", "--expect", "0x" + "00" * 32)[0] == 1
    folder = tmp_path / "models" / ADDRESS / "first"
    assert distrai("verify", folder, "--json")[0] == 0  # a third person has a folder only
    (folder / "extra.txt").write_text("x")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    code, out, _ = distrai("verify", "first")
    assert code == 1 and "config.json was changed" in out and "tokenizer.json is missing" in out
    assert "beside the model: extra.txt" in out and "this is not the model" in out
    told = json.loads(distrai("verify", folder, "--json")[1])
    assert told["wrong"] == ["tokenizer.json is missing", "config.json was changed"] and not told["ok"]
    code, _, err = distrai("generate", "first", "Hello")
    assert code == 2 and "is damaged" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("push", "first", REPO), 2, "no token of the hub is given"),
        (("push", "first", "hf_" + "a" * 34), 2, "replace that token"),
        (("push", "other", REPO), 2, "there is no model other"),
        (("pull", "not a repo"), 2, "OWNER/NAME"),
        (("pull", REPO), 2, "no such repository"),
        (("verify", "first", "--record", "1"), 2, "on no ledger of yours"),
        (("verify", "first", "--rpc", "http://127.0.0.1:9"), 2, "--rpc URL and --deployment FILE"),
        (("verify", "."), 2, "has no distrai.json"),
        (("generate", "first", ""), 2, "give it a few words"),
        (("generate", "first", "x", "--tokens", "0"), 2, "not within"),
        (("list", "--store", "s3://a:secret@b/c"), 2, "password"),
    ],
)
def test_a_mistake_is_one_sentence(
    distrai: Run, hub: FakeHub, saved: Saved, arguments: tuple[str, ...], code: int, words: str
) -> None:
    got, out, err = distrai(*arguments)
    assert got == code and words in err and len(err.strip().splitlines()) == 1
    assert "hf_aaa" not in err + out and "secret" not in err + out
    got, out, _ = distrai(*arguments, "--json")
    assert got == code and not json.loads(out)["ok"]


def test_a_rented_machine_takes_only_a_token_of_one_repository(
    distrai: Run, hub: FakeHub, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTRAI_RENTED", "1")
    monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
    code, _, err = distrai("push", "first", REPO)
    assert code == 2 and "this machine is rented" in err and ("model", REPO) not in hub.repos
    hub.create(REPO, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.one_repository("alice", REPO))
    assert distrai("push", "first", REPO)[0] == 0


def test_a_token_anywhere_in_the_arguments_is_not_repeated(distrai: Run) -> None:
    token = "hf_" + "b" * 34
    for arguments in (
        ("push", "first", REPO, "--token", token),
        ("push", "first", REPO, token),
        ("pull", token),
    ):
        code, out, err = distrai(*arguments)
        assert code == 2 and token not in out + err
