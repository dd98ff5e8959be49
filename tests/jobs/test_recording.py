"""The training record of a job: on the user's own chain, every stage once, closed with the model's manifest."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.estimates.counting import count_parameters
from distrai.jobs.models.store import ModelStore
from distrai.jobs.records.claims import PARAMETERS_BYTES, cut, key_parameters
from distrai.jobs.records.ledgers import BadLedger, OtherLedger, OwnLedger, choose_ledger
from distrai.jobs.records.recorded import compare
from distrai.jobs.records.recording import JobRecords, Recording
from distrai.jobs.records.shown import record_on_ledger
from distrai.jobs.records.told import record_text
from distrai.jobs.running.runner import JobRun
from distrai.jobs.running.store import JobFolder
from distrai.ledger.keys import NodeKey
from distrai.ledger.training_records import Record, Stage
from distrai.protocol.primitives import ZERO_HASH
from helpers.job_scripts import LOOK_S, TRAINS, new_job

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DISTRAI_MODELS", raising=False)


def run_recorded(
    job: JobFolder, events: list[dict[str, Any]], ledger: OwnLedger | None = None
) -> dict[str, Any]:
    witness = Recording(ledger or OwnLedger(), theme="poems")
    return JobRun(job, events.append, look_s=LOOK_S, witness=witness).run().to_json()


def records_of(ledger: OwnLedger) -> list[Record]:
    async def read() -> list[Record]:
        async with ledger.connected() as at:
            client = await JobRecords.connect(at.url, at.deployment.records, at.deployment.chain_id)
            try:
                return [await client.get(number) for number in range(1, await client.count() + 1)]
            finally:
                await client.close()

    return asyncio.run(read())


def test_a_job_is_recorded_and_a_third_person_finds_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    job = new_job(tmp_path / "job", TRAINS, {"learning_rate": 2e-4, "data": "train.jsonl"})
    events: list[dict[str, Any]] = []
    result = run_recorded(job, events)
    told = result["record"]
    assert (result["status"], told["number"], told["closed"]) == ("done", 1, True)
    (record,) = records_of(OwnLedger())
    assert (record.stage, record.request.theme, record.result.peers) == (Stage.CLOSED, "poems", 1)
    assert record.request.source.hex() == job.read().script_hash
    claimed = json.loads(record.request.parameters)
    assert (claimed["learning_rate"], claimed["job"]) == (2e-4, result["job_id"])
    assert str(tmp_path) not in record.request.parameters
    saved = ModelStore.at().find(f"{told['sender']}/{result['job_id']}")
    assert result["model_path"] == saved.location
    assert compare(saved, record).differences == ()
    assert ModelStore.at().verify(saved).ok
    assert saved.manifest.origin.data_hash == hashlib.sha256(b'{"text": "a"}\n').hexdigest()
    card = (Path(saved.location) / "README.md").read_text()
    assert told["transaction"] in card
    assert "| held_out_loss | 2.0000 | 1.0000 |" in card
    stages = [event["stage"] for event in events if event["event"] == "record"]
    assert stages == ["requested", "started", "trained", "saved", "closed"]
    shown = record_on_ledger(job.read())
    assert shown["claims"]["manifest"] == "0x" + saved.manifest.hash
    assert (shown["ledger"]["sender"].lower(), shown["ledger"]["stage"]) == (told["sender"], "closed")
    assert [step["stage"] for step in shown["stages"]] == stages
    assert [step["hash"] for step in shown["stages"]][3:] == ["0x" + saved.manifest.hash] * 2
    assert "theme: poems" in record_text(shown)
    assert run_recorded(job, events) == result, "nothing is done twice"
    assert len(records_of(OwnLedger())) == 1


def test_one_record_whatever_crashes_on_the_way(tmp_path: Path) -> None:
    body = "if job.attempt() == 1: raise SystemExit(1)\n" + TRAINS
    job = new_job(tmp_path / "job", body)
    assert run_recorded(job, [])["status"] == "failed"
    state = job.read()
    assert state.record is not None
    assert not state.record["closed"]
    job.write(state.with_(record=None))  # as after a crash between the ledger and the disk
    result = run_recorded(job, [])
    assert (result["status"], result["record"]["number"]) == ("done", 1)
    state = job.read()
    assert state.record is not None
    job.write(state.with_(record={**state.record, "closed": False}))
    assert run_recorded(job, [])["record"]["closed"]
    (record,) = records_of(OwnLedger())
    assert record.stage is Stage.CLOSED


async def test_the_record_may_be_on_a_chain_that_is_there(tmp_path: Path) -> None:
    job, own = new_job(tmp_path / "job", TRAINS), OwnLedger(tmp_path / "chain")
    async with own.connected() as at:
        other = OtherLedger(at.url, own.deployment, lambda: at.key)
        run = JobRun(job, lambda event: None, look_s=LOOK_S, witness=Recording(other))
        result = (await asyncio.to_thread(run.run)).to_json()
        assert at.url not in (job.path / "job.json").read_text()
    assert (result["record"]["sender"], result["record"]["closed"]) == ("0x" + at.key.address.hex(), True)
    (record,) = await asyncio.to_thread(records_of, own)
    assert record.result.manifest.hex() == ModelStore.at().find(result["job_id"]).manifest.hash


def test_a_job_without_a_model_closes_with_none(tmp_path: Path) -> None:
    result = run_recorded(new_job(tmp_path / "job", "pass"), [])
    assert (result["record"]["closed"], result["model_path"]) == (True, "")
    (record,) = records_of(OwnLedger())
    assert record.result.manifest == ZERO_HASH


def test_a_record_elsewhere_is_not_looked_for_here(tmp_path: Path) -> None:
    state = new_job(tmp_path / "job", "pass").read()
    with pytest.raises(BadLedger, match="has no training record"):
        record_on_ledger(state)
    told = {"ledger": "another chain", "number": 3, "contract": "0x00", "chain_id": 1}
    with pytest.raises(BadLedger, match="distrai records show 3 --rpc"):
        record_on_ledger(state.with_(record=told))


def test_a_record_is_not_closed_on_another_chain(tmp_path: Path) -> None:
    job = new_job(tmp_path / "job", "if job.attempt() == 1: raise SystemExit(1)")
    run_recorded(job, [])
    with pytest.raises(BadLedger, match="name that chain"):
        run_recorded(job, [], OwnLedger(tmp_path / "another"))


@pytest.mark.parametrize(
    ("rpc", "deployment", "why"),
    [
        ("", Path("x.json"), "--rpc"),
        ("127.0.0.1:8545", Path("x.json"), "http://"),
        ("http://user:secret@127.0.0.1", None, "--deployment"),
    ],
)
def test_a_ledger_is_named_wholly(rpc: str, deployment: Path | None, why: str) -> None:
    with pytest.raises(BadLedger, match=why) as raised:
        choose_ledger(rpc, deployment, None, NodeKey.generate)
    assert "secret" not in str(raised.value)


def test_a_password_in_the_address_of_a_node_is_told_to_nobody() -> None:
    ledger = choose_ledger("http://user:secret@127.0.0.1", Path("x.json"), None, NodeKey.generate)
    assert isinstance(ledger, OtherLedger)
    assert "secret" not in ledger.where


def test_parameters_fit_whatever_they_are() -> None:
    values = {"rate": 0.1, "long": "x" * 5000, "name": "y", "path": "/people/me/data", "data": "mine.jsonl"}
    assert json.loads(key_parameters("job-1", values)) == {"job": "job-1", "rate": 0.1, "name": "y"}
    many = {f"value_{number}": number for number in range(500)}
    assert len(key_parameters("job-1", many).encode()) <= PARAMETERS_BYTES


def test_claims_are_cut_in_whole_characters() -> None:
    assert cut("aé", 2) == "a"


def test_numbers_of_a_model_are_counted_from_its_headers(tmp_path: Path) -> None:
    assert count_parameters(tmp_path) == 0
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 30)
    assert count_parameters(tmp_path) == 0
    header = json.dumps({"w": {"shape": [2, 3]}, "__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert count_parameters(tmp_path) == 6
