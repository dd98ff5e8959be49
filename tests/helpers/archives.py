"""A finished run as its archive publishes it, made in this process: real recipe, algorithm, keys, signatures and bytes.

The members do not train (their pseudo-gradients are drawn), and nobody talks: what remains is exactly what a replay
reads. Four seats; the last one misses rounds 2, 4, 5 and 6, is dropped by round 7, and round 3 is empty.
"""

import os
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from distrai.algorithms.algorithm import Algorithm, Entry
from distrai.algorithms.errors import PayloadError
from distrai.algorithms.moments import Moments
from distrai.algorithms.state import GlobalState
from distrai.network.store import BlobStore
from distrai.peer.plan import Plan
from distrai.peer.records import CertificateRecord, GenesisRecord, RollCallRecord
from distrai.peer.store import PublicFolder, write_atomically
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body, Genesis
from distrai.protocol.canonical import decode_canonical, encode_canonical
from distrai.protocol.cipher import KEY_SIZE, binding, key_hash, seal
from distrai.protocol.lists import CertifiedList, Trainer, decode_list, root_of_trainers
from distrai.protocol.lists import Entry as ListEntry
from distrai.protocol.merkle import state_root
from distrai.protocol.messages import UPDATE_VERSION, Update
from distrai.protocol.primitives import ZERO_HASH, Hash, SignatureBytes
from distrai.protocol.recipe import ResolvedRecipe, parse_recipe
from distrai.protocol.seating import drops, promotions
from distrai.protocol.standing import Standing, advance, call_roll, following_cursor, start
from distrai.protocol.typed_data import Domain
from distrai.runs.replay import Anchor, Replay, Replayed, ReplayFailed
from distrai.runs.resolving import resolve
from helpers.messages import DOMAIN, Author
from helpers.rounds import RUN, authors, roster_of

RECIPE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
SEATS = 4
WHO = {
    1: (0, 1, 2, 3),
    2: (0, 1, 2),
    3: (),
    4: (0, 1, 2),
    5: (0, 1, 2),
    6: (1, 2),
    7: (0, 1, 2),
    8: (0, 1, 2),
}
"""Whose updates each round's list has."""


