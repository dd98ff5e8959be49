"""``distrai ledger serve`` and ``deploy``, and ``distrai records`` on what they made: real processes, one chain."""

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.ledger.deployment import Deployment
from distrai.ledger.keys import NodeKey, save_key
from distrai.ledger.rpc import Patience, Rpc
from distrai.ledger.training_records import RecordsClient, Request, Result, Stage
from distrai.protocol.primitives import Hash
from distrai.runs.anchor import served_url
from distrai.runs.wallet import show_address

pytestmark = pytest.mark.processes
PASSWORD = "correct horse"
SETTINGS = """
[windows]
audit_seconds = 0
dispute_seconds = 0
activation_seconds = 2
settle_seconds = 10
slash_seconds = 60
unbond_seconds = 90
dead_seconds = 86400
[token]
symbol = "TRY"
supply = "1000"
"""
Verb = Callable[..., tuple[int, Any, str]]


@dataclass
class Served:
    """A chain that ``distrai ledger serve`` serves, with a wallet whose contracts are deployed on it."""

    url: str
    chain_id: int
    key: NodeKey
    wallet: Path
    out: Path
    told: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.out / f"{self.chain_id}.json"


def start(folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    command = [sys.executable, "-m", "distrai.cli", "ledger", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        pytest.fail(process.stderr.read())
    return process, json.loads(line)


def stop(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    key, wallet = NodeKey.generate(), folder / "wallet.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distrai.ledger.keys._STANDARD_SCRYPT_N", 1 << 12)
        save_key(key, wallet, PASSWORD)
    (folder / "settings.toml").write_text(SETTINGS)
    process, ready = start(folder / "chain")
    try:
        command = [sys.executable, "-m", "distrai.cli", "ledger", "deploy", "--rpc", ready["url"], "--json"]
        command += ["--settings", str(folder / "settings.toml"), "--out", str(folder / "deployments")]
        command += ["--wallet", str(wallet)]
        environment = os.environ | {"DISTRAI_PASSWORD": PASSWORD}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert key._key.secret.hex() not in done.stdout + done.stderr
        told = json.loads(done.stdout)
        yield Served(ready["url"], ready["chain_id"], key, wallet, folder / "deployments", told)
    finally:
        assert stop(process)[0] == 0


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    monkeypatch.setenv("DISTRAI_PASSWORD", PASSWORD)

    def run(*arguments: object) -> tuple[int, Any, str]:
        code = main([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def test_serving_says_what_the_chain_is_and_keeps_it(tmp_path: Path) -> None:
    process, first = start(tmp_path / "chain")
    assert "one operator" in first["note"] and "no consensus" in first["note"]
    code, out, _ = stop(process, signal.SIGTERM)
    assert code == 0 and json.loads(out)["event"] == "stopped"
    process, again = start(tmp_path / "chain")
    code, _, err = stop(process)
    assert (code, again["chain_id"], err) == (0, first["chain_id"], "")


def test_what_is_no_chain_is_not_served(tmp_path: Path, verb: Verb) -> None:
    (tmp_path / "thesis.txt").touch()
    code, _, err = verb("ledger", "serve", tmp_path)
    assert code == 2 and "holds no chain" in err
    code, _, err = verb("ledger", "serve", tmp_path / "new", "--listen", "0.0.0.0")
    assert code == 2 and "--advertise" in err


def test_deploying_tells_every_address_and_every_check(served: Served, verb: Verb) -> None:
    told = served.told
    assert told["ok"] and told["findings"] == [] and told["deployer"] == show_address(served.key.address)
    made = Deployment.read(served.file)
    assert told["contracts"]["registry"] == show_address(made.registry)
    checks = " ".join(told["checks"])
    for part in (
        "code of every contract",
        "guardian",
        "slashed tokens",
        "1000 TRY",
        "claimed 2 s",
        "1 min 30 s",
    ):
        assert part in checks
    arguments = ["--rpc", served.url, "--out", served.out, "--wallet", served.wallet]
    settings = served.wallet.parent / "settings.toml"
    code, again, _ = verb("ledger", "deploy", *arguments, "--settings", settings)
    assert (code, again["contracts"]) == (0, told["contracts"]), "what is there is not deployed again"
    code, _, err = verb("ledger", "deploy", *arguments)
    assert code == 2 and "other settings" in err
    settings = served.wallet.parent / "short.toml"
    settings.write_text(SETTINGS.replace("unbond_seconds = 90", "unbond_seconds = 70"))
    code, _, err = verb("ledger", "deploy", *arguments, "--settings", settings)
    assert code == 2 and "make it more than 72" in err


RUN_REQUEST = Request(
    0, Hash(b"\1" * 32), 2_100_000, 1234, "H100", "=cmd()", "granite-\x1b[31mtiny", "python", '{"a":1}'
)
JOB_REQUEST = Request(0, Hash(b"\2" * 32), 0, 7, "", "", "gemma", "poems", "{}")


@pytest.fixture(scope="module")
def recorded(served: Served) -> Served:
    """Two records: one closed, one only asked for."""

    async def run() -> None:
        at = Deployment.read(served.file)
        client = await RecordsClient.connect(served.url, at.records, at.chain_id, served.key)
        try:
            number = await client.open(RUN_REQUEST)
            await client.reach(number, Stage.STARTED, Hash(b"\3" * 32))
            result = Result(
                Hash(b"\4" * 32), Hash(bytes(32)), training_seconds=3600, gpu_seconds=7200, peers=2
            )
            await client.close_record(number, result)
            await client.open(JOB_REQUEST)
        finally:
            await client.close()

    asyncio.run(run())
    return served


def test_records_keep_apart_what_is_known_and_what_is_claimed(recorded: Served, verb: Verb) -> None:
    arguments = ["--rpc", recorded.url, "--deployment", recorded.file]
    code, told, err = verb("records", *arguments)
    assert code == 0, err
    first, second = told["records"]
    known, claims = first["ledger"], first["claims"]
    assert known["sender"] == show_address(recorded.key.address)
    assert (known["stage"], second["ledger"]["stage"]) == ("closed", "requested")
    assert known["seconds"] is not None and known["seconds"] < 600 and second["ledger"]["closed_at"] is None
    assert (claims["training_seconds"], claims["gpu_seconds"], claims["peers"]) == (3600, 7200, 2)
    assert (claims["price_per_hour_usd"], claims["gpu"], claims["parameter_count"]) == ("2.10", "H100", 1234)
    assert (claims["source"], claims["table"]) == ("0x" + "01" * 32, None)
    assert main(["records", *map(str, arguments)]) == 0


def test_records_are_shown_as_a_table_that_marks_claims(
    recorded: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["records", "--rpc", recorded.url, "--deployment", str(recorded.file)]) == 0
    text = capsys.readouterr().out
    assert "Model*" in text and "On the ledger" in text and "* is what the sender claims" in text
    assert "1 h 0 s" in text and "granite" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("filters", "models"),
    [
        (["--theme", "POEM"], ["gemma"]),
        (["--model", "granite"], [RUN_REQUEST.model]),
        (["--sender", "SELF"], [RUN_REQUEST.model, "gemma"]),
        (["--sender", "0x" + "11" * 20], []),
        (["--since", "2024-01-01"], [RUN_REQUEST.model, "gemma"]),
        (["--since", "2999-01-01T10:00"], []),
        (["--run", "7"], []),
    ],
)
def test_records_are_filtered(recorded: Served, verb: Verb, filters: list[str], models: list[str]) -> None:
    filters = [show_address(recorded.key.address) if item == "SELF" else item for item in filters]
    code, told, err = verb("records", "--rpc", recorded.url, "--deployment", recorded.file, *filters)
    assert code == 0, err
    assert [record["claims"]["model"] for record in told["records"]] == models
    assert told["count"] == 2


def test_records_are_exported(recorded: Served, verb: Verb, tmp_path: Path) -> None:
    arguments = ["records", "--rpc", recorded.url, "--deployment", recorded.file, "--export"]
    code, told, _ = verb(*arguments, tmp_path / "all.json")
    assert code == 0 and json.loads((tmp_path / "all.json").read_text()) == told
    assert verb(*arguments, tmp_path / "all.csv")[0] == 0
    with (tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["claimed_theme"] for row in rows] == ["python", "poems"]
    assert rows[0]["claimed_provider"] == "'=cmd()", "a spreadsheet must not run it"
    assert rows[0]["seconds"].isdigit() and rows[0]["claimed_training_seconds"] == "3600"
    code, _, err = verb(*arguments, tmp_path / "all.xls")
    assert code == 2 and ".csv" in err


def test_bad_input_is_one_sentence(recorded: Served, verb: Verb, tmp_path: Path) -> None:
    code, _, err = verb("records", "--rpc", recorded.url)
    assert code == 2 and "--deployment" in err
    code, _, err = verb("records", "--rpc", recorded.url, "--deployment", recorded.file, "--since", "soon")
    assert code == 2 and "2026-11-21" in err
    other = json.loads(recorded.file.read_text()) | {"chain_id": 5}
    (tmp_path / "5.json").write_text(json.dumps(other))
    code, _, err = verb("records", "--rpc", recorded.url, "--deployment", tmp_path / "5.json")
    assert code == 2 and f"serves chain {recorded.chain_id}" in err


def test_the_served_chain_answers_others(served: Served) -> None:
    async def ask() -> Any:
        rpc = Rpc([served.url], Patience())
        try:
            return await rpc.call("web3_clientVersion")
        finally:
            await rpc.close()

    assert "one operator, no consensus" in asyncio.run(ask())


def test_who_asks_about_a_run_finds_the_chain_where_it_is_served_now(tmp_path: Path) -> None:
    process, told = start(tmp_path / "chain")
    try:
        assert served_url(tmp_path / "chain") == told["url"]
    finally:
        stop(process)
    (tmp_path / "chain" / "chain.lock").write_text(
        "1\n"
    )  # whoever opens the chain next writes its own number
    assert served_url(tmp_path / "chain") == ""
