"""Two people and a chain process between them: one trains, publishes and records, the other finds it to be so."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.jobs.models.manifest import MANIFEST, Manifest
from distrai.jobs.records.ledgers import OwnLedger
from distrai.jobs.records.recording import Recording
from distrai.jobs.running.runner import JobRun
from helpers.fake_hub import FakeHub
from helpers.hub_tests import NOT_OURS, REPO
from helpers.job_scripts import LOOK_S, TRAINS, new_job

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings(NOT_OURS)]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> tuple[int, Any]:
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_third_person_verifies_a_published_model_against_the_record(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, say: Any
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "sender"))
    monkeypatch.delenv("DISTRAI_MODELS", raising=False)
    job, own = new_job(tmp_path / "job", TRAINS), OwnLedger()
    JobRun(job, lambda event: None, look_s=LOOK_S, witness=Recording(own, keep_open=True)).run()
    command = [
        sys.executable,
        "-m",
        "distrai.cli",
        "ledger",
        "serve",
        str(own.folder),
        "--port",
        "0",
        "--json",
    ]
    chain = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert chain.stdout is not None
    try:
        at = [
            "--rpc",
            json.loads(chain.stdout.readline())["url"],
            "--deployment",
            str(tmp_path / "theirs.json"),
        ]
        shutil.copyfile(own.deployment, at[-1])
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        code, pushed = say("models", "push", job.read().job_id, REPO)
        assert code == 0 and pushed["record"] == ["published", "closed"], (
            "through the process that has the chain"
        )
        code, listed = say("records", "list")
        assert code == 0 and [record["ledger"]["stage"] for record in listed["records"]] == ["closed"]
        a_third_person(tmp_path, monkeypatch, say, at, pushed)
    finally:
        chain.send_signal(signal.SIGINT)
        chain.communicate(timeout=60)


def a_third_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Any, at: list[str], pushed: dict[str, Any]
) -> None:
    """Has nothing but the name on the hub, a node and the file with the contracts."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "third"))
    code, shown = say("records", "show", 1, *at)
    manifest = shown["claims"]["manifest"]
    assert code == 0 and manifest == "0x" + pushed["manifest"]
    assert [step["stage"] for step in shown["stages"]][-2:] == ["published", "closed"]
    code, pulled = say("models", "pull", REPO, "--expect", manifest)
    assert code == 0 and pulled["sealed"]
    verify = ["models", "verify", pulled["name"], *at]
    code, told = say(*verify)
    assert (code, told["record"], told["wrong"]) == (0, 1, [])
    folder = Path(pulled["location"])
    forged = Manifest.of_bytes((folder / MANIFEST).read_bytes())
    (folder / "config.json").write_text('{"changed": 1}')
    code, told = say(*verify)
    assert code == 1 and told["wrong"] == ["config.json was changed"]
    entry = json.loads((folder / MANIFEST).read_bytes())
    entry["files"]["config.json"] = {"size": 14, "sha256": _sha256(b'{"changed": 1}')}
    (folder / MANIFEST).write_bytes((json.dumps(entry, indent=2, sort_keys=True) + "\n").encode())
    code, told = say(*verify)
    assert code == 1 and len(told["wrong"]) == 1 and forged.hash in told["wrong"][0]
    code, told = say("models", "verify", pulled["name"], "--record", 9, *at)
    assert code == 2 and "no training record 9" in told["why"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
