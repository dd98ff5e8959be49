"""A member's bucket as one holder of the blob that a fetch is after, and a member with several ways to its blobs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from yarl import URL

from distrai.network.holders import Busy, Holder, HolderError, Lied, NotHeld, ask_manifest
from distrai.network.interface import Endpoint
from distrai.network.manifests import Manifest
from distrai.network.objects.keys import blob_key, manifest_key
from distrai.network.objects.reader import BucketReader
from distrai.protocol.blobs import CHUNK_SIZE
from distrai.protocol.primitives import Hash, MemberId

T = TypeVar("T")


@dataclass(frozen=True)
class BucketHolder:
    """See ``Holder``. A bucket has a blob whole or not at all: objects appear when their last byte is there."""

    reader: BucketReader
    endpoint: Endpoint
    purpose: str

    @property
    def member(self) -> MemberId:
        """Who it is."""
        return self.endpoint.member

    async def manifest(self, hash_: Hash, size_max: int) -> Manifest:
        """See ``Holder``."""
        key, deadline_s = manifest_key(hash_), self.reader.patience.answer_s

        async def read(sizes: range) -> bytes:
            return await self._ask(lambda base: self.reader.get(base, key, sizes, self.purpose, deadline_s))

        return await ask_manifest(read, size_max)

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        """See ``Holder``."""

        async def read(base: URL) -> int:
            return await self.reader.size(base, blob_key(hash_), self.purpose)

        size = await self._ask(read)
        if -(-size // CHUNK_SIZE) != chunk_count:
            raise Lied(f"has an object of {size} bytes under the name of another blob")
        return frozenset(range(chunk_count))

    async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
        """See ``Holder``. A store has no narrow uplink to be polite about."""

        async def read(base: URL) -> bytes:
            deadline_s = self.reader.patience.chunk_s
            key, start = blob_key(hash_), index * CHUNK_SIZE
            return await self.reader.get_range(base, key, start, size, self.purpose, deadline_s)

        return await self._ask(read)

    async def _ask(self, read: Callable[[URL], Awaitable[T]]) -> T:
        base = await self.reader.prove(self.endpoint)
        try:
            return await read(base)
        except (NotHeld, Lied):
            raise
        except HolderError:
            self.reader.forget(self.endpoint)
            raise


@dataclass
class EitherHolder:
    """One member that can be asked in several ways: in the order that it prefers, a way that failed last of all."""

    ways: Sequence[Holder]
    _failed: set[int] = field(default_factory=set)

    @property
    def member(self) -> MemberId:
        """Who it is."""
        return self.ways[0].member

    async def manifest(self, hash_: Hash, size_max: int) -> Manifest:
        """See ``Holder``."""
        return await self._ask(lambda way: way.manifest(hash_, size_max))

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        """See ``Holder``."""
        return await self._ask(lambda way: way.have(hash_, chunk_count))

    async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
        """See ``Holder``."""
        return await self._ask(lambda way: way.chunk(hash_, index, size, polite))

    async def _ask(self, ask: Callable[[Holder], Awaitable[T]]) -> T:
        """The first answer. A lie ends it: it is the member's, whichever way it came."""
        order = sorted(range(len(self.ways)), key=lambda place: place in self._failed)
        failures: list[HolderError] = []
        for place in order:
            try:
                answer = await ask(self.ways[place])
            except Lied:
                raise
            except (NotHeld, Busy) as error:
                failures.append(error)
            except HolderError as error:
                self._failed.add(place)
                failures.append(error)
            else:
                self._failed.discard(place)
                return answer
        raise max(failures, key=_weight)


def _weight(error: HolderError) -> int:
    """Which of several failures says most: a busy member is asked again soon, one that has nothing is not to blame."""
    return 2 if isinstance(error, Busy) else 0 if isinstance(error, NotHeld) else 1