@dataclass
class ArchiveMaker:
    """Plays all seats of a run, and publishes every round."""

    home: Path
    plan: Plan
    standing: Standing
    state: GlobalState
    people: list[Author]
    blobs: BlobStore
    public: PublicFolder
    domain: Domain = DOMAIN
    run: int = RUN
    rng: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(1))

    @classmethod
    def opened(cls, home: Path, texts: Path, joiners: int = 0) -> "ArchiveMaker":
        """The recipe resolved, genesis and seats published. ``joiners`` joined as well and have no seat."""
        blobs = BlobStore(home / "blobs")
        resolved = resolve(parse_recipe(recipe_of(texts)), texts, blobs)
        return cls.of(home, resolved, authors(SEATS + joiners))

    @classmethod
    def of(
        cls,
        home: Path,
        resolved: ResolvedRecipe,
        people: Sequence[Author],
        domain: Domain = DOMAIN,
        run: int = RUN,
    ) -> "ArchiveMaker":
        """A run of this recipe, whose blobs are in ``home``; the first ``SEATS`` of ``people`` have seats."""
        blobs, public = BlobStore(home / "blobs"), PublicFolder(home / "public")
        plan = Plan.of(resolved)
        genesis = Genesis(
            domain.chain_id,
            domain.registry,
            run,
            resolved.blob.hash,
            resolved.initial_root,
            resolved.corpus.hash,
            resolved.tokenizer_hash,
        )
        seats = tuple(Trainer(each.member, each.address) for each in people[:SEATS])
        write_atomically(public.genesis_path, encode_canonical(GenesisRecord(genesis, seats)))
        standing = start(run, genesis.head, genesis.state_root, seats, roster_of(people))
        state = Algorithm(plan.spec, plan.layout).state_from_bytes(blobs.read(resolved.initial_state))
        return cls(home, plan, standing, state, list(people), blobs, public, domain, run)

    def round(
        self,
        who: Sequence[int],
        body_changes: dict[str, Any] | None = None,
        update_changes: dict[str, Any] | None = None,
        payload: bytes | None = None,
        list_changes: dict[str, Any] | None = None,
    ) -> None:
        """One round: updates, list, state, certificate, as the peers' own code makes them.

        With changes it is what seats that all conspire would publish; ``payload`` replaces that of the first update.
        """
        algorithm, standing, rules = (
            Algorithm(self.plan.spec, self.plan.layout),
            self.standing,
            self.plan.rules,
        )
        listed, entries = [], []
        for number in who:
            made, entry = self._update(algorithm, self.people[number], update_changes or {}, payload)
            entries.append(Entry(self.people[number].member, 4 * rules.work.tokens_per_step, made))
            listed.append(entry)
            update_changes, payload = None, None
        with suppress(PayloadError):
            self.state = algorithm.step(self.state, entries).state if entries else self.state
        data = algorithm.state_bytes(self.state)
        certified = CertifiedList(
            following_cursor(standing, rules.run), standing.next_trainers, tuple(listed)
        )
        certified = replace(certified, **list_changes or {})
        body = Body(
            self.run,
            standing.round + 1,
            standing.head,
            certified.updates_root,
            state_root(data),
            root_of_trainers(certified.cursor, certified.trainers),
            promotions=promotions(standing, rules.run),
            drops=drops(standing, rules.run),
        )
        body = replace(body, **body_changes or {})
        seats = [self.people[i] for i, each in enumerate(self.people) if standing.seat_key(each.member)]
        write_atomically(self.public.list_path(body.round), certified.to_bytes())
        record = CertificateRecord(body, attested(body, seats[: standing.quorum], self.domain))
        write_atomically(self.public.certificate_path(body.round), encode_canonical(record))
        write_atomically(self.home / "states" / f"{body.round:08d}.bin", data)
        self.standing = advance(standing, body, certified, roster_of(self.people))

    def roll_call(self, absent: Sequence[int]) -> None:
        """A round that a roll call ends, without these seats."""
        drops = tuple(sorted(self.people[number].member for number in absent))
        before = self.standing
        self.standing = call_roll(before, self.plan.rules.run, drops, roster_of(self.people))
        record = RollCallRecord(self.standing.round, before.head, before.state_root, drops)
        path = self.public.roll_call_path(record.round)
        write_atomically(path, encode_canonical(record))

    def _update(
        self, algorithm: Algorithm, author: Author, changes: dict[str, Any], other: bytes | None
    ) -> tuple[bytes, ListEntry]:
        moments = Moments(self._draw(), tuple(each.square() for each in self._draw()))
        payload = other or algorithm.encode(self._draw(), moments).payload
        standing, work = self.standing, self.plan.rules.work
        bound = binding(self.run, standing.round + 1, standing.head, author.member)
        key = bytes(torch.randint(0, 256, (KEY_SIZE,), generator=self.rng).tolist())
        blob = self.blobs.put(seal(payload, key, bound))
        update = Update(
            run=self.run,
            round=standing.round + 1,
            previous_head=standing.head,
            member=author.member,
            version=UPDATE_VERSION,
            base_round=standing.round,
            base_state_root=standing.state_root,
            fragment=0,
            tau=0,
            inner_steps=4,
            tokens=4 * work.tokens_per_step,
            codec=work.codec,
            blob_hash=blob.hash,
            blob_size=blob.size,
            key_hash=key_hash(key, bound),
            trace_root=ZERO_HASH,
        )
        return payload, ListEntry(author.seal(replace(update, **changes), self.domain).raw, key)

    def _draw(self) -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(each.shape, generator=self.rng) * 1e-3 for each in self.state.params)

    def archive(self) -> "FakeArchive":
        """What is published by now."""
        return FakeArchive(self.home, self.standing.head, self.standing.state_root, self.standing.round)


