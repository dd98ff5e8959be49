"""Replay: recompute a run from genesis and published bytes alone, and say who or what is wrong if it cannot be.

Nothing is believed but the last head on the ledger (or one that the caller knows): heads commit to the ones before,
every body to its list and state, every list to its updates and keys, every update to its ciphertext. No later state is
ever read: the only one that is loaded is the initial one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from distrai.algorithms.algorithm import Algorithm
from distrai.algorithms.errors import PayloadError
from distrai.algorithms.state import GlobalState
from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.aggregation import Aggregation
from distrai.peer.plan import Plan
from distrai.peer.records import CertificateRecord, GenesisRecord
from distrai.peer.store import PublicFolder
from distrai.protocol.blobs import BlobRef, check_blob
from distrai.protocol.body import Body, check_body, has_quorum, start_head
from distrai.protocol.canonical import decode_canonical
from distrai.protocol.checks import check_update
from distrai.protocol.cipher import binding, check_key
from distrai.protocol.errors import (
    BadSignature,
    NotASeat,
    NotEnoughSignatures,
    ProtocolError,
    RepeatedSigner,
    WrongBlob,
    WrongHead,
    WrongRound,
    WrongStateRoot,
)
from distrai.protocol.lists import CertifiedList, check_list, check_signatures, decode_list
from distrai.protocol.merkle import state_root
from distrai.protocol.messages import Update
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.protocol.signatures import recover
from distrai.protocol.standing import Seat, Standing, advance, check_succession
from distrai.protocol.typed_data import Domain


class ReplayFailed(ValueError):
    """The published bytes are not the run: ``culprit`` is what is wrong or missing, ``rule`` the error's name."""

    def __init__(self, culprit: str, rule: str, why: str, round_number: int) -> None:
        super().__init__(f"{culprit}: {rule}: {why}")
        self.culprit, self.rule, self.why, self.round = culprit, rule, why, round_number


class Missing(ValueError):
    """A published file or blob is not there."""


@dataclass(frozen=True)
class Replayed:
    """What a replay arrived at."""

    rounds: int
    head: Hash
    state_root: Hash
    updates: int
    state: bytes


@dataclass(frozen=True)
class Anchor:
    """The head that is believed, and how many rounds lead to it (None: however many there are)."""

    head: Hash
    rounds: int | None = None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Missing(f"{what} is missing ({path.name} in {path.parent})") from None


@contextmanager
def _blaming(culprit: str, round_number: int) -> Iterator[None]:
    """Say what was being looked at when a rule was found broken."""
    try:
        yield
    except (ProtocolError, PayloadError, MissingBlob, Missing, msgspec.MsgspecError) as error:
        raise ReplayFailed(culprit, type(error).__name__, str(error), round_number) from error


class Replay:
    """One replay over the public folder and the blobs of an archive."""

    def __init__(self, public: PublicFolder, blobs: BlobStore, on_round: Callable[[int, int], None]) -> None:
        """``on_round`` is told each round that was replayed, and its updates."""
        self.public, self.blobs, self.on_round = public, blobs, on_round

    def run(self, anchor: Anchor) -> Replayed:
        """Replay to the anchor. Raises ReplayFailed."""
        with _blaming("genesis", 0):
            data = _read(self.public.genesis_path, "how the run began")
            genesis = decode_canonical(data, GenesisRecord)
        plan = self._plan(genesis)
        standing = self._first(genesis)
        domain = Domain(genesis.genesis.chain_id, genesis.genesis.registry)
        torch.set_num_threads(1)  # states are small, and the order of sums must not depend on threads anyway
        algorithm = Algorithm(plan.spec, plan.layout)
        step = _Step(domain, plan, algorithm, self.blobs)
        state = self._initial_state(plan, algorithm)
        updates = 0
        for number in self._rounds(anchor, standing):
            standing, state, count = step.round(
                standing, state, self._certificate(number), self._list(number)
            )
            updates += count
            self.on_round(number, count)
        if standing.head != anchor.head:
            raise ReplayFailed(
                f"the head of round {standing.round}",
                "WrongHead",
                f"replay arrives at 0x{standing.head.hex()}, the ledger has 0x{anchor.head.hex()}: genesis, "
                "certificates and lists are of another run, or were forged together",
                standing.round,
            )
        data = algorithm.state_bytes(state)
        return Replayed(standing.round, standing.head, standing.state_root, updates, data)

    def _rounds(self, anchor: Anchor, first: Standing) -> Iterator[int]:
        number = 1
        while anchor.rounds is None or number <= anchor.rounds:
            if anchor.rounds is None and not self.public.certificate_path(number).exists():
                return
            yield number
            number += 1

    def _plan(self, record: GenesisRecord) -> Plan:
        with _blaming("recipe", 0):
            name = record.genesis.recipe_hash
            data = self._blob_by_name(name)
            resolved = ResolvedRecipe.from_bytes(data)
            agreed = (resolved.corpus.hash, resolved.tokenizer_hash, resolved.initial_root)
            genesis = record.genesis
            if agreed != (genesis.data_hash, genesis.tokenizer_hash, genesis.state_root):
                raise WrongBlob("the recipe names another corpus, tokenizer or initial state than genesis")
            return Plan.of(resolved)

    def _blob_by_name(self, name: Hash) -> bytes:
        blob = BlobRef(name, self.blobs.manifest(name)[0])
        data = self.blobs.read(blob)
        check_blob(blob, data)
        return data

    def _first(self, record: GenesisRecord) -> Standing:
        """The standing at the first head, as the published genesis gives it."""
        genesis = record.genesis
        seats = tuple(Seat(seat.member, seat.key, 0) for seat in record.seats)
        head = start_head(genesis.head, [(seat.member, seat.key) for seat in record.seats])
        return Standing(genesis.run, 0, head, genesis.state_root, seats, record.seats, 0, record.seats)

    def _initial_state(self, plan: Plan, algorithm: Algorithm) -> GlobalState:
        with _blaming("initial state", 0):
            data = self.blobs.read(plan.resolved.initial_state)
            if state_root(data) != plan.resolved.initial_root:
                raise WrongStateRoot("the initial state is not the one of genesis")
            return algorithm.state_from_bytes(data)

    def _certificate(self, number: int) -> CertificateRecord:
        with _blaming(f"certificate of round {number}", number):
            data = _read(self.public.certificate_path(number), f"the certificate of round {number}")
            return decode_canonical(data, CertificateRecord)

    def _list(self, number: int) -> CertifiedList:
        with _blaming(f"list of round {number}", number):
            return decode_list(_read(self.public.list_path(number), f"the list of round {number}"))


