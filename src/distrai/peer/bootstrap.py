"""Getting what a run starts from: its recipe, corpus, tokenizer and initial state, by hash, from whoever holds them.

Nothing of it is trusted because of who sent it: the ledger has the hashes.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distrai.network.interface import Endpoint, Transport
from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.learner import FrozenModels, needs_reference, read_manifest
from distrai.peer.plan import Plan
from distrai.peer.worker import Corpus
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Genesis
from distrai.protocol.errors import WrongBlob
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.protocol.recipe.resolved import RESOLVED_BYTES_MAX
from distrai.training.data.dataset import Dataset, check_layout
from distrai.training.data.manifest import MANIFEST_BYTES_MAX, parse_manifest
from distrai.training.errors import ManifestTooLarge
from distrai.training.frozen import MODEL_MANIFEST_BYTES_MAX
from distrai.training.tokenizer import tokenizer_from_canonical

TOKENIZER_BYTES_MAX = 64 << 20
DEADLINE_S = 600.0


class NoRoom(ValueError):
    """What a run starts from does not fit on the disk."""


@dataclass(frozen=True)
class Bootstrap:
    """A source of blobs: the own store first, then the endpoints that the ledger or a link named."""

    blobs: BlobStore
    transport: Transport | None
    holders: Sequence[Endpoint]

    async def get(self, blob: BlobRef, purpose: str) -> bytes:
        """The bytes of a blob. Raises FetchFailed."""
        await self.hold(blob, purpose)
        return self.blobs.read(blob)

    async def hold(self, blob: BlobRef, purpose: str) -> None:
        """Make sure that a blob is in the own store. Raises FetchFailed."""
        if self.blobs.has(blob):
            return
        if self.transport is None:
            raise WrongBlob(f"blob {blob.hash.hex()[:16]} of {blob.size} bytes ({purpose}) is missing")
        await self.transport.fetch(blob, self.holders, DEADLINE_S, purpose)

    async def get_by_hash(self, name: Hash, size_max: int, purpose: str) -> bytes:
        """The bytes of a blob whose size is not known. Raises FetchFailed."""
        blob = self._held(name)
        if blob is None:
            if self.transport is None:
                raise WrongBlob(f"blob {name.hex()[:16]} ({purpose}) is missing")
            blob = await self.transport.resolve(name, self.holders, size_max, DEADLINE_S)
        return await self.get(blob, purpose)

    def _held(self, name: Hash) -> BlobRef | None:
        try:
            blob = BlobRef(name, self.blobs.manifest(name)[0])
        except MissingBlob:
            return None
        return blob if self.blobs.has(blob) else None

    async def plan(self, genesis: Genesis) -> Plan:
        """The run's recipe, checked against the genesis that the ledger holds. Raises ProtocolError."""
        data = await self.get_by_hash(genesis.recipe_hash, RESOLVED_BYTES_MAX, "data")
        resolved = ResolvedRecipe.from_bytes(data)
        agreed = (resolved.corpus.hash, resolved.tokenizer_hash, resolved.initial_root)
        if agreed != (genesis.data_hash, genesis.tokenizer_hash, genesis.state_root):
            raise WrongBlob("the recipe names another corpus, tokenizer or initial state than the ledger")
        return Plan.of(resolved)

    async def initial_state(self, plan: Plan) -> bytes:
        """The bytes of the state before round 1."""
        return await self.get(plan.resolved.initial_state, "snapshots")

    async def frozen(self, plan: Plan, home: Path, tell: Callable[..., None]) -> FrozenModels:
        """The folders of what is not trained, every part of it fetched by its hash; ``tell`` takes what is on its way.

        With them comes the state before round 1 where the model of that time is learned by.
        """
        resolved = plan.resolved
        for what, manifest in (("base", resolved.base), ("teacher", resolved.teacher)):
            if manifest is not None:
                await self._hold_model(manifest, what, home, tell)
        if needs_reference(resolved.recipe):
            await self.initial_state(plan)
        return await asyncio.to_thread(FrozenModels.of, resolved, self.blobs, home)

    async def _hold_model(self, manifest: BlobRef, what: str, home: Path, tell: Callable[..., None]) -> None:
        if manifest.size > MODEL_MANIFEST_BYTES_MAX:
            raise ManifestTooLarge(f"the manifest of the {what} has {manifest.size} bytes: more than any has")
        await self.hold(manifest, "data")
        model = read_manifest(self.blobs, manifest)
        missing = [part for part in dict.fromkeys(model.blobs()) if not self.blobs.has(part)]
        if missing:
            left = sum(part.size for part in missing)
            needed, free = left + model.copied_bytes, shutil.disk_usage(home).free
            if needed > free:
                raise NoRoom(
                    f"the {what} takes {needed} bytes on the disk of {home}, where {free} are free: make room, or take "
                    "another --home"
                )
            tell("downloading", what=what, bytes=left, parameters=model.parameters, holders=len(self.holders))
        for part in missing:
            await self.hold(part, "data")

    async def corpus(self, plan: Plan) -> Corpus:
        """The data of the run, every shard of what is trained on and held out in the own store."""
        recipe = plan.resolved.recipe
        assert plan.resolved.corpus.size <= MANIFEST_BYTES_MAX
        manifest = parse_manifest(await self.get(plan.resolved.corpus, "data"))
        check_layout(manifest, recipe.data)
        canonical = await self.get_by_hash(plan.resolved.tokenizer_hash, TOKENIZER_BYTES_MAX, "data")
        tokenizer = tokenizer_from_canonical(canonical)
        context, vocabulary = recipe.data.context, tokenizer.vocabulary
        train = Dataset(manifest, "train", context, vocabulary, self.blobs.read)
        held_out = Dataset(manifest, "held_out", context, vocabulary, self.blobs.read)
        for shard in (*train.blobs(), *held_out.blobs()):
            await self.hold(shard, "data")
        return Corpus(train, held_out, tokenizer)
