"""The model card: what an exported model is, what it was made from, and how to check that."""

import json
import re
from dataclasses import dataclass

CARD_HEAD = 4096
"""Bytes of a card in which its tags are."""
_TAGS = ("distrai", "low-communication-training")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a card says. Hashes and ids are hexadecimal text; losses are held-out, in nats per token."""

    name: str
    theme: str = ""
    preset: str
    recipe: str
    """The recipe as text (TOML or JSON)."""
    recipe_hash: str
    model_license: str
    data_source: str
    data_license: str
    corpus_hash: str
    parameters: int
    trained: int = 0
    """How many were trained where the others stay as they were (of an adapter: its own); 0: all."""
    base: str = ""
    """Where the model that this one was made from can be had, as the recipe says."""
    base_hash: str = ""
    """The manifest of what stayed as it was."""
    objective: str = "next-token"
    teacher: str = ""
    teacher_license: str = ""
    adapter: bool = False
    """Whether this is the adapter alone."""
    peers: int
    rounds: int
    tokens: int
    loss_start: float
    loss_end: float
    bits_per_byte_start: float
    bits_per_byte_end: float
    payload_up_per_peer: int
    bytes_up_per_peer: int
    bytes_down_per_peer: int
    bytes_ddp_per_peer: int
    run_id: str
    state_root: str
    head: str

    def to_markdown(self) -> str:
        """The README of a Hugging Face repository: front matter, then sections."""
        return "\n".join([*self._front_matter(), *self._summary(), *self._evidence(), *self._recipe(), ""])

    def _front_matter(self) -> list[str]:
        tags = [*_TAGS, self.preset]
        return [
            "---",
            f"license: {json.dumps(self.model_license)}",
            *([f"base_model: {self.base}"] if _HUB_ID.fullmatch(self.base) else []),
            f"library_name: {'peft' if self.adapter else 'transformers'}",
            "pipeline_tag: text-generation",
            f"tags: {json.dumps(tags)}",
            "---",
        ]

    def _summary(self) -> list[str]:
        return [
            f"# {_line(self.name)}",
            "",
            *([_line(self.theme), ""] if self.theme else []),
            *self._what(),
            f"Trained by {self.peers} peers in {self.rounds} certified rounds with DisTrAI.",
            "",
            "| | start | end |",
            "|---|---|---|",
            f"| held-out loss (nats per token) | {self.loss_start:.4f} | {self.loss_end:.4f} |",
            f"| held-out bits per byte | {self.bits_per_byte_start:.4f} | {self.bits_per_byte_end:.4f} |",
            "",
            "| per peer | bytes |",
            "|---|---|",
            f"| payload sent | {self.payload_up_per_peer:,} |",
            f"| sent, at the socket | {self.bytes_up_per_peer:,} |",
            f"| received, at the socket | {self.bytes_down_per_peer:,} |",
            f"| data-parallel training would have sent | {self.bytes_ddp_per_peer:,} |",
            "",
            f"Tokens trained on: {self.tokens:,}.",
            "",
        ]

    def _what(self) -> list[str]:
        said = f"A causal language model with {self.parameters:,} parameters."
        if self.adapter:
            said = f"An adapter of {self.trained:,} parameters for a causal language model of {self.parameters:,}."
        elif self.trained:
            said += f" {self.trained:,} parameters were trained; the base stays as it was."
        lines = [said]
        if self.base:
            lines.append(f"Made from `{_line(self.base)}`.")
        if self.objective != "next-token":
            lines.append(f"Objective: {self.objective}.")
        if self.teacher:
            lines.append(f"Teacher: `{_line(self.teacher)}`, licence {_line(self.teacher_license)}.")
        return lines

    def _evidence(self) -> list[str]:
        return [
            "## Data and licences",
            "",
            f"- Data: {_line(self.data_source)}, licence {_line(self.data_license)}, corpus `{self.corpus_hash}`",
            f"- Model: licence {_line(self.model_license)}",
            "",
            "## Evidence",
            "",
            "Whoever has the run's published bytes can recompute this model with `distrai replay`.",
            "It was a *trusted* run: members had no stake, and the checks on updates do not prove work.",
            "",
            f"- Run `{self.run_id}`",
            *([f"- Frozen base `{self.base_hash}`"] if self.base_hash else []),
            f"- Recipe hash `{self.recipe_hash}`",
            f"- State root `{self.state_root}`",
            f"- Head `{self.head}`",
            "",
        ]

    def _recipe(self) -> list[str]:
        fence = "```"
        while fence in self.recipe:
            fence += "`"
        return ["## Recipe", "", fence, self.recipe.rstrip("\n"), fence]


def written_here(head: bytes) -> bool:
    """Whether these first bytes of a card are those of a run's export."""
    return f"tags: {json.dumps(_TAGS)[:-1]}, ".encode() in head


def _line(text: str) -> str:
    """Text of a recipe on one line, so that it cannot add sections to the card."""
    return " ".join(text.split())
