"""A real peer that lies: an honest engine whose effects are twisted on their way out, as in the simulator.

The twists are those of ``distrai.simulation.liars`` where they fit, on real keys, ciphertexts and payloads; others are
here. The liar plays one kind after the other, each for a round; kinds of proposals when it is its turn to propose,
again and again until it came to propose before the others were done. Once all are played it keeps its Haves for ever,
so that every round needs a proposer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from coincurve._libsecp256k1 import ffi
from msgspec.structs import replace

from distrai.algorithms.moments import Moments
from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.events import CheckIn, Effect, Evaluate, Send, Submit
from distrai.peer.runtime import Runtime
from distrai.protocol.assignment import proposer
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.cipher import binding, key_hash, seal
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import (
    BodySignature,
    Have,
    Key,
    ListRequest,
    Proposal,
    Signed,
    Update,
    open_envelope,
)
from distrai.protocol.primitives import Hash, MemberId, SignatureBytes
from distrai.simulation import liars
from distrai.simulation.forging import announced, forge, without
from distrai.simulation.toy import Sealed

FIRST_ROUND = 2
"""The first round in which it lies."""


# Further kinds of lies


def silent(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Says nothing about the round. It asks for lists that it missed: else it would never come to the next lie."""
    if not isinstance(effect, Send | Submit) or announced(peer, effect, ListRequest):
        yield effect


