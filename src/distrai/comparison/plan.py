"""A comparison, read and checked: what is common to its arms, and the arms."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from distrai.algorithms.section import algorithm_spec
from distrai.algorithms.spec import AlgorithmSpec
from distrai.comparison.sections import (
    AbsenceSection,
    ArmSection,
    CompareRecipe,
    LinkSection,
    LookingSection,
    SweepSection,
)
from distrai.protocol.recipe import (
    AlgorithmSection,
    DataSection,
    LimitsSection,
    MembershipSection,
    ModelSection,
    Recipe,
    RecipeError,
    RoundsSection,
    TrainingSection,
)
from distrai.protocol.recipe.reading import read_dataclass
from distrai.protocol.recipe.rules import check_rules


@dataclass(frozen=True)
class Arm:
    """An algorithm with its settings; the learning rates in it are where a sweep begins."""

    name: str
    spec: AlgorithmSpec
    training: TrainingSection
    inner_rungs: tuple[float, ...]
    """Inner learning rates to try first; none: ``training.lr`` is not swept."""
    outer_rungs: tuple[float, ...]
    """Outer learning rates to try first; none: ``spec.outer_lr`` is not swept."""
    rates_of: str
    speeds: tuple[float, ...]
    """Relative time of a step of each peer."""
    absent: tuple[AbsenceSection, ...]

    @property
    def is_plain(self) -> bool:
        """Whether everybody takes H steps in every round, so that the tokens of a round are known beforehand."""
        even = self.spec.pace == "fixed" or len(set(self.speeds)) == 1
        return not self.absent and even and self.spec.staleness == 0 and self.spec.quorum == 0

    @property
    def averages_gradients(self) -> bool:
        """Whether it is the data-parallel baseline: one optimiser, and no round of any kind."""
        return not self.spec.network and self.spec.global_state


@dataclass(frozen=True)
class Comparison:
    """All that ``distrai compare`` goes by."""

    name: str
    model: ModelSection
    data: DataSection
    tokens: int
    peers: int
    seeds: tuple[int, ...]
    sweep: SweepSection
    looking: LookingSection
    links: tuple[LinkSection, ...]
    arms: tuple[Arm, ...]
    folder: Path
    """Where the paths of ``data`` start."""
    source: tuple[Mapping[str, Any], Mapping[str, Any], Path]
    """What it was read from: the arguments of ``parse_comparison``."""

    def arm(self, name: str) -> Arm:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def steps(self, arm: Arm) -> int:
        """Inner steps that each peer takes, on average, in the whole run."""
        return self.tokens // (self.peers * step_tokens(arm.training, self.data))

    def selected(self, names: Iterable[str]) -> tuple[Arm, ...]:
        """The arms of these names, all if there are none. Raises RecipeError for a name that is unknown."""
        wanted = list(names)
        known = [arm.name for arm in self.arms]
        for name in wanted:
            if name not in known:
                raise RecipeError("--only", f'no arm is called "{name}"', _close(name, known))
        return tuple(arm for arm in self.arms if not wanted or arm.name in wanted)


def step_tokens(training: TrainingSection, data: DataSection) -> int:
    """Tokens of one inner step of one peer."""
    return training.batch * training.accumulation * data.context


def parse_comparison(mapping: Mapping[str, Any], base: Mapping[str, Any], folder: Path) -> Comparison:
    """A comparison from plain data. ``base`` is the recipe that it builds upon (may be empty).

    Raises RecipeError with the path of the key, what is wrong with it and what to write instead.
    """
    recipe = read_dataclass(CompareRecipe, mapping, "")
    merged = {key: {**base.get(key, {}), **getattr(recipe, key)} for key in ("model", "data", "training")}
    merged["model"]["config"] = {
        **base.get("model", {}).get("config", {}),
        **_table(recipe.model.get("config", {})),
    }
    model = read_dataclass(ModelSection, merged["model"], "model")
    data = read_dataclass(DataSection, merged["data"], "data")
    training = read_dataclass(TrainingSection, merged["training"], "training")
    found = Comparison(
        name=recipe.name,
        model=model,
        data=data,
        tokens=recipe.tokens,
        peers=recipe.peers,
        seeds=recipe.seeds,
        sweep=recipe.sweep,
        looking=recipe.evaluation,
        links=recipe.links,
        arms=(),
        folder=folder,
        source=(mapping, base, folder),
    )
    _check_learning("", data, training)
    check_rules(full_recipe(found, AlgorithmSection(preset="any"), training, seed=0, rounds=1))
    _check_ladder("sweep", recipe.sweep.inner, recipe.sweep.outer)
    arms = tuple(_arm(f"arms[{at}]", arm, recipe, merged["training"]) for at, arm in enumerate(recipe.arms))
    found = replace(found, arms=arms)
    _check_names(arms)
    _check_rates_of(arms)
    for at, arm in enumerate(arms):
        _check_length(f"arms[{at}]", arm, found)
    return found


def full_recipe(
    comparison: Comparison, algorithm: AlgorithmSection, training: TrainingSection, *, seed: int, rounds: int
) -> Recipe:
    """What ``distrai run`` would be given for one run of an arm: the engine is configured by this."""
    return Recipe(
        name=comparison.name,
        seed=seed,
        model=comparison.model,
        data=comparison.data,
        algorithm=algorithm,
        training=training,
        rounds=RoundsSection(count=rounds, cut_s=30.0, hard_s=60.0, stall_seconds=600),
        membership=MembershipSection(peers=comparison.peers),
        limits=LimitsSection(norm_ceiling=1e12),
    )


def _arm(path: str, arm: ArmSection, recipe: CompareRecipe, training: Mapping[str, Any]) -> Arm:
    section = read_dataclass(AlgorithmSection, {"preset": arm.preset, **arm.algorithm}, f"{path}.algorithm")
    spec = algorithm_spec(section, f"{path}.algorithm")
    trained = read_dataclass(TrainingSection, {**training, **arm.training}, f"{path}.training")
    _check_learning(f"{path}.", None, trained)
    inner = recipe.sweep.inner if arm.sweep.inner is None else arm.sweep.inner
    outer = recipe.sweep.outer if arm.sweep.outer is None else arm.sweep.outer
    _check_ladder(f"{path}.sweep", inner, outer)
    _check_peers(path, arm, recipe.peers)
    found = Arm(
        name=arm.name,
        spec=spec,
        training=trained,
        inner_rungs=inner,
        outer_rungs=tuple(rounded(spec.outer_lr * factor) for factor in outer),
        rates_of=arm.rates_of,
        speeds=arm.speeds or (1.0,) * recipe.peers,
        absent=arm.absent,
    )
    if found.averages_gradients:
        if not found.is_plain or len(set(found.speeds)) > 1:
            raise RecipeError(
                path, f"{arm.preset} averages the gradients of everybody", "delete speeds and absent"
            )
        return replace(found, outer_rungs=())
    if not spec.global_state and not found.is_plain:
        hint = "delete speeds and absent, staleness and quorum"
        raise RecipeError(path, f"{arm.preset} pairs peers that are all there", hint)
    if spec.inner_optimiser == "sgd" and arm.sweep.inner is None:
        return replace(found, inner_rungs=())  # the outer rate alone says how far a gradient goes
    return found


def _check_learning(path: str, data: DataSection | None, training: TrainingSection) -> None:
    """A comparison is of ways to train on text: what else a run may learn from is not compared."""
    if training.objective != "next-token":
        hint = 'use objective = "next-token", and `distrai run` for the others'
        raise RecipeError(f"{path}training.objective", f'"{training.objective}" is not compared', hint)
    if data is not None and data.format != "text":
        hint = 'use format = "text", and `distrai run` for conversations'
        raise RecipeError(f"{path}data.format", f'"{data.format}" is not compared', hint)


def rounded(rate: float) -> float:
    """A rate with six digits: what is in names, hashes and tables."""
    return float(f"{rate:.6g}")


def _check_ladder(path: str, inner: Sequence[float], outer: Sequence[float]) -> None:
    for key, rungs in (("inner", inner), ("outer", outer)):
        if any(below >= above for below, above in pairwise(rungs)):
            raise RecipeError(f"{path}.{key}", "does not ascend", "write the smallest rate first, each once")


def _check_peers(path: str, arm: ArmSection, peers: int) -> None:
    if arm.speeds and len(arm.speeds) != peers:
        raise RecipeError(
            f"{path}.speeds", f"has {len(arm.speeds)} items", f"give one for each of {peers} peers"
        )
    missing = {item.peer for item in arm.absent if item.every > 1 or item.start > 1}
    for at, item in enumerate(arm.absent):
        if item.peer >= peers:
            hint = f"the peers are 0 to {peers - 1}"
            raise RecipeError(f"{path}.absent[{at}].peer", f"there is no peer {item.peer}", hint)
    if len(missing) == peers:
        raise RecipeError(f"{path}.absent", "nobody is there in every round", "leave one peer out of it")


def _check_names(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    for at, name in enumerate(names):
        if not all(letter.isalnum() or letter in "-+.=" for letter in name) or name.startswith("."):
            hint = "use letters, digits and - + . = only: it names files"
            raise RecipeError(f"arms[{at}].name", f'"{name}"', hint)
        if name in names[:at]:
            raise RecipeError(
                f"arms[{at}].name", f'"{name}" is there twice', "give every arm a name of its own"
            )


def _check_rates_of(arms: Sequence[Arm]) -> None:
    by_name = {arm.name: arm for arm in arms}
    for at, arm in enumerate(arms):
        if not arm.rates_of:
            continue
        if arm.rates_of not in by_name:
            hint = _close(arm.rates_of, list(by_name))
            raise RecipeError(f"arms[{at}].rates_of", f'no arm is called "{arm.rates_of}"', hint)
        if by_name[arm.rates_of].rates_of:
            hint = f'name the arm that is swept, "{by_name[arm.rates_of].rates_of}"'
            raise RecipeError(f"arms[{at}].rates_of", f'"{arm.rates_of}" has no rates of its own', hint)
        if by_name[arm.rates_of].spec.outer != arm.spec.outer:
            problem = f'"{arm.rates_of}" has outer "{by_name[arm.rates_of].spec.outer}", this arm "{arm.spec.outer}"'
            raise RecipeError(f"arms[{at}].rates_of", problem, "give the arm a sweep of its own")


def _check_length(path: str, arm: Arm, comparison: Comparison) -> None:
    """Equal tokens mean whole steps of everybody, and whole rounds where rounds are equal."""
    unit = comparison.peers * step_tokens(arm.training, comparison.data)
    steps, rest = divmod(comparison.tokens, unit)
    if rest or not steps:
        near = max(1, round(comparison.tokens / unit)) * unit
        problem = (
            f"{comparison.tokens} is not a multiple of a step of all peers of {arm.name} ({unit} tokens)"
        )
        raise RecipeError("tokens", problem, f"use {near}")
    length = min(arm.spec.inner_steps, steps)
    if arm.spec.overlap >= length:
        problem = f"overlap {arm.spec.overlap} is not below the {length} steps of its only round"
        raise RecipeError(f"{path}.algorithm.overlap", problem, "give more tokens, or shorter rounds")
    if arm.is_plain and not arm.averages_gradients and steps % length:
        problem = f"{length} does not divide the {steps} steps of each peer, and tokens are to be equal"
        near = max(1, round(steps / length)) * length * unit
        hint = f"use a divisor of {steps}, or tokens = {near}"
        raise RecipeError(f"{path}.algorithm.inner_steps", problem, hint)


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _close(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"the arms are {', '.join(known)}"
