"""Who may have a blob, as a fetch sees it, and how the list of a blob's chunks is found among them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from distrai.network.manifests import Manifest, decode_manifest, manifest_size
from distrai.protocol.blobs import BlobRef, check_manifest, manifest_hash
from distrai.protocol.errors import WrongManifest
from distrai.protocol.primitives import HASH_SIZE, Hash, MemberId

_EMPTY_BLOB = manifest_hash(0, ())


T = TypeVar("T")


class HolderError(Exception):
    """A holder did not give what it was asked for, and need not be to blame: gone, silent, overloaded."""


class Lied(HolderError):
    """The holder sent what cannot belong to the blob."""


class NotHeld(HolderError):
    """The holder says that it does not have this."""


async def ask_manifest(ask: Callable[[range], Awaitable[bytes]], size_max: int) -> Manifest:
    """The manifest of a blob of at most ``size_max`` bytes; ``ask`` is told which sizes an answer may have.

    A longer list than expected is no lie: the size may have been announced wrongly. Raises HolderError.
    """
    try:
        size, hashes = decode_manifest(
            await ask(range(manifest_size(0), manifest_size(size_max) + 1, HASH_SIZE))
        )
    except Lied as error:
        raise HolderError(f"{error}: a list of chunks that cannot be this blob's") from None
    if size > size_max:
        raise HolderError(f"says that the blob has {size} bytes, and not at most {size_max}")
    return size, hashes


class Busy(HolderError):
    """The holder has something rarer to send, or too much: ask somebody else, or later. Never to blame."""


class Holder(Protocol):
    """Someone who may have a blob. Every method raises HolderError, and ends within a deadline of its own."""

    @property
    def member(self) -> MemberId:
        """Who it is."""
        ...

    async def manifest(self, hash_: Hash, size_max: int) -> Manifest:
        """Size (at most ``size_max``) and chunk hashes, not yet checked against the name."""
        ...

    async def have(self, hash_: Hash, chunk_count: int) -> frozenset[int]:
        """The chunks that it has now."""
        ...

    async def chunk(self, hash_: Hash, index: int, size: int, polite: bool = False) -> bytes:
        """``size`` bytes that claim to be a chunk. ``polite``: Busy is raised if it has something rarer to send."""
        ...


async def first_answer(
    holders: Sequence[Holder],
    rng: random.Random,
    hedge_s: float,
    note: Callable[[Holder, HolderError], None],
    ask: Callable[[Holder], Awaitable[T]],
) -> tuple[Holder, T] | None:
    """The first answer that is not a HolderError, and whose it is, or None; ``note`` is told who failed, and how.

    The holders are asked in random order: the next one as soon as the one before has failed or ``hedge_s`` have passed.
    """
    order = rng.sample(list(holders), len(holders))
    over = [asyncio.Event() for _ in order]
    found: asyncio.Future[tuple[Holder, T]] = asyncio.get_running_loop().create_future()

    async def ask_one(place: int, holder: Holder) -> None:
        for earlier in over[:place]:
            await wait_at_most(earlier, hedge_s)
        try:
            answer = await ask(holder)
        except HolderError as error:
            note(holder, error)
            over[place].set()
        else:
            if not found.done():
                found.set_result((holder, answer))

    async def ask_all() -> None:
        await run_all(ask_one(place, holder) for place, holder in enumerate(order))

    asking = asyncio.ensure_future(ask_all())
    try:
        await asyncio.wait((asking, found), return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
        return found.result() if found.done() else None
    finally:
        await stop(asking)


async def find_manifest(
    hash_: Hash,
    size_max: int,
    holders: Sequence[Holder],
    rng: random.Random,
    hedge_s: float,
    note: Callable[[Holder, HolderError], None],
) -> Manifest | None:
    """The first manifest that proves itself against the name, or None; ``note`` is told who failed, and how."""
    if hash_ == _EMPTY_BLOB:
        return 0, ()

    async def ask(holder: Holder) -> Manifest:
        manifest = await holder.manifest(hash_, size_max)
        _check(hash_, manifest)
        return manifest

    answer = await first_answer(holders, rng, hedge_s, note, ask)
    return None if answer is None else answer[1]


def _check(hash_: Hash, manifest: Manifest) -> None:
    size, hashes = manifest
    try:
        check_manifest(BlobRef(hash_, size), hashes)
    except WrongManifest:
        raise Lied("sent a list of chunks that does not belong to the blob") from None


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def run_all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to the end, or until one raises: then the others are stopped first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await stop(*tasks)


async def stop(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel what still runs and wait until it has ended; whatever it raised has been dealt with elsewhere."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
