"""The model card of a job: what a model is, what it was made from, and how anyone checks that.

It is part of the model, so the manifest covers it: it names the training record by its number and by the transaction
that opened it, and the record names the manifest when it is closed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOn:
    """Where the training record is: chain, contract (0x...), number, and the transaction that opened it (0x...)."""

    chain_id: int
    contract: str
    record: int
    transaction: str
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCard:
    """What a card says. Hashes are hexadecimal text; what is empty is left out."""

    name: str
    theme: str = ""
    kind: str
    """How it was trained: sft-qlora, dpo, ..."""
    base_model: str = ""
    base_hash: str = ""
    """Of its files, where it was a folder and is on no hub."""
    model_license: str = ""
    data: str
    data_hash: str
    data_license: str = ""
    script: str
    script_hash: str
    parameters: Mapping[str, object]
    parameter_count: int = 0
    tokens: int = 0
    seconds: float = 0.0
    hardware: str = ""
    before: Mapping[str, float] = field(default_factory=dict)
    """Measures on the held-out part by name, before training; ``after`` after it."""
    after: Mapping[str, float] = field(default_factory=dict)
    recorded: RecordedOn | None = None

    def to_markdown(self) -> str:
        """The README of a Hugging Face repository: front matter, then sections."""
        parts = (self._front_matter(), self._summary(), self._measures(), self._sources(), self._evidence())
        return "\n".join([line for part in parts for line in part] + self._settings() + [""])

    def _front_matter(self) -> list[str]:
        told: dict[str, object] = {
            "license": self.model_license,
            "base_model": self.base_model if _REPO.fullmatch(self.base_model) and not self.base_hash else "",
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["distrai", self.kind],
        }
        return ["---", *(f"{name}: {json.dumps(value)}" for name, value in told.items() if value), "---"]

    def _summary(self) -> list[str]:
        facts = [
            f"{self.parameter_count:,} parameters" if self.parameter_count else "",
            f"{self.tokens:,} tokens trained on" if self.tokens else "",
            f"{self.seconds:,.0f} s of training" if self.seconds else "",
            f"on {_line(self.hardware)}" if self.hardware else "",
        ]
        told = ", ".join(fact for fact in facts if fact)
        base = f" from {_code(self.base_model)}" if self.base_model else ""
        return [
            f"# {_line(self.name)}",
            "",
            *([_line(self.theme), ""] if self.theme else []),
            f"Trained by {_code(self.kind)}{base} with DisTrAI."
            + (f" {told[0].upper()}{told[1:]}." if told else ""),
            "",
        ]

    def _measures(self) -> list[str]:
        names = [*self.before, *(name for name in self.after if name not in self.before)]
        if not names:
            return []
        rows = [
            f"| {_cell(name)} | {_figure(self.before, name)} | {_figure(self.after, name)} |"
            for name in names
        ]
        return ["| held out | before | after |", "|---|---|---|", *rows, ""]

    def _sources(self) -> list[str]:
        licence = f", licence {_line(self.data_license)}" if self.data_license else ""
        known = f", SHA-256 of its files `{self.base_hash}`" if self.base_hash else ""
        return [
            "## Made from",
            "",
            f"- Data: {_code(self.data)}{licence}, SHA-256 `{self.data_hash}`",
            f"- Script: {_code(self.script)}, SHA-256 `{self.script_hash}`",
            *([f"- Base model: {_code(self.base_model)}{known}"] if self.base_model else []),
            "",
        ]

    def _evidence(self) -> list[str]:
        lines = [
            "## Evidence",
            "",
            "`distrai.json` lists the SHA-256 of every file; `distrai models verify` compares them.",
        ]
        if (at := self.recorded) is None:
            return [*lines, "This training was not recorded on a ledger.", ""]
        return [
            *lines,
            "The SHA-256 of `distrai.json` itself closes the training record on the ledger.",
            "What the record says of hardware, price and time is a claim of its sender.",
            "",
            f"- Training record {at.record} of contract `{at.contract}` on chain {at.chain_id}",
            f"- Opened by transaction `{at.transaction}`",
            f"- Sender `{at.sender}`",
            "",
        ]

    def _settings(self) -> list[str]:
        text = json.dumps(self.parameters, indent=2, sort_keys=True, ensure_ascii=False, default=str)
        return ["## Parameters", "", "```json", text, "```"]  # no line of JSON begins with a backtick


def _line(text: str) -> str:
    """Text on one line, so that it cannot add sections to the card."""
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', chr(39))}`"


def _cell(text: str) -> str:
    return _line(text).replace("|", "/")


def _figure(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.4f}" if name in values else ""
