"""The summary says what logs, lists and ledger say, with every field of the issue."""

import json
from dataclasses import replace

import pytest

from distrai.protocol.primitives import Hash
from distrai.runs.archive import NothingPublished
from distrai.runs.summary import Facts, Final, Summary, summarise
from distrai.runs.telling import duration, size, summary_text
from helpers.messages import DOMAIN
from helpers.run_folders import FakeRun

FIELDS = [
    "run_id",
    "preset",
    "inner_state",
    "params",
    "peers",
    "rounds",
    "tokens",
    "loss_start",
    "loss_end",
    "bits_per_byte_start",
    "bits_per_byte_end",
    "payload_up_per_peer",
    "bytes_up_per_peer",
    "bytes_down_per_peer",
    "bytes_ddp_per_peer",
    "compute_utilisation",
    "round_overhead_s",
    "state_root",
    "head",
    "certificates",
    "ledger",
    "corpus_hash",
    "wall_s",
    "model_path",
]
FINAL = Final(5.1, 1.4, 7.4, 2.0, 64, "there/model", "def ", "main():\n\x1b[31m")


@pytest.fixture(scope="module")
def facts(finished: FakeRun) -> Facts:
    return Facts.gather(finished.folder, finished.ledger)


@pytest.fixture(scope="module")
def summary(facts: Facts) -> Summary:
    return summarise(facts, FINAL)


def test_has_every_field(summary: Summary) -> None:
    told = json.loads(json.dumps(summary.to_json()))
    assert [name for name in FIELDS if told.get(name) is None] == []


def test_names_the_run_by_its_genesis(summary: Summary, finished: FakeRun) -> None:
    assert summary.run_id == "0x" + finished.genesis_head.hex()
    assert summary.head == "0x" + finished.standing.head.hex()
    assert summary.state_root == "0x" + finished.standing.state_root.hex()
    assert summary.ledger["chain_id"] == DOMAIN.chain_id


def test_counts_what_the_lists_say(summary: Summary, facts: Facts) -> None:
    updates = [update for _, listed in facts.lists for update in listed.updates]
    assert len(updates) == summary.updates == 11
    assert summary.tokens == sum(update.tokens for update in updates)
    assert summary.payload_up_per_peer == round(sum(update.blob_size for update in updates) / 4)
    assert summary.bytes_ddp_per_peer == 4 * summary.params * 4 * 11 / 4
    assert summary.updates_of == {"peer-0": 3, "peer-1": 3, "peer-2": 3, "peer-3": 2}
    assert (summary.certificates, summary.empty_rounds, summary.rounds) == (4, 1, 4)


def test_counts_bytes_at_the_socket(summary: Summary) -> None:
    assert summary.bytes_up_per_peer == (4000 + 8000 + 12000 + 16000) / 4
    assert summary.bytes_down_per_peer == 2000
    assert summary.traffic_per_peer["down"]["data"] == 2000


def test_is_finished_only_with_all_rounds_and_measured(facts: Facts) -> None:
    assert summarise(facts, FINAL).finished
    assert not summarise(facts).finished
    assert not summarise(replace(facts, ledger=replace(facts.ledger, round=3)), FINAL).finished


def test_without_measurement_it_takes_what_was_seen_on_the_way(facts: Facts) -> None:
    partial = summarise(facts)
    assert (partial.loss_start, partial.loss_end, partial.evaluation_samples) == (5.0, 2.0, 16)
    assert (partial.bits_per_byte_start, partial.bits_per_byte_end) == (7.0, 4.0)
    assert any("few samples" in warning for warning in partial.warnings)


def test_roots_must_be_the_ledgers(facts: Facts) -> None:
    assert summarise(facts, FINAL).roots_agree
    other = replace(facts.ledger, state_root=Hash(bytes(32)))
    told = summarise(replace(facts, ledger=other), FINAL)
    assert not told.roots_agree
    assert any("do not all report" in warning for warning in told.warnings)


def test_roots_must_be_one_among_peers(finished: FakeRun) -> None:
    facts = Facts.gather(finished.folder, finished.ledger)
    facts.logs[2].applied[2] = replace(facts.logs[2].applied[2], state_root=Hash(bytes(32)))
    assert not summarise(facts, FINAL).roots_agree


def test_a_restart_and_refusals_are_told(summary: Summary) -> None:
    assert summary.warnings == ["peers were started again: peer-1"]
    assert summary.refused == {"PayloadSize": 1}


def test_a_folder_of_another_run_is_refused(fake_run: FakeRun) -> None:
    info = fake_run.folder.read()
    fake_run.folder.write(replace(info, recipe_hash="0x" + "00" * 32))
    with pytest.raises(NothingPublished, match="another run"):
        Facts.gather(fake_run.folder, fake_run.ledger)


def test_people_are_told_all_that_matters(summary: Summary, finished: FakeRun) -> None:
    text = summary_text(summary.to_json(), finished.folder.path)
    for part in (
        "Finished: smoke (prime, trusted), 4 rounds by 4 peers",
        "7.40 → 2.00 bits per byte",
        "times less",
        f"{100 * summary.compute_utilisation:.0f} % of the rounds spent computing",
        "2.50 s a round to agree",
        "4 certificates over 11 signed updates (1 empty rounds)",
        summary.state_root,
        "all peers and the ledger agree",
        "there/model",
        "def ▏main():",
        f"distrai replay {finished.folder.path}",
    ):
        assert part in text
    assert "\x1b" not in text, "what a model writes must not drive a terminal"


def test_people_are_told_how_to_go_on(facts: Facts) -> None:
    short = replace(facts, ledger=replace(facts.ledger, round=3))
    text = summary_text(summarise(short).to_json(), facts.folder.path)
    assert "Stopped: smoke (prime, trusted), 3 of 4 rounds" in text
    assert f"distrai run {facts.folder.path}" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.34e9, "2.34 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (252, "4 min 12 s"), (3600, "1 h 0 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