def false_haves(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Says that it holds what nobody ever announced, and nothing of what it holds."""
    if own := announced(peer, effect, Have):
        send, have = own
        names = tuple(sorted(Hash(peer.random.randbytes(32)) for _ in have.updates))
        yield Send(send.to, (forge(peer, have, updates=names).raw,))
    else:
        yield from without(peer, effect, Have)


def copies(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Announces the ciphertext of another as its own; nothing before there is one to copy."""
    round_ = peer.engine.round
    if "copy" not in peer.memory and round_.own.update is not None:
        made = liars._copied(peer, round_.own.update.message)
        if made is not None:
            peer.memory["copy"] = made
            yield Send(round_.everyone, (made[0].raw,), made[1].blob)
    if (revealed := announced(peer, effect, Key)) and "copy" in peer.memory:
        update, sealed = peer.memory["copy"]
        yield Send(revealed[0].to, (forge(peer, revealed[1], update=update.id, key=sealed.key).raw,))
    for kept in without(peer, effect, Update):
        yield from without(peer, kept, Key)


def two_words(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Tells everybody two different Haves."""
    yield effect
    if own := announced(peer, effect, Have):
        send, have = own
        yield Send(send.to, (forge(peer, have, updates=have.updates[1:]).raw,))


def checks_in(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Checks in although nobody called, with everything it announces."""
    yield effect
    if announced(peer, effect, Update) or announced(peer, effect, Have) or announced(peer, effect, Key):
        yield CheckIn()


def two_bodies(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Attests different bodies to different members, in any attempt and on the fast path."""
    own = announced(peer, effect, BodySignature)
    if own is None:
        yield from without(peer, effect, BodySignature)
        return
    send, message = own
    for target in send.to:
        body_id = keccak(b"another body" + target)
        attestation = peer.identity.sign(peer.identity.domain.digest(body_id))
        yield Send((target,), (forge(peer, message, body_id=body_id, attestation=attestation).raw,))


def _proposing(make: Callable[[Any, Send, Proposal], Iterator[Effect]]) -> Callable[..., Iterator[Effect]]:
    """Keeps its Have, so that there are proposals, and lets ``make`` say what becomes of its own."""

    def twist(peer: Any, effect: Effect) -> Iterator[Effect]:
        if own := announced(peer, effect, Proposal):
            peer.tell()
            yield from make(peer, *own)
            return
        for kept in without(peer, effect, Have):
            yield from without(peer, kept, Proposal)

    return twist


def _false_state(peer: Any, send: Send, proposal: Proposal) -> Iterator[Effect]:
    """The right list, and a state that does not follow from it."""
    body = decode_canonical(proposal.body, Body)
    yield _instead(peer, send, proposal, body=replace(body, state_root=keccak(b"false")))


def _omitting(peer: Any, send: Send, proposal: Proposal) -> Iterator[Effect]:
    """A list without the update of another that two thirds hold, and the state that does follow from it."""
    other = next(at for at, name in enumerate(proposal.updates) if _author(peer, name) != peer.member)
    updates = proposal.updates[:other] + proposal.updates[other + 1 :]
    keys = tuple(name for at, name in enumerate(proposal.keys) if at != other)
    certified = peer.engine.round.book.certified_list(list(updates))
    root = peer.runtime.worker.evaluate_list(Evaluate(peer.engine.standing, certified))
    body = decode_canonical(proposal.body, Body)
    body = replace(body, updates_root=certified.updates_root, state_root=root)
    yield _instead(peer, send, proposal, body=body, updates=updates, keys=keys)


def _phantom(peer: Any, send: Send, proposal: Proposal) -> Iterator[Effect]:
    """A list with an update that nobody has seen."""
    updates = (*proposal.updates[:-1], Hash(keccak(b"phantom")))
    yield _instead(peer, send, proposal, body=decode_canonical(proposal.body, Body), updates=updates)


def _two_proposals(peer: Any, send: Send, proposal: Proposal) -> Iterator[Effect]:
    """Different bodies, for one attempt, to different members."""
    body = decode_canonical(proposal.body, Body)
    for target in send.to:
        other = replace(body, state_root=keccak(target))
        yield _instead(peer, Send((target,), send.raws), proposal, body=other)


def _instead(peer: Any, send: Send, proposal: Proposal, body: Body, **changes: Any) -> Effect:
    return Send(send.to, (forge(peer, proposal, body=encode_canonical(body), **changes).raw,))


def _author(peer: Any, update: Hash) -> MemberId:
    return peer.engine.round.book.updates[update].message.member


def keeps_haves(peer: Any, effect: Effect) -> Iterator[Effect]:
    """Takes part, but never says what it holds."""
    return without(peer, effect, Have)


AT_ANY_TIME: dict[str, Callable[..., Iterator[Effect]]] = (
    {"silent": silent}
    | {
        name: liars.LIARS[name]
        for name in (
            "never-reveals",
            "equivocates",
            "signs-twice",
            "two-haves",
            "not-finite",
            "withholds",
            "garbage",
        )
    }
    | {
        "false-haves": false_haves,
        "copies": copies,
        "two-words": two_words,
        "checks-in": checks_in,
        "two-bodies": two_bodies,
    }
)
IN_TURN: dict[str, Callable[..., Iterator[Effect]]] = {
    "false-state": _proposing(_false_state),
    "omits": _proposing(_omitting),
    "phantom": _proposing(_phantom),
    "two-proposals": _proposing(_two_proposals),
}
KINDS = (*AT_ANY_TIME, *IN_TURN)
_TWISTS = {**AT_ANY_TIME, **IN_TURN, "keeps-haves": keeps_haves}


# What the twists need of a peer


@dataclass
class Blobs:
    """A store as a dictionary by hash."""

    store: BlobStore

    def __contains__(self, name: Hash) -> bool:
        try:
            return self.store.has(self._ref(name))
        except MissingBlob:
            return False

    def __getitem__(self, name: Hash) -> bytes:
        return self.store.read(self._ref(name))

    def __setitem__(self, name: Hash, data: bytes) -> None:
        assert self.store.put(data).hash == name

    def _ref(self, name: Hash) -> BlobRef:
        return BlobRef(name, self.store.manifest(name)[0])


@dataclass
class Liar:
    """What stands in for a simulated peer."""

    runtime: Runtime
    only: str = "all"
    """The one kind that it plays in every round, or all, each in one."""
    memory: dict[str, Any] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(7))
    played: list[str] = field(default_factory=list)
    kind: str = ""
    round: int = -1
    """The newest that is over."""
    told_in: int = -1

    def __post_init__(self) -> None:
        self.identity = self.runtime.engine.identity
        self.disk = SimpleNamespace(blobs=Blobs(self.runtime.store.blobs))
        self.world = SimpleNamespace(opened=self._opened, peers=range(4))
        liars.DOMAIN = self.identity.domain  # type: ignore[misc]
        liars.other_update = other_update  # type: ignore[assignment]
        liars.signer = lambda address, salt: self._sign_otherwise  # type: ignore[assignment]
        read = BlobStore.read_chunk

        def withholding(store: BlobStore, name: Hash, index: int) -> bytes:
            if name == self.memory.get("withheld"):
                raise MissingBlob(name)
            return read(store, name, index)

        BlobStore.read_chunk = withholding  # type: ignore[method-assign]

    @property
    def engine(self) -> Any:
        return self.runtime.engine

    @property
    def member(self) -> MemberId:
        return self.identity.member

    def _opened(self, raw: bytes) -> Signed:
        return open_envelope(raw, self.identity.domain, self.identity.recover)

    def _sign_otherwise(self, digest: Hash) -> SignatureBytes:
        """Another valid signature of the own key, as ECDSA allows."""
        entropy = (ffi.NULL, ffi.new("unsigned char[32]", bytes([9]) * 32))
        raw = self.identity.sign.__self__._key.sign_recoverable(digest, hasher=None, custom_nonce=entropy)
        return SignatureBytes(raw[:64] + bytes([27 + raw[64]]))

    def twisted(self, effect: Effect) -> Iterator[Effect]:
        """What becomes of an effect."""
        standing = self.engine.standing
        if standing is not None and standing.round != self.round:
            self.round = standing.round
            self._choose()
        if self.kind:
            yield from _TWISTS[self.kind](self, effect)
        else:
            yield effect

    def _choose(self) -> None:
        """Another kind for the round that begins, and say which."""
        number = self.round + 1
        is_turn = proposer(self.engine.standing.seat_members, number, 0) == self.member
        kinds = [kind for kind in (IN_TURN if is_turn else AT_ANY_TIME) if self.only in (kind, "all")]
        left = [kind for kind in kinds if self.only != "all" or kind not in self.played]
        self.memory.clear()
        self.kind = left[0] if left and number >= FIRST_ROUND else ""
        if self.only == "all" and len(self.played) == len(KINDS):
            self.kind = "keeps-haves"
        elif self.kind in AT_ANY_TIME:
            self.tell()

    def tell(self) -> None:
        """Say what is played in this round, once."""
        if self.told_in != self.round:
            self.told_in = self.round
            self.played.append(self.kind)
            self.runtime.telemetry.emit("lies", kind=self.kind, round=self.round + 1)


def other_update(peer: Liar, update: Update, payload: bytes) -> tuple[Signed, Sealed]:
    """As in the simulator, with a payload of the right size: of NaN, or of noise."""
    worker = peer.runtime.worker
    shapes = [spec.shape for spec in worker.plan.layout.tensors]
    if payload == liars.NOT_FINITE:
        made = b"\xff" * max(worker.plan.payload_sizes)
    else:
        drawn = torch.Generator().manual_seed(peer.random.getrandbits(32))
        noise = [tuple(torch.randn(shape, generator=drawn) * 1e-3 for shape in shapes) for _ in range(2)]
        squares = tuple(each.square() for each in noise[1])
        made = worker.algorithm.encode(noise[0], Moments(noise[1], squares)).payload
    key = peer.random.randbytes(32)
    bound = binding(update.run, update.round, update.previous_head, update.member)
    data = seal(made, key, bound)
    blob = peer.disk.blobs.store.put(data)
    changes = {"blob_hash": blob.hash, "blob_size": blob.size, "key_hash": key_hash(key, bound)}
    return forge(peer, update, **changes), Sealed(blob, data, key)


def install(kind: str) -> None:
    """Make this process tell one kind of lies, or all."""
    carry_out, known = Runtime._carry_out, {}

    def twisted(self: Runtime, effect: Effect) -> None:
        if self not in known:
            known[self] = Liar(self, kind)
        for each in known[self].twisted(effect):
            carry_out(self, each)

    Runtime._carry_out = twisted  # type: ignore[method-assign]
