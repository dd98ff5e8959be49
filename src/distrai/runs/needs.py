"""What a recipe's run will take, told from its model and codec without training anything."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from distrai.algorithms.layout import Layout
from distrai.algorithms.section import build_algorithm
from distrai.peer.learner import needs_reference
from distrai.peer.snapshots import PERIOD_ROUNDS_MAX, SNAPSHOTS_KEPT, UPDATES_FREE, UPDATES_PER_STATE
from distrai.peer.store import ROUNDS_OF_BLOBS_KEPT
from distrai.protocol.recipe import Recipe
from distrai.runs.pace import StepTime, sharing
from distrai.runs.recipes import algorithm_spec
from distrai.runs.telling import duration, size
from distrai.training.adapters import can_quantise, plain_model
from distrai.training.model import model_shape, parameters_of, trainable_layout
from distrai.training.pretrained import located, located_path, pretrained_shape

CORPUS_BYTES = 64 << 20
"""About the built-in corpus and its relatives; other data is measured where it can be found."""
STATES_KEPT = 9
"""Common states on a peer's disk: the newest heads that a reorg may lead back to; snapshots are some of them."""
MEMORY_PER_PEER = 600 << 20
"""What Python, torch and transformers take before any tensor of a model, with room for the data."""
TENSORS_PER_PEER = 14
"""Copies of all parameters (fp32) that a peer holds at its peak: model, gradients, optimiser, states, updates."""
FROZEN_BYTES, FOUR_BITS_BYTES = 4.0, 0.57
"""Of a parameter that is not trained, in memory; in four bits with what they are scaled by."""
MESSAGES_PER_ROUND, MESSAGE_BYTES = 6, 700
"""That a peer sends to each other one in a round, and what one takes on the wire, with its headers."""
AGREEING_S = 1.0
"""About what a round takes beside its inner steps."""


@dataclass(frozen=True)
class Needs:
    """Bytes. ``update_bytes``: one update; ``disk_bytes``: of all peers together; the rest is for one peer.

    ``up_bytes`` and ``down_bytes`` are for the whole run, on average over the peers: others' updates are passed on.

    ``parameters`` are trained and exchanged; ``total_parameters`` are those of the model, an adapter not counted.
    ``base_bytes`` and ``teacher_bytes`` are fetched by every peer, once, beside the data.
    """

    parameters: int
    update_bytes: int
    disk_bytes: int
    total_parameters: int = 0
    teacher_parameters: int = 0
    base_bytes: int = 0
    teacher_bytes: int = 0
    passed_parameters: int = 0
    """As many parameters, all trained, would take as long for a step."""
    state_bytes: int = 0
    memory_per_peer: int = 0
    disk_per_peer: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    data_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def needs_of(recipe: Recipe, base: Path | None = None) -> Needs:
    """What a run takes. Raises what the model's configuration does; a pretrained model is loaded to be counted.

    ``base`` is where the recipe's paths start: its files are measured there.
    """
    counts = _Counts.of(recipe, base or Path())
    algorithm = build_algorithm(algorithm_spec(recipe.algorithm), counts.layout)
    peers, rounds = recipe.membership.peers, recipe.rounds.count
    update, state = algorithm.payload_size, algorithm.state_size
    data, frozen = _data_bytes(recipe, base), counts.base_bytes + counts.teacher_bytes
    home = frozen + data + STATES_KEPT * 2 * state
    disk_per_peer = home + min(rounds, _rounds_kept(peers * update, state)) * peers * update
    archive = home + rounds * peers * update
    exchanged = rounds * (peers - 1) * (update + MESSAGES_PER_ROUND * MESSAGE_BYTES)
    return Needs(
        parameters=algorithm.layout.numel,
        update_bytes=update,
        disk_bytes=archive + (peers - 1) * disk_per_peer,
        state_bytes=state,
        memory_per_peer=MEMORY_PER_PEER + TENSORS_PER_PEER * 4 * algorithm.layout.numel + counts.memory,
        disk_per_peer=disk_per_peer,
        up_bytes=exchanged + data + frozen,
        down_bytes=exchanged + data + frozen + state,
        data_bytes=data,
        total_parameters=counts.total,
        teacher_parameters=counts.teacher,
        base_bytes=counts.base_bytes,
        teacher_bytes=counts.teacher_bytes,
        passed_parameters=counts.passed(recipe),
    )


