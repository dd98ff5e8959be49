"""Messages that wait to be looked at: bounded, and fair to every sender.

Each sender has a line of its own, and lines take turns. Where room is short, the one whose line is longest loses its
newest message: a flood delays and displaces only itself. Who sent without a proof shares one line with its like.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from distrai.protocol.primitives import Address

Sender = Address | None


@dataclass(frozen=True)
class InboxLimits:
    """Messages and bytes that may wait in all, and messages of one sender."""

    messages_max: int = 4096
    bytes_max: int = 64 << 20
    sender_max: int = 256
    senders_told_max: int = 4096
    """Senders whose drops are counted one by one."""


class Inbox:
    """The queue behind ``Transport.received``."""

    def __init__(self, limits: InboxLimits | None = None) -> None:
        self.limits = limits or InboxLimits()
        self.dropped: Counter[Sender] = Counter()
        self._lines: dict[Sender, deque[bytes]] = {}
        self._turns: deque[Sender] = deque()
        self._count = 0
        self._bytes = 0
        self._ready = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def put(self, sender: Sender, message: bytes) -> bool:
        """Queue a message; False if it was dropped, which is also counted."""
        line = self._lines.get(sender)
        if self._closed or (line is not None and len(line) >= self.limits.sender_max):
            return self._drop(sender)
        while self._full(len(message)):
            longest = max(self._lines, key=lambda other: len(self._lines[other]), default=sender)
            if longest == sender or len(self._lines[longest]) <= len(line or ()) + 1:
                return self._drop(sender)
            self._take(longest, newest=True)
            self._drop(longest)
        if line is None:
            line = self._lines[sender] = deque()
            self._turns.append(sender)
        line.append(message)
        self._count += 1
        self._bytes += len(message)
        self._ready.set()
        return True

    def close(self) -> None:
        """Take nothing more; whoever waits gets what is there, then the end."""
        self._closed = True
        self._ready.set()

    async def messages(self) -> AsyncIterator[tuple[Sender, bytes]]:
        """What was queued, the senders taking turns, until the inbox is closed."""
        while True:
            while self._turns:
                sender = self._turns.popleft()
                message = self._take(sender)
                if sender in self._lines:
                    self._turns.append(sender)
                yield sender, message
            if self._closed:
                return
            self._ready.clear()
            await self._ready.wait()

    def _full(self, size: int) -> bool:
        return self._count >= self.limits.messages_max or self._bytes + size > self.limits.bytes_max

    def _take(self, sender: Sender, *, newest: bool = False) -> bytes:
        line = self._lines[sender]
        message = line.pop() if newest else line.popleft()
        if not line:
            del self._lines[sender]
        self._count -= 1
        self._bytes -= len(message)
        return message

    def _drop(self, sender: Sender) -> bool:
        told = sender in self.dropped or len(self.dropped) < self.limits.senders_told_max
        self.dropped[sender if told else None] += 1
        return False
