"""A peer's tensors: the common state, inner training from it, and what a certified list makes of it.

Two threads use it: one trains, the other computes what the round asks for. States are never changed in place, so the
trainer may go on with the one it started from.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.selftest import consensus_device
from distrai.algorithms.state import GlobalState
from distrai.peer.aggregation import Aggregation, members_of
from distrai.peer.events import Apply, Evaluate, Train, TrainAhead, TrainingDone
from distrai.peer.learner import FrozenModels, Learner
from distrai.peer.plan import Plan
from distrai.peer.store import PeerStore, write_atomically
from distrai.protocol.assignment import Block, DataOrder
from distrai.protocol.cipher import binding, seal_chunks, sealing_key
from distrai.protocol.errors import WrongStateRoot
from distrai.protocol.lists import CertifiedList
from distrai.protocol.merkle import state_root
from distrai.protocol.primitives import Hash, MemberId
from distrai.protocol.standing import Standing
from distrai.training.contribution import Ahead, Contributor, Trained
from distrai.training.data.dataset import Dataset
from distrai.training.device import training_device
from distrai.training.errors import BadInnerState, BadPrivateState
from distrai.training.evaluate import Evaluation, evaluate
from distrai.training.inner import InnerLoop
from distrai.training.model import load_trainable
from distrai.training.private import PrivateState
from distrai.training.tokenizer import Tokenizer


@dataclass(frozen=True)
class Corpus:
    """The data of a run, opened: what is trained on, what is held out."""

    train: Dataset
    held_out: Dataset
    tokenizer: Tokenizer


@dataclass(frozen=True)
class RoundReport:
    """What a peer can say about its own training of a round (loss in nats per token)."""

    loss: float
    steps: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Hooks:
    """How inner training is watched and ended."""

    should_stop: Callable[[], bool]
    """Asked before every step: throw everything away."""
    finish: Callable[[], bool]
    """Asked after every step: that is enough, seal it."""
    on_step: Callable[[int, float], None]


class Worker:
    """The tensors of one member in one run."""

    def __init__(
        self,
        plan: Plan,
        corpus: Corpus,
        store: PeerStore,
        member: MemberId,
        secret: bytes,
        device: str = "auto",
        frozen: FrozenModels | None = None,
    ) -> None:
        """``secret`` (32 bytes) is what the keys of the own updates are made of; it stays with the peer.

        ``frozen``: what the run has that is not trained; None where nothing is.
        """
        self.plan, self.corpus, self.store, self.member = plan, corpus, store, member
        self.secret = secret
        self.device = training_device(device)
        self.algorithm = Algorithm(plan.spec, plan.layout, consensus_device(self.device), plan.rate)
        recipe = plan.resolved.recipe
        self.aggregation = Aggregation(
            self.algorithm, recipe.limits.norm_ceiling, store.blobs.chunks, store.home / "opened"
        )
        learner = Learner.of(
            plan.resolved,
            frozen or FrozenModels(),
            corpus.tokenizer,
            self.algorithm,
            lambda: self.state_bytes(None),
            self.device,
        )
        self.model, self.objective = learner.model, learner.objective
        loop = InnerLoop(self.model, plan.inner, self.objective, corpus.train.batch, self.device)
        self.contributor = Contributor(self.algorithm, plan.inner, loop)
        self.order: DataOrder = plan.data_order(corpus.train.samples_total)
        self.state: GlobalState | None = None
        self._starts: dict[Hash | None, tuple[GlobalState, PrivateState]] = {}
        """What training may start from, by the head it follows (None before round 1): the newest state, and where the
        recipe allows older ones those of as many rounds before.
        """
        self.private = PrivateState()
        self._computed: dict[tuple[Hash, Hash], tuple[GlobalState, bytes, Hash, frozenset[MemberId]]] = {}
        self._model_lock = threading.Lock()
        self._ahead: tuple[Hash, Block, Ahead] | None = None
        """Inner steps of the next round: the head before the one they wait for, on which block."""

    # State

    def load(self, standing: Standing | None, data: bytes) -> None:
        """Go on from the state at ``standing`` (None: before round 1).

        Raises WrongStateRoot if these are not its bytes.
        """
        expected = self.plan.resolved.initial_root if standing is None else standing.state_root
        if state_root(data) != expected:
            raise WrongStateRoot(
                "the state on disk is damaged: remove this peer's home, and it starts afresh"
            )
        self.state, self.private = self.algorithm.state_from_bytes(data), PrivateState()
        self._starts.clear()
        head = None if standing is None or standing.round == 0 else standing.head
        if head is not None:
            self.private = self._private_at(self.store.private_path(head))
        self._follow(head)

    def _private_at(self, path: Path) -> PrivateState:
        """The private state in a file; a fresh one if there is none, or none that can be read, which is put aside."""
        if not path.exists():
            return PrivateState()
        try:
            return PrivateState.from_bytes(path.read_bytes(), self.plan.layout)
        except (BadPrivateState, BadInnerState):
            path.replace(path.with_suffix(".damaged"))
            return PrivateState()

    def _follow(self, head: Hash | None) -> None:
        """The state and the private state now follow ``head``."""
        assert self.state is not None
        self._starts[head] = (self.state, self.private)
        while len(self._starts) > self.plan.spec.staleness + 1:
            self._starts.pop(next(iter(self._starts)))

    def revert(self, standing: Standing | None) -> None:
        """Go back to the state at an earlier head, as after a restart there."""
        self._computed.clear()
        self.store.revert(standing)
        self.load(standing, self.state_bytes(standing))

    def state_bytes(self, standing: Standing | None) -> bytes:
        """The bytes of the state at ``standing``, from disk."""
        if standing is not None and self.store.has_state(standing.round):
            return self.store.state_after(standing.round, b"")
        return self.store.blobs.read(self.plan.resolved.initial_state)

    def evaluate_list(self, effect: Evaluate) -> Hash:
        """The state root that a list leads to. Raises what opening its updates raises."""
        return self._compute(effect.standing.head, effect.standing.round + 1, effect.certified)[2]

    def _compute(
        self, head: Hash, round_number: int, certified: CertifiedList
    ) -> tuple[GlobalState, bytes, Hash, frozenset[MemberId]]:
        root = certified.updates_root
        known = self._computed.get((head, root))
        if known is not None:
            return known
        assert self.state is not None
        result = self.aggregation.apply(self.state, certified, round_number)
        data = self.algorithm.state_bytes(result.state)
        counted = frozenset(
            member for member, weight in zip(members_of(certified), result.weights, strict=True) if weight > 0
        )
        self._computed[head, root] = (result.state, data, state_root(data), counted)
        return self._computed[head, root]

    def apply(self, effect: Apply) -> None:
        """Take over what landed: state, private state and checkpoint are on disk when this returns.

        Raises WrongStateRoot if more than two thirds of the seats certified another state than their list gives.
        """
        counted, data = False, b""
        if effect.body is not None and effect.certified is not None and not effect.body.is_empty:
            state, data, root, members = self._compute(
                effect.before.head, effect.body.round, effect.certified
            )
            if root != effect.body.state_root:
                raise WrongStateRoot(
                    f"round {effect.body.round}: the ledger's state is not what its updates give. Two thirds of the "
                    "seats are not honest; stop here and open a new run from the last good state"
                )
            self.state, counted = state, self.member in members
        trained = self._decided(effect)
        if trained is not None:
            self.private = trained.settle(counted)
        elif effect.own:  # what was sent is not known any more: better to send less than to send it twice
            self.private = replace(self.private, feedback=None, onward=None)
        self._computed.clear()
        self.store.save_applied(effect, data, self.private.to_bytes())
        self._follow(effect.standing.head)

    def _decided(self, effect: Apply) -> Trained | None:
        """The own work that is decided now: its update was listed, or it has become too old to be listed.

        A peer has one update under way at most. One that was listed before is settled already.
        """
        before, number = effect.before, effect.standing.round
        listed = () if effect.certified is None else effect.certified.updates
        own = [update.previous_head for update in listed if update.member == self.member]
        too_old = [
            base.head
            for base in (*before.bases, before.base)
            if base.round < number - self.plan.spec.staleness
            and (self.member, base.round) not in before.spent
        ]
        found = (self._trained_from(head) for head in own or too_old)
        return next((trained for trained in found if trained is not None), None)

    def _trained_from(self, head: Hash) -> Trained | None:
        """What was trained from a head, if it is kept and can be read; another thread may forget it at any time."""
        try:
            return Trained.from_bytes(self.store.trained_path(head).read_bytes(), self.plan.layout)
        except (FileNotFoundError, BadPrivateState, BadInnerState):
            return None

    def _forget_what_was_not_said(self, standing: Standing) -> None:
        """Training anew means that nothing is under way: what was trained before and not listed never will be."""
        for base in standing.bases:
            if (self.member, base.round) not in standing.spent:
                self.store.trained_path(base.head).unlink(missing_ok=True)

    # Training

    def train(self, effect: Train, hooks: Hooks) -> tuple[TrainingDone, RoundReport] | None:
        """Run the inner steps of a round and seal what came out; None if it was stopped before the end.

        None, too, if the state of that head is not here any more: after a reorg StateApplied of the right one follows.
        """
        standing, number = effect.standing, effect.standing.round + 1
        found = self._starts.get(standing.head if standing.round else None)
        if found is None:
            return None
        start, private = found
        self._forget_what_was_not_said(standing)
        with self._model_lock:
            trained = self.contributor.train(
                number,
                start,
                private,
                self._samples(effect.block),
                steps=effect.steps,
                ahead=self._ahead_of(effect),
                seed=self.plan.resolved.recipe.seed + number,
                should_stop=hooks.should_stop,
                finish=hooks.finish,
                on_step=hooks.on_step,
            )
        if trained is None or hooks.should_stop():
            return None
        bound = binding(standing.run, number, standing.head, self.member)
        key = sealing_key(self.secret, trained.payload, bound)
        blob = self.store.blobs.put_chunks(seal_chunks(trained.payload, key, bound))
        write_atomically(self.store.trained_path(standing.head), trained.to_bytes())
        report = RoundReport(trained.loss_mean, trained.steps, trained.tokens, trained.seconds)
        return TrainingDone(standing.head, blob, key, trained.steps, trained.tokens, trained.tau), report

    def train_ahead(self, effect: TrainAhead, hooks: Hooks) -> None:
        """Take the inner steps of the round after the next head that need not wait for that head."""
        head = effect.standing.head
        trained = self._trained_from(head)
        if trained is None or trained.onward is None:
            return
        onward = trained.onward
        with self._model_lock:
            ahead = self.contributor.ahead(
                onward,
                self._samples(effect.block),
                seed=self.plan.resolved.recipe.seed + onward.round + 1,
                should_stop=hooks.should_stop,
                on_step=hooks.on_step,
            )
        self._ahead = None if ahead is None else (head, effect.block, ahead)

    def is_ahead_of(self, ahead: TrainAhead, train: Train) -> bool:
        """Whether the steps that were asked for ahead are of this very round."""
        return (ahead.standing.head, ahead.block) == (train.standing.before, train.block)

    def _ahead_of(self, effect: Train) -> Ahead | None:
        """The steps of this round that were taken already, if any."""
        known, self._ahead = self._ahead, None
        if known is None or known[:2] != (effect.standing.before, effect.block):
            return None
        return known[2]

    def _samples(self, block: Block) -> Iterator[int]:
        return (self.order.sample_at(block.start + at) for at in range(block.length))

    # Looking at the model

    def held_out(self, samples: int) -> Evaluation | None:
        """Held-out loss of the common state, if the model is not being trained just now."""
        state = self.state
        if state is None or not self._model_lock.acquire(blocking=False):
            return None
        try:
            load_trainable(self.model, state.params)
            with torch.random.fork_rng(devices=[]):
                held_out, tokenizer = self.corpus.held_out, self.corpus.tokenizer
                return evaluate(self.model, held_out, tokenizer, samples, self.device, self.objective)
        finally:
            self._model_lock.release()