def _rounds_kept(round_bytes: int, state_bytes: int) -> int:
    """Rounds whose updates a peer keeps that is not the archive: for who catches up."""
    room = max(UPDATES_FREE, UPDATES_PER_STATE * state_bytes)
    most = SNAPSHOTS_KEPT * PERIOD_ROUNDS_MAX
    return max(ROUNDS_OF_BLOBS_KEPT, min(most, room // max(1, round_bytes)))


def _data_bytes(recipe: Recipe, base: Path | None) -> int:
    if recipe.data.source != "files" or base is None:
        return CORPUS_BYTES
    found = {path for pattern in recipe.data.globs for path in base.glob(pattern) if path.is_file()}
    return sum(path.stat().st_size for path in found)


@dataclass(frozen=True)
class _Counts:
    """Parameters and bytes of a recipe's models."""

    layout: Layout
    total: int
    teacher: int
    base_bytes: int
    teacher_bytes: int
    memory: int
    """Of what is not trained."""

    @classmethod
    def of(cls, recipe: Recipe, folder: Path) -> "_Counts":
        section = located(recipe.model, folder)
        model = model_shape(section)
        layout, total = trainable_layout(model), parameters_of(model)
        adapter = section.adapter
        frozen = total if adapter is not None else total - layout.numel
        four_bits = 0
        if adapter is not None and adapter.quant == "nf4":
            linear = (item for item in plain_model(model).modules() if can_quantise(plain_model(model), item))
            four_bits = sum(item.weight.numel() for item in linear if isinstance(item, nn.Linear))
        memory = FROZEN_BYTES * (frozen - four_bits) + FOUR_BITS_BYTES * four_bits
        if needs_reference(recipe):
            memory += FROZEN_BYTES * total
        taught, taught_bytes = 0, 0
        if recipe.teacher is not None:
            path = located_path(recipe.teacher.path, folder)
            teacher = pretrained_shape(path, recipe.teacher.revision, "teacher")
            taught, taught_bytes = parameters_of(teacher), _stored(teacher.requires_grad_(False))
        return cls(
            layout,
            total,
            taught,
            _stored(model),
            taught_bytes,
            round(memory + FROZEN_BYTES * taught),
        )

    def passed(self, recipe: Recipe) -> int:
        """A pass forward is a third of a step; weights that stay as they are need no gradient of their own."""
        step = self.total * (2 / 3 if recipe.model.adapter is not None else 1)
        before = self.total / 3 if recipe.training.objective == "dpo" else 0
        return round(step + before + self.teacher / 3)


def _stored(model: nn.Module) -> int:
    """Bytes of what of a model is not trained, in the type that it is saved in."""
    return sum(item.nbytes for item in model.parameters() if not item.requires_grad)


@dataclass(frozen=True)
class Duration:
    """Seconds of the inner steps of a round, and of all rounds, with the peers on one machine or on one each."""

    step: StepTime
    round_s: float
    here_s: float
    apart_s: float


def duration_of(recipe: Recipe, step: StepTime) -> Duration:
    """How long a run takes whose steps take so long."""
    steps = algorithm_spec(recipe.algorithm).inner_steps
    round_s, factor = steps * step.seconds, sharing(recipe.membership.peers)
    rounds = recipe.rounds.count
    return Duration(step, round_s, rounds * (factor * round_s + AGREEING_S), rounds * (round_s + AGREEING_S))


def needs_text(recipe: Recipe, needs: Needs, time: Duration) -> str:
    """What a run takes, for people."""
    peers, rounds = recipe.membership.peers, recipe.rounds.count
    rows = [
        ("Model", f"{model_text(needs)}; {size(needs.update_bytes)} an update"),
        (
            "Memory",
            f"{size(needs.memory_per_peer)} for each peer ({size(peers * needs.memory_per_peer)} with all here)",
        ),
        (
            "Disk",
            f"{size(needs.disk_per_peer)} for a peer; {size(needs.disk_bytes)} for all {peers} with an archive",
        ),
        (
            "Bytes a peer",
            f"{size(needs.up_bytes)} up, {size(needs.down_bytes)} down, of them {size(needs.data_bytes)} data",
        ),
        ("Time", f"{duration(time.here_s)} for {rounds} rounds with all {peers} peers on this machine"),
        ("", f"{duration(time.apart_s)} if each has one like it ({time.step.how})"),
    ]
    frozen = needs.base_bytes + needs.teacher_bytes
    if frozen:
        rows.insert(1, ("", f"{size(frozen)} of weights that stay as they are, fetched once by every peer"))
    return "\n".join(f"  {label:<13} {text}" for label, text in rows)


def model_text(needs: Needs) -> str:
    """How many parameters there are, of what kinds."""
    teacher = f", a teacher of {needs.teacher_parameters:,}" if needs.teacher_parameters else ""
    if needs.parameters == needs.total_parameters:
        return f"{needs.parameters:,} parameters{teacher}"
    return f"{needs.parameters:,} trained parameters on {needs.total_parameters:,}{teacher}"