@dataclass(frozen=True)
class _Step:
    """One round of a replay."""

    domain: Domain
    plan: Plan
    algorithm: Algorithm
    blobs: BlobStore

    def round(
        self, standing: Standing, state: GlobalState, certificate: CertificateRecord, certified: CertifiedList
    ) -> tuple[Standing, GlobalState, int]:
        """Standing and state after a round, and how many updates it had. Raises ReplayFailed."""
        body, number = certificate.body, standing.round + 1
        with _blaming(f"certificate of round {number}", number):
            check_body(body)
            if body.round != number:
                raise WrongRound(f"it is of round {body.round}")
            self._check_attestations(certificate, standing)
        with _blaming(f"list of round {number}", number):
            check_list(certified, body)
            keys = {trainer.member: trainer.key for trainer in standing.trainers}
            check_signatures(certified, keys, self.domain, recover)
        with _blaming(f"certificate of round {number}", number):
            standing = replace(standing, next_trainers=certified.trainers)
            check_succession(standing, self.plan.rules.run, body)
        for update, entry in zip(certified.updates, certified.entries, strict=True):
            self._check_update(update, entry.key, standing)
        if not body.is_empty:
            state = self._apply(state, certified, body)
        listed = [update.member for update in certified.updates]
        return advance(standing, self.plan.rules.run, body, listed, {}), state, len(listed)

    def _check_attestations(self, certificate: CertificateRecord, standing: Standing) -> None:
        """What the contract checked: enough seats signed this body, each once."""
        if certificate.body.previous_head != standing.head:
            raise WrongHead(
                "it does not follow from the round before: genesis, or an earlier certificate, is forged"
            )
        seats = {seat.key for seat in standing.seats}
        signers = [recover(self.domain.digest(certificate.body.id), item) for item in certificate.signatures]
        if any(signer not in seats for signer in signers):
            raise NotASeat("it is signed by a key that has no seat, or the body was changed after signing")
        if len(set(signers)) != len(signers):
            raise RepeatedSigner("a seat signed it twice")
        if signers != sorted(signers):
            raise BadSignature("its signatures are not in the order of their signers")
        if not has_quorum(len(signers), len(seats)):
            raise NotEnoughSignatures(f"{len(signers)} of {len(seats)} seats signed")

    def _check_update(self, update: Update, key: bytes, standing: Standing) -> None:
        number = standing.round + 1
        with _blaming(f"update of member {update.member.hex()[:12]} in round {number}", number):
            check_update(update, standing, self.plan.rules.work)
            if (update.run, update.round, update.previous_head) != (standing.run, number, standing.head):
                raise WrongHead("it belongs to another round")
            check_key(
                key, binding(update.run, update.round, update.previous_head, update.member), update.key_hash
            )
            self._aggregation().open(update, key)

    def _aggregation(self) -> Aggregation:
        ceiling = self.plan.resolved.recipe.limits.norm_ceiling
        return Aggregation(self.algorithm, ceiling, self.blobs.read)

    def _apply(self, state: GlobalState, certified: CertifiedList, body: Body) -> GlobalState:
        with _blaming(f"state of round {body.round}", body.round):
            following = self._aggregation().apply(state, certified).state
            root = state_root(self.algorithm.state_bytes(following))
            if root != body.state_root:
                raise WrongStateRoot(
                    f"the updates lead to 0x{root.hex()}, the certificate says 0x{body.state_root.hex()}"
                )
            return following
