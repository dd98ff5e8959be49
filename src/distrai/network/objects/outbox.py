"""Messages for those who cannot be reached: laid out where their receiver can fetch them.

For each receiver a *head* names the messages that wait for it: an epoch (new with every start), the first number and
the one after the last. The messages are documents of their own, each with the signature of its delivery. They stay
for a while, and are deleted by their author; nobody can say whether they were read.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from distrai.network.http.proofs import Sign, seal_delivery
from distrai.network.interface import MESSAGE_BYTES_MAX, NetworkError, SendFailed
from distrai.protocol.primitives import Address

HEAD_SIZE = 24
_HEADER_MAX = 1024
LETTER_BYTES_MAX = 2 + _HEADER_MAX + MESSAGE_BYTES_MAX


class Shelf(Protocol):
    """Where documents lie that anybody can fetch. Both methods raise NetworkError."""

    async def show(self, name: str, document: bytes) -> None:
        """Lay a document out, in the place of the one before."""
        ...

    async def hide(self, names: Sequence[str]) -> None:
        """Take documents away."""
        ...


@dataclass(frozen=True)
class OutboxLimits:
    """How much may lie there for one receiver, for how many, and for how long."""

    messages_max: int = 64
    bytes_max: int = 4 << 20
    receivers_max: int = 1024
    keep_s: float = 120.0
    batch_max: int = 16
    """Messages that are laid out before the head is written again."""


@dataclass
class _Line:
    """What waits for one receiver: messages laid out (number, size, time) and those still to be."""

    receiver: Address
    shown: "deque[tuple[int, int, float]]" = field(default_factory=deque)
    waiting: "deque[tuple[bytes, asyncio.Future[None]]]" = field(default_factory=deque)
    next: int = 0
    flushing: asyncio.Task[None] | None = None


class Outbox:
    """What one peer has to say to those whom it cannot reach. Belongs to one event loop."""

    def __init__(
        self,
        shelf: Shelf,
        address: Address,
        sign: Sign,
        limits: OutboxLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shelf, self.address, self.sign, self.clock = shelf, address, sign, clock
        self.limits = limits or OutboxLimits()
        self.epoch = time.time_ns()
        self._lines: dict[Address, _Line] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """Stop; what was laid out stays where it is."""
        self._closed = True
        tasks = [line.flushing for line in self._lines.values() if line.flushing is not None]
        tasks += [self._sweeper] if self._sweeper is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in self._lines.values():
            _fail(line, "the transport was closed")

    async def put(self, receiver: Address, message: bytes) -> None:
        """Lay a message out; returns once its receiver can find it. Raises SendFailed."""
        if self._closed:
            raise SendFailed("nothing is sent: the transport was closed")
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        line = self._lines.get(receiver)
        if line is None:
            if len(self._lines) >= self.limits.receivers_max:
                raise SendFailed(f"messages wait for {self.limits.receivers_max} receivers already")
            line = self._lines[receiver] = _Line(receiver)
        if len(line.waiting) >= self.limits.messages_max:
            raise SendFailed(f"{len(line.waiting)} messages wait for the own object store already")
        laid: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append((letter(message, self.address, receiver, self.sign), laid))
        if line.flushing is None or line.flushing.done():
            line.flushing = asyncio.create_task(self._flush(line))
        await laid

    async def _flush(self, line: _Line) -> None:
        while line.waiting:
            count = min(len(line.waiting), self.limits.batch_max)
            batch = [line.waiting.popleft() for _ in range(count)]
            try:
                await self._lay_out(line, [raw for raw, _ in batch])
            except NetworkError as error:
                _answer(batch, SendFailed(str(error)))
            except asyncio.CancelledError:
                _answer(batch, SendFailed("the transport was closed"))
                raise
            else:
                _answer(batch, None)

    async def _lay_out(self, line: _Line, letters: Sequence[bytes]) -> None:
        """The messages first, then the head that names them, then what is too old goes."""
        numbers = range(line.next, line.next + len(letters))
        names = [letter_name(line.receiver, self.epoch, number) for number in numbers]
        shown = (self.shelf.show(name, raw) for name, raw in zip(names, letters, strict=True))
        outcomes = await asyncio.gather(*shown, return_exceptions=True)  # none goes on behind our back
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        now = self.clock()
        line.shown.extend((number, len(raw), now) for number, raw in zip(numbers, letters, strict=True))
        line.next = numbers.stop
        await self._tidy(line, always=True)

    async def _tidy(self, line: _Line, *, always: bool = False) -> None:
        """Write the head, and delete what it does not name any more."""
        gone = []
        while line.shown and self._is_over(line):
            gone.append(line.shown.popleft()[0])
        if gone or always:
            await self.shelf.show(head_name(line.receiver), self._head(line))
        await self.shelf.hide([letter_name(line.receiver, self.epoch, number) for number in gone])

    def _is_over(self, line: _Line) -> bool:
        limits = self.limits
        too_much = (
            len(line.shown) > limits.messages_max or sum(s for _, s, _ in line.shown) > limits.bytes_max
        )
        return too_much or self.clock() - line.shown[0][2] > limits.keep_s

    def _head(self, line: _Line) -> bytes:
        first = line.shown[0][0] if line.shown else line.next
        return b"".join(number.to_bytes(8, "big") for number in (self.epoch, first, line.next))

    async def _sweep(self) -> None:
        """Take away what nobody came for, for ever; who has nothing left is forgotten."""
        while True:
            await asyncio.sleep(self.limits.keep_s / 4)
            for line in list(self._lines.values()):
                if line.flushing is None or line.flushing.done():
                    line.flushing = asyncio.create_task(self._sweep_line(line))
                    await asyncio.wait([line.flushing])

    async def _sweep_line(self, line: _Line) -> None:
        with suppress(NetworkError):  # else the next time
            await self._tidy(line)
        await self._flush(line)


def letter(message: bytes, sender: Address, receiver: Address, sign: Sign) -> bytes:
    """A message with what proves who delivers it to whom."""
    header = seal_delivery(message, sender, receiver, sign).encode()
    assert len(header) <= _HEADER_MAX
    return len(header).to_bytes(2, "big") + header + message


def open_letter(raw: bytes) -> tuple[str, bytes]:
    """The proof of a delivery and its message, neither of them checked. Raises ValueError."""
    size = int.from_bytes(raw[:2], "big")
    if size > _HEADER_MAX or len(raw) < 2 + size:
        raise ValueError("this is no letter")
    return raw[2 : 2 + size].decode("ascii"), raw[2 + size :]


def decode_head(raw: bytes) -> tuple[int, int, int]:
    """Epoch, first number, number after the last."""
    epoch, first, after = (int.from_bytes(raw[at : at + 8], "big") for at in range(0, HEAD_SIZE, 8))
    return epoch, first, after


def head_name(receiver: Address) -> str:
    """The document that names what waits for a receiver."""
    return f"outbox-{receiver.hex()}"


def letter_name(receiver: Address, epoch: int, number: int) -> str:
    """The document with one message."""
    return f"outbox-{receiver.hex()}-{epoch:x}-{number}"


def _answer(batch: Sequence[tuple[bytes, "asyncio.Future[None]"]], error: SendFailed | None) -> None:
    for _, laid in batch:
        if laid.done():
            continue  # who sent it does not wait any more
        if error is None:
            laid.set_result(None)
        else:
            laid.set_exception(error)


def _fail(line: _Line, why: str) -> None:
    _answer(list(line.waiting), SendFailed(why))
    line.waiting.clear()
