"""What follows from a resolved recipe, the same for every peer and every replayer."""

from dataclasses import dataclass

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.layout import Layout
from distrai.algorithms.presets import AlgorithmSpec, resolve_preset
from distrai.peer.identity import Timing
from distrai.peer.round import Rules
from distrai.protocol.assignment import DataOrder
from distrai.protocol.checks import WorkRules
from distrai.protocol.cipher import sealed_size
from distrai.protocol.keccak import tagged_hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.protocol.standing import RunRules
from distrai.training.spec import InnerSpec, schedule_of


@dataclass(frozen=True)
class Plan:
    """A run's algorithm, layout, inner settings and rules."""

    resolved: ResolvedRecipe
    spec: AlgorithmSpec
    layout: Layout
    inner: InnerSpec
    codec: str
    payload_sizes: tuple[int, ...]
    """Bytes of a payload, for each fragment of the model."""
    state_bytes: int

    @classmethod
    def of(cls, resolved: ResolvedRecipe) -> "Plan":
        """Raises ValueError if the recipe's algorithm does not exist here."""
        recipe = resolved.recipe
        spec = resolve_preset(recipe.algorithm.preset, resolved.algorithm, recipe.checks)
        layout = Layout.from_pairs(resolved.layout)
        algorithm = Algorithm(spec, layout)
        inner = InnerSpec.from_recipe(resolved.recipe)
        return cls(
            resolved, spec, layout, inner, algorithm.codec_id, algorithm.payload_sizes, algorithm.state_size
        )

    def rate(self, round_number: int) -> float:
        """The share of its highest value that a learning rate has in a round; the outer one if it follows that."""
        return schedule_of(self.resolved.recipe.training).factor(round_number / self.inner.rounds)

    @property
    def rules(self) -> Rules:
        """What the engine goes by."""
        recipe = self.resolved.recipe
        rounds, members = recipe.rounds, recipe.membership
        spec = self.spec
        work = WorkRules(
            self.codec,
            tuple(sealed_size(size) for size in self.payload_sizes),
            self.inner.inner_steps,
            self.inner.step_tokens,
            spec.overlap,
        )
        run = RunRules(
            members.min_seats,
            self.inner.round_samples,
            members.max_seats,
            staleness=spec.staleness,
            lag=int(spec.overlap > 0),
        )
        timing = Timing(rounds.d0_s, rounds.cut_s, rounds.hard_s)
        return Rules(
            run,
            work,
            timing,
            rounds.min_updates,
            rounds.count,
            stall_s=float(rounds.stall_seconds),
            measured_pace=spec.pace == "measured",
            quorum=spec.quorum,
        )

    def data_order(self, samples: int) -> DataOrder:
        """The order in which the run reads a data set of ``samples``."""
        return DataOrder(samples, tagged_hash("data-order", self.resolved.blob.hash))
