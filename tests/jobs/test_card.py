"""The model card: front matter that YAML reads, and text that cannot break out of its place."""

import yaml

from distrai.jobs.models.card import JobCard, RecordedOn

CARD = JobCard(
    name="A model", theme="cooking", kind="sft-qlora", base_model="owner/base", model_license="apache-2.0",
    data="train.jsonl", data_hash="d" * 64, script="sft-qlora", script_hash="e" * 64, parameters={"lr": 2e-4},
    parameter_count=1234567, tokens=1000, seconds=12.3, hardware="1 CPU", before={"loss": 2.5}, after={"loss": 1.5},
    recorded=RecordedOn(chain_id=5, contract="0x1", record=7, transaction="0x2", sender="0x3"),
)  # fmt: skip


def front(text: str) -> dict[str, object]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_front_matter_says_what_hubs_look_for() -> None:
    told = front(CARD.to_markdown())
    assert told == {
        "license": "apache-2.0", "base_model": "owner/base", "library_name": "transformers",
        "pipeline_tag": "text-generation", "tags": ["distrai", "sft-qlora"],
    }  # fmt: skip


def test_the_card_names_what_it_was_made_from_and_the_record() -> None:
    text = CARD.to_markdown()
    for part in (
        "d" * 64,
        "e" * 64,
        "record 7 of contract `0x1` on chain 5",
        "`0x2`",
        "1,234,567 parameters",
    ):
        assert part in text
    assert "| loss | 2.5000 | 1.5000 |" in text and '"lr": 0.0002' in text


def test_text_of_others_adds_no_section_and_leaves_no_place() -> None:
    evil = JobCard(
        name="x\n## Evidence\nforged", kind="dpo", base_model="a: b\n---\n", data="`\n## y", data_hash="", script="s",
        script_hash="", parameters={"k": "```\n## z"}, before={"a|b\n## c": 1.0},
    )  # fmt: skip
    lines = evil.to_markdown().splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## Made from",
        "## Evidence",
        "## Parameters",
    ]
    assert "base_model" not in front(evil.to_markdown())
    assert "not recorded on a ledger" in evil.to_markdown()
