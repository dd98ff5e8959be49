"""Replay: recompute a run from genesis and published bytes alone, and say who or what is wrong if it cannot be.

Nothing is believed but the last head on the ledger (or one that the caller knows): every head commits to the one
before, every body to its list and state, every list to its updates and keys, every update to its ciphertext. No later
state is ever read: the only one that is loaded is the initial one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from distrai.algorithms.algorithm import Algorithm, Entry
from distrai.algorithms.state import GlobalState
from distrai.network.store import BlobStore
from distrai.peer.aggregation import Aggregation
from distrai.peer.plan import Plan
from distrai.peer.records import CertificateRecord, RollCallRecord
from distrai.peer.store import PublicFolder
from distrai.protocol.body import Body, has_quorum
from distrai.protocol.checks import check_update
from distrai.protocol.cipher import binding, check_key
from distrai.protocol.errors import (
    BadSignature,
    NotASeat,
    NotEnoughSignatures,
    RepeatedSigner,
    WrongMembershipChange,
    WrongStateRoot,
)
from distrai.protocol.lists import CertifiedList, check_list, check_signatures
from distrai.protocol.merkle import state_root
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Hash
from distrai.protocol.rewards import WorkedRound, accepted_tokens
from distrai.protocol.seating import check_published
from distrai.protocol.signatures import recover
from distrai.protocol.standing import Standing, advance, call_roll
from distrai.protocol.typed_data import Domain
from distrai.runs.published import Anchor, Published, ReplayFailed, blaming, first_standing

__all__ = ["Anchor", "Replay", "ReplayFailed", "Replayed"]


@dataclass(frozen=True)
class Replayed:
    """What a replay arrived at.

    ``heads`` are those after each round, from the start's on; ``worked`` the rounds that were not empty, with the
    tokens that count for rewards.
    """

    rounds: int
    head: Hash
    state_root: Hash
    updates: int
    state: bytes
    heads: tuple[Hash, ...] = ()
    worked: tuple[WorkedRound, ...] = ()


class Replay:
    """One replay over the public folder and the blobs of an archive."""

    def __init__(self, public: PublicFolder, blobs: BlobStore, on_round: Callable[[int, int], None]) -> None:
        """``on_round`` is told each round that was replayed, and its updates."""
        self.published, self.on_round = Published(public, blobs), on_round

    def run(self, anchor: Anchor) -> Replayed:
        """Replay to the anchor. Raises ReplayFailed."""
        record = self.published.genesis()
        standing = first_standing(record)
        links = self.published.links(anchor, standing)
        plan = self.published.plan(record.genesis)
        initial = self.published.initial_state(plan)
        with _one_thread():
            algorithm = Algorithm(plan.spec, plan.layout, rate=plan.rate)
            domain = Domain(record.genesis.chain_id, record.genesis.registry)
            step = _Step(domain, plan, algorithm, self.published.blobs)
            with blaming("initial state", 0):
                state = algorithm.state_from_bytes(initial)
            updates, heads, worked = 0, [standing.head], list[WorkedRound]()
            for link in links:
                if isinstance(link, RollCallRecord):
                    standing, listed = step.roll_call(standing, link), 0
                else:
                    certified = self.published.certified_list(standing.round + 1)
                    standing, state = step.round(standing, state, link, certified)
                    listed = len(certified.entries)
                    worked += [WorkedRound(standing.round, accepted_tokens(certified))] if listed else []
                updates += listed
                heads.append(standing.head)
                self.on_round(standing.round, listed)
            data = algorithm.state_bytes(state)
        assert standing.head == anchor.head, "the chain of heads was proved before"
        root = standing.state_root
        return Replayed(standing.round, standing.head, root, updates, data, tuple(heads), tuple(worked))


@contextmanager
def _one_thread() -> Iterator[None]:
    """States are small, and the order of sums must not depend on threads anyway."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Step:
    """One round of a replay."""

    domain: Domain
    plan: Plan
    algorithm: Algorithm
    blobs: BlobStore

    def round(
        self, standing: Standing, state: GlobalState, certificate: CertificateRecord, certified: CertifiedList
    ) -> tuple[Standing, GlobalState]:
        """Standing and state after a round. Raises ReplayFailed."""
        body, number = certificate.body, standing.round + 1
        with blaming(f"certificate of round {number}", number):
            self._check_attestations(certificate, standing)
        with blaming(f"list of round {number}", number):
            check_list(certified, body)
            keys = standing.signing_keys(certified.updates)
            check_signatures(certified, keys, self.domain, recover)
        with blaming(f"certificate of round {number}", number):
            check_published(standing, self.plan.rules.run, body, certified)
        entries = [
            self._open(update, entry.key, standing)
            for update, entry in zip(certified.updates, certified.entries, strict=True)
        ]
        if not body.is_empty:
            state = self._apply(state, entries, body)
        return advance(standing, body, certified, {}, self.plan.rules.run.staleness), state

    def roll_call(self, standing: Standing, record: RollCallRecord) -> Standing:
        """The standing after a roll call, which leaves the state as it is. Raises ReplayFailed.

        That those who stay did check in, and were enough, is for the ledger to know: its head is what is believed.
        """
        with blaming(f"roll call of round {record.round}", record.round):
            seats = standing.seat_members
            if record.state_root != standing.state_root:
                raise WrongStateRoot("a roll call changes the state")
            if list(record.drops) != sorted(set(record.drops)) or not set(record.drops) < set(seats):
                raise WrongMembershipChange("it drops somebody twice, or who has no seat, or everybody")
            return call_roll(standing, self.plan.rules.run, record.drops, {})

    def _check_attestations(self, certificate: CertificateRecord, standing: Standing) -> None:
        """What the contract checked: enough seats signed this body, each once."""
        seats = {seat.key for seat in standing.seats}
        signers = [recover(self.domain.digest(certificate.body.id), item) for item in certificate.signatures]
        if any(signer not in seats for signer in signers):
            raise NotASeat("it is signed by a key that has no seat, or a signature was changed")
        if len(set(signers)) != len(signers):
            raise RepeatedSigner("a seat signed it twice")
        if signers != sorted(signers):
            raise BadSignature("its signatures are not in the order of their signers")
        if not has_quorum(len(signers), len(seats)):
            raise NotEnoughSignatures(f"{len(signers)} of {len(seats)} seats signed")

    def _open(self, update: Update, key: bytes, standing: Standing) -> Entry:
        """What an update of the list contributes, after all absolute checks."""
        number = standing.round + 1
        with blaming(f"update of member {update.member.hex()[:12]} in round {number}", number):
            check_update(update, standing, self.plan.rules.work)
            bound = binding(update.run, update.round, update.previous_head, update.member)
            check_key(key, bound, update.key_hash)
            payload = Aggregation(self.algorithm, self._norm_ceiling, self.blobs.chunks).open(update, key)
            return Entry(update.member, update.tokens, payload, number - update.round)

    @property
    def _norm_ceiling(self) -> float:
        return self.plan.resolved.recipe.limits.norm_ceiling

    def _apply(self, state: GlobalState, entries: list[Entry], body: Body) -> GlobalState:
        with blaming(f"state of round {body.round}", body.round):
            following = self.algorithm.step(state, entries, body.round).state
            root = state_root(self.algorithm.state_bytes(following))
            if root != body.state_root:
                raise WrongStateRoot(
                    f"the updates lead to 0x{root.hex()}, the certificate says 0x{body.state_root.hex()}"
                )
            return following
