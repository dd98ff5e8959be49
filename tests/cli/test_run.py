"""The newcomer's way through: run, Ctrl-C, run again, ask, replay; and replay of a folder that somebody changed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from helpers.signalled import signalled

RECIPE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
SECONDS_MAX = 400
pytestmark = pytest.mark.processes


def distrai(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "distrai.cli", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, env=environment)
    return done.returncode, done.stdout, done.stderr


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def interrupted(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Start a run of two peers and press Ctrl-C once the first round is applied."""
    options = ("--out", folder, "--peers", "2", "--rounds", "5", "--json")
    command = signalled("applied", signal.SIGINT, "run", RECIPE, *options)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS_MAX, check=False)
    return done.returncode, events(done.stdout)


def test_run_stop_resume_replay_and_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"

    def here(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        """The command in this process, which has imported the heavy things already: its exit code and object."""
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, told = interrupted(folder)
    assert code == 130
    partial = told[-1]
    assert (partial["event"], partial["finished"]) == ("summary", False)
    assert 1 <= partial["rounds"] < 5

    code, out, err = distrai("run", folder)
    assert code == 0, err
    summary = events(out)[-1]
    assert (summary["event"], summary["finished"], summary["rounds"]) == ("summary", True, 5)
    assert summary["roots_agree"]
    assert summary["loss_end"] < summary["loss_start"]
    assert summary["run_id"] == partial["run_id"]
    assert summary["bytes_up_per_peer"] > partial["bytes_up_per_peer"]
    assert sum(summary["updates_of"].values()) == summary["updates"] <= 10
    assert {"up", "down"} == set(summary["traffic_per_peer"])

    code, out, err = distrai("run", folder)
    assert (code, out) == (2, "")
    assert "is finished" in err

    code, out, _ = distrai("replay", folder, "--json")
    replayed = json.loads(out)
    assert code == 0
    assert (replayed["state_root"], replayed["head"]) == (summary["state_root"], summary["head"])
    assert replayed["rounds"] == 5

    code, generated = here("generate", folder, "def ", "--tokens", "5")
    assert (code, generated["round"]) == (0, 5)

    certificate = folder / "peers" / "peer-0" / "public" / "lists" / "00000002.msgpack"
    data = bytearray(certificate.read_bytes())
    data[len(data) // 2] ^= 1
    certificate.write_bytes(data)
    code, verdict = here("replay", folder)
    assert (code, verdict["ok"]) == (1, False)
    assert "round 2" in verdict["culprit"]
