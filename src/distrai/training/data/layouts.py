"""Layouts: how the entries of a corpus become samples, and which entries of a sample are scored.

- ``windows``: running text; sample i is the ``context + 1`` tokens from token ``i * context`` on, all scored.
- ``rows``: a sample is a row of ``context + 1`` entries, such as one conversation.
- ``pairs``: a sample is two rows, the chosen one and then the rejected one.

In rows, an entry with bit 31 is read by the model and not scored: what was asked, and the padding on the right.
"""

from dataclasses import dataclass
from typing import Literal

from distrai.protocol.recipe import DataSection

Layout = Literal["windows", "rows", "pairs"]
UNSCORED = 1 << 31
"""The bit of an entry that says that nobody is to predict it."""
TOKEN_MASK = UNSCORED - 1
PADDING = UNSCORED
"""Fills a row on its right: a causal model does not see it from where something is scored."""


@dataclass(frozen=True, slots=True)
class SampleShape:
    """What a sample is, in entries."""

    width: int
    stride: int
    """From the start of a sample to that of the next one."""
    tokens: int
    """Positions that are predicted in a sample: what counts as work done, scored or not."""


def sample_shape(layout: Layout, context: int) -> SampleShape:
    """The shape of the samples of a layout."""
    if layout == "windows":
        return SampleShape(context + 1, context, context)
    rows = 2 if layout == "pairs" else 1
    return SampleShape(rows * (context + 1), rows * (context + 1), rows * context)


def layout_of(section: DataSection) -> Layout:
    """The layout of the corpus that a recipe describes."""
    layouts: dict[str, Layout] = {"text": "windows", "chat": "rows", "preferences": "pairs"}
    return layouts[section.format]


def sample_tokens(section: DataSection) -> int:
    """Positions that are predicted in a sample of a recipe's data."""
    return sample_shape(layout_of(section), section.context).tokens
