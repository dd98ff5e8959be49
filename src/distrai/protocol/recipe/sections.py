"""What a recipe may say: one frozen dataclass for every table of the file, every value with its bounds.

A key that is added later is left out of the canonical bytes while it has its default, so that the hashes
of old runs stay what they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from distrai.protocol.recipe.money import Rewards, Stake
from distrai.protocol.recipe.reading import INTEGER_MAX, Length, Range

Text = Annotated[str, Length(1, 1024)]
OptionalText = Annotated[str, Length(0, 1024)]
Texts = Annotated[tuple[Text, ...], Length(0, 1024)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, open_high=True)]
Part = Annotated[float, Range(0, 0.5, open_low=True)]
Rate = Annotated[float, Range(0, 100, open_low=True)]
Seconds = Annotated[float, Range(0, 30 * 86400, open_low=True)]
Samples = Annotated[int, Range(1, 1 << 20)]
Positive = Annotated[int, Range(1, INTEGER_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """The model: a Hugging Face causal language model, new from a configuration or pretrained."""

    source: Literal["config", "pretrained"]
    license: Text
    config: Mapping[str, object] = field(default_factory=dict)
    """For ``config``: the keys of its Hugging Face configuration, ``model_type`` among them."""
    path: OptionalText = ""
    """For ``pretrained``: a folder or a hub id."""
    revision: OptionalText = ""
    trainable: Annotated[tuple[Text, ...], Length(1, 1024)] = ("*",)
    """Globs over parameter names; only what matches is trained and exchanged."""
    dtype: Literal["float32"] = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """The text to train on, and how it becomes samples of ``context`` tokens."""

    source: Literal["python-stdlib", "files"]
    context: Annotated[int, Range(2, 1 << 20)]
    license: Text
    globs: Texts = ()
    """For ``files``: which files, relative to the recipe."""
    tokenizer: Text = "bytes"
    """``bytes`` (256 ids), or the folder or hub id of a tokenizer."""
    shard_bytes: Annotated[int, Range(1 << 12, 1 << 28)] = 1 << 20
    held_out_fraction: Part = 0.05
    """For ``files``: the share that no peer trains on. The standard library is split by package."""
    tuning_fraction: Part = 0.05
    """For ``files``: the share for choosing settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmSection:
    """A preset, and what differs from it; None is "as in the preset". A resolved recipe says everything."""

    preset: Text
    codec: Text | None = None
    codec_options: Mapping[str, object] | None = None
    error_feedback: Decay | None = None
    """Decay of the buffer of what was not sent; 0 switches it off."""
    aggregate: Text | None = None
    topology: Text | None = None
    outer: Text | None = None
    outer_lr: Rate | None = None
    outer_momentum: Decay | None = None
    outer_schedule: Text | None = None
    outer_weight_decay: Share | None = None
    outer_delay: Annotated[int, Range(1, 64)] | None = None
    inner_optimiser: Text | None = None
    inner_state: Text | None = None
    inner_steps: Annotated[int, Range(1, 1_000_000)] | None = None
    """H: inner steps in a round."""
    pace: Text | None = None
    start: Text | None = None
    fragments: Annotated[int, Range(1, 1024)] | None = None
    overlap: Annotated[int, Range(0, 1_000_000)] | None = None
    merge_alpha: Share | None = None
    staleness: Annotated[int, Range(0, 7)] | None = None
    quorum: Annotated[int, Range(0, 64)] | None = None

    @property
    def overrides(self) -> dict[str, object]:
        """The keys beside ``preset`` that are given."""
        mapping = to_mapping(self)
        del mapping["preset"]
        return mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSection:
    """One inner step: AdamW on ``accumulation`` micro-batches of ``batch`` samples."""

    batch: Annotated[int, Range(1, 1 << 14)]
    lr: Annotated[float, Range(0, 10, open_low=True)]
    objective: Literal["next-token"] = "next-token"
    accumulation: Annotated[int, Range(1, 1 << 10)] = 1
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    eps: Annotated[float, Range(0, 1, open_low=True)] = 1e-8
    weight_decay: Share = 0.1
    """On matrices only."""
    clip: Annotated[float, Range(0, 1e6)] = 1.0
    """Largest L2 norm of a gradient; 0 clips nothing."""
    warmup: Share = 0.05
    """Share of all inner steps over which the learning rate rises."""
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    """``wsd``: warm up, stay, and fall in a straight line over the last ``decay`` of all steps."""
    decay: Share = 0.2
    final_fraction: Share = 0.1
    """For ``cosine`` and ``wsd``: the last learning rate as a share of ``lr``."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    compile: bool = False
    """Compile the model for training (needs a C++ compiler; costs a minute, pays off on GPUs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsSection:
    """How many rounds, and the local deadlines of one (``rounds.md``), in seconds."""

    count: Annotated[int, Range(1, (1 << 32) - 1)]
    d0_s: Seconds = 3.0
    """D0: about the time in which a message reaches everyone; settle time and attempts follow it."""
    cut_s: Seconds
    """T_cut: from here on a member that holds two thirds of the updates waits for no more."""
    hard_s: Seconds
    """T_hard: from here on a member waits for no update at all."""
    stall_seconds: Annotated[int, Range(1, 30 * 86400)]
    """Ledger time without a certificate after which a roll call may open."""
    min_updates: Annotated[int, Range(1, 64)] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSection:
    """Who takes part."""

    peers: Annotated[int, Range(1, 64)]
    """Peers of a local run."""
    min_seats: Annotated[int, Range(1, 64)] = 1
    max_seats: Annotated[int, Range(1, 64)] = 64
    admission: Literal["invitation", "open"] = "invitation"
    roll_call_min: tuple[Annotated[int, Range(1, 64)], Annotated[int, Range(1, 64)]] = (1, 2)
    """Share of the seats (numerator, denominator) that a roll call needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """The absolute checks on updates."""

    norm_ceiling: Annotated[float, Range(0, 1e12, open_low=True)]
    """Largest L2 norm of a decoded update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSection:
    """How many held-out samples are looked at, after a round and at the end."""

    samples_round: Samples = 64
    samples_final: Samples = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that a run needs."""

    name: Annotated[str, Length(1, 64)]
    theme: OptionalText = ""
    checks: Literal[1, 2] = 2
    """Version of the absolute and relative checks on updates; 2 also cuts shared moments down to the others'."""
    seed: Annotated[int, Range(0, INTEGER_MAX)]
    model: ModelSection
    data: DataSection
    algorithm: AlgorithmSection
    training: TrainingSection
    rounds: RoundsSection
    membership: MembershipSection
    limits: LimitsSection
    evaluation: EvaluationSection = EvaluationSection()
    rewards: Rewards | None = None
    """None: the run pays nothing."""
    stake: Stake | None = None
    """None: a seat costs nothing."""


ADDED_LATER: Mapping[str, Mapping[str, object]] = {
    "algorithm": {
        "topology": "all",
        "outer_schedule": "constant",
        "outer_weight_decay": 0.0,
        "outer_delay": 1,
        "inner_optimiser": "adamw",
        "pace": "fixed",
        "start": "global",
        "fragments": 1,
        "overlap": 0,
        "merge_alpha": 0.0,
        "staleness": 0,
        "quorum": 0,
    },
    "training": {"decay": 0.2, "compile": False},
}
"""Keys that came after the first recipes were hashed, and what was always meant without them."""


def canonical_mapping(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data, without the keys that are newer than it needs: what is hashed."""
    mapping = to_mapping(recipe)
    for table, keys in ADDED_LATER.items():
        for key, value in keys.items():
            if mapping[table].get(key) == value:
                del mapping[table][key]
    return mapping


def to_mapping(section: object) -> dict[str, Any]:
    """A recipe, or one table of it, as plain data: what ``parse_recipe`` reads. None is left out."""
    items = ((item.name, getattr(section, item.name)) for item in fields(section))  # type: ignore[arg-type]
    return {name: _to_plain(value) for name, value in items if value is not None}


def _to_plain(value: object) -> object:
    if is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return value