def recipe_of(texts: Path) -> dict[str, object]:
    """The smallest recipe on files of one's own in ``texts`` (written here)."""
    for number in range(3):
        (texts / f"{number}.txt").write_text(f"text {number} " * 400)
    recipe = tomllib.loads(RECIPE.read_text())
    data = {"source": "files", "globs": ["*.txt"], "held_out_fraction": 0.2, "tuning_fraction": 0.2}
    recipe["data"] = data | {"license": "CC0-1.0", "context": 32}
    recipe["membership"] = {"peers": SEATS, "min_seats": 2}
    return recipe


def attested(body: Body, seats: Sequence[Author], domain: Domain = DOMAIN) -> tuple[SignatureBytes, ...]:
    """The signatures of ``seats`` under ``body``, as the ledger wants them."""
    ordered = sorted(seats, key=lambda each: each.address)
    return tuple(each.sign(domain.digest(body.id)) for each in ordered)


@dataclass(frozen=True)
class FakeArchive:
    """A published run on disk that a test may spoil: copy it first."""

    home: Path
    head: Hash
    state_root: Hash
    rounds: int

    @property
    def public(self) -> PublicFolder:
        return PublicFolder(self.home / "public")

    @property
    def blobs(self) -> BlobStore:
        return BlobStore(self.home / "blobs")

    def copy(self, to: Path) -> "FakeArchive":
        shutil.copytree(self.home, to)
        return FakeArchive(to, self.head, self.state_root, self.rounds)

    def genesis(self) -> GenesisRecord:
        return decode_canonical(self.public.genesis_path.read_bytes(), GenesisRecord)

    def write_genesis(self, record: GenesisRecord) -> None:
        self.public.genesis_path.write_bytes(encode_canonical(record))

    def initial_state(self) -> Hash:
        """The name of the state before round 1."""
        return ResolvedRecipe.from_bytes(self.read(self.genesis().genesis.recipe_hash)).initial_state.hash

    def certificate(self, number: int) -> CertificateRecord:
        return decode_canonical(self.public.certificate_path(number).read_bytes(), CertificateRecord)

    def write_certificate(self, number: int, record: CertificateRecord) -> None:
        self.public.certificate_path(number).write_bytes(encode_canonical(record))

    def certified(self, number: int) -> CertifiedList:
        return decode_list(self.public.list_path(number).read_bytes())

    def write_list(self, number: int, certified: CertifiedList) -> None:
        self.public.list_path(number).write_bytes(certified.to_bytes())

    def blob_path(self, name: Hash) -> Path:
        return self.home / "blobs" / name.hex()[:2] / name.hex()

    def read(self, name: Hash) -> bytes:
        return self.blobs.read(BlobRef(name, self.blobs.manifest(name)[0]))


def make_archive(home: Path, texts: Path) -> FakeArchive:
    """The run that the module's text describes."""
    maker = ArchiveMaker.opened(home, texts)
    for number in sorted(WHO):
        maker.round(WHO[number])
    assert len(maker.standing.seats) == SEATS - 1, "the seat that missed four lists is dropped"
    return maker.archive()


def replayed(archive: FakeArchive, rounds: int | None = None) -> Replayed:
    """Replay to the archive's head; by default whatever number of rounds lead to it."""
    return Replay(archive.public, archive.blobs, lambda number, updates: None).run(
        Anchor(archive.head, rounds)
    )


def failure(archive: FakeArchive, rounds: int | None = None) -> ReplayFailed:
    """How a replay of a spoiled archive fails."""
    with pytest.raises(ReplayFailed) as caught:
        replayed(archive, archive.rounds if rounds is None else rounds)
    return caught.value


@contextmanager
def flipped(path: Path, at: int) -> Iterator[None]:
    """Change one byte of a file, and put it back. In place: a file that is cut and written anew waits for the disk."""
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), file.tell() - 1)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), byte, file.tell() - 1)
