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
ALL_LINEAR = "all-linear"
"""Adapter target: every linear layer but the output embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSection:
    """An adapter that is trained in the place of the model's own weights, which stay as they are."""

    kind: Literal["lora"] = "lora"
    r: Annotated[int, Range(1, 1024)] = 8
    """Rank of every pair of matrices."""
    alpha: Annotated[float, Range(0, 65536, open_low=True)] = 16.0
    """What the product of a pair is multiplied by, times the rank."""
    dropout: Decay = 0.0
    targets: Annotated[tuple[Text, ...], Length(1, 1024)] = (ALL_LINEAR,)
    """Names or globs of linear layers: whole names or ends of them."""
    quant: Literal["none", "nf4"] = "none"
    """``nf4``: the frozen weights are held in four bits while training (QLoRA)."""


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
    adapter: AdapterSection | None = None
    """None: the model's own weights are trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """The text to train on, and how it becomes samples of ``context`` tokens."""

    source: Literal["python-stdlib", "files", "hub"]
    context: Annotated[int, Range(2, 1 << 20)]
    license: Text
    globs: Texts = ()
    """For ``files``: which files, relative to the recipe."""
    tokenizer: Text = "bytes"
    """``bytes`` (256 ids), or the folder or hub id of a tokenizer."""
    shard_bytes: Annotated[int, Range(1 << 12, 1 << 28)] = 1 << 20
    held_out_fraction: Part = 0.05
    """For ``files`` and ``hub``: the share that no peer trains on. The standard library is split by package."""
    tuning_fraction: Part = 0.05
    """For ``files`` and ``hub``: the share for choosing settings."""
    format: Literal["text", "chat", "preferences"] = "text"
    """What a row of files or of the hub is: text, JSON with ``messages``, or JSON with two answers."""
    dataset: OptionalText = ""
    """For ``hub``: the name of a Hugging Face data set, which is read when the run is opened."""
    subset: OptionalText = ""
    revision: OptionalText = ""
    split: Text = "train"
    column: Text = "text"
    """For ``hub`` and ``text``: where in a row the text is."""
    max_documents: Annotated[int, Range(0, INTEGER_MAX)] = 0
    """For ``hub``: how many rows to read at most; 0: all."""


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
    objective: Literal["next-token", "distill", "dpo"] = "next-token"
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
class TeacherSection:
    """For ``distill``: a frozen model with the same tokenizer, whose distributions are learned from."""

    path: Text
    """A folder or a hub id."""
    license: Text
    revision: OptionalText = ""
    temperature: Annotated[float, Range(0, 100, open_low=True)] = 2.0
    """Softens both distributions."""
    weight: Share = 0.5
    """Of the teacher in the loss; the rest is the cross-entropy with the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSection:
    """For ``dpo``."""

    beta: Annotated[float, Range(0, 100, open_low=True)] = 0.1
    """How much it costs to move away from the model at the start."""


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
    teacher: TeacherSection | None = None
    """Exactly where the objective is ``distill``."""
    preference: PreferenceSection | None = None
    """Only where the objective is ``dpo``; None is ``PreferenceSection()``."""


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
    "data": {
        "format": "text",
        "dataset": "",
        "subset": "",
        "revision": "",
        "split": "train",
        "column": "text",
        "max_documents": 0,
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
