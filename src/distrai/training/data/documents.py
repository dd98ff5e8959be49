"""What a corpus is made of: texts, each wholly in one split."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "tuning", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "tuning", "held_out")


@dataclass(frozen=True, slots=True)
class Document:
    """One file: ``name`` is for people and takes no part in any hash."""

    name: str
    split: Split
    text: str
