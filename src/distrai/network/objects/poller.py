"""Looking for messages that others have laid out for us: one slow loop for each of them.

Who has nothing new is asked ever more seldom, and at once more often when there is something to talk about. A sender
whose store is slow, endless or wrong delays nobody but itself.
"""

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from distrai.network.files import write_whole
from distrai.network.http.proofs import Deliveries
from distrai.network.inbox import Inbox
from distrai.network.interface import MESSAGE_BYTES_MAX, AskFailed, Endpoint
from distrai.network.objects.outbox import (
    HEAD_SIZE,
    LETTER_BYTES_MAX,
    decode_head,
    head_name,
    letter_name,
    open_letter,
)
from distrai.protocol.errors import BadSignature
from distrai.protocol.primitives import Address

Ask = Callable[[Endpoint, str, int], Awaitable[bytes]]
"""Fetches a document of at most so many bytes. Raises AskFailed."""


@dataclass(frozen=True)
class PollLimits:
    """How often others are asked, how many of them, and how much is taken at a time."""

    pause_s: float = 0.5
    pause_max_s: float = 8.0
    asks_per_s: float = 20.0
    """Over all: the more senders there are, the more seldom each is asked."""
    senders_max: int = 512
    at_once: int = 16
    taken_max: int = 16
    """Messages of one sender between two looks at its head."""


@dataclass
class _Sender:
    """Whom we look at, and as far as its messages were taken: epoch and next number."""

    endpoint: Endpoint
    at: tuple[int, int] = (0, 0)
    pause_s: float = 0.0
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Poller:
    """Fills an inbox. Belongs to one event loop."""

    def __init__(
        self,
        ask: Ask,
        address: Address,
        deliveries: Deliveries,
        inbox: Inbox,
        rng: random.Random,
        limits: PollLimits | None = None,
        places: Path | None = None,
    ) -> None:
        """``places``: a file that remembers what was taken, so that a restart takes nothing twice."""
        self.ask, self.address, self.deliveries, self.inbox, self.rng = ask, address, deliveries, inbox, rng
        self.limits, self.places = limits or PollLimits(), places
        self._senders: OrderedDict[Address, _Sender] = OrderedDict()
        self._slots = asyncio.Semaphore(self.limits.at_once)
        self._taken = _read_places(places)
        self._closed = False

    async def close(self) -> None:
        """Look no more."""
        self._closed = True
        tasks = [sender.task for sender in self._senders.values() if sender.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._senders.clear()

    def watch(self, endpoint: Endpoint) -> None:
        """Look here for messages from now on; soon, if we did before, as there is something to talk about."""
        if self._closed or endpoint.address == self.address:
            return
        sender = self._senders.get(endpoint.address)
        if sender is None:
            sender = _Sender(endpoint, self._taken.get(endpoint.address, (0, 0)), self.limits.pause_s)
            self._senders[endpoint.address] = sender
            sender.task = asyncio.create_task(self._follow(sender))
            self._forget_oldest()
            return
        self._senders.move_to_end(endpoint.address)
        sender.endpoint = endpoint
        sender.pause_s = self.limits.pause_s
        sender.woken.set()

    def _forget_oldest(self) -> None:
        while len(self._senders) > self.limits.senders_max:
            _, oldest = self._senders.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()

    async def _follow(self, sender: _Sender) -> None:
        limits = self.limits
        while True:
            async with self._slots:
                is_new = await self._look(sender)
            sender.pause_s = limits.pause_s if is_new else min(1.5 * sender.pause_s, limits.pause_max_s)
            await self._pause(sender)

    async def _pause(self, sender: _Sender) -> None:
        """Wait: ``watch`` shortens it to the shortest pause, and none is shorter than that."""
        shortest_s = max(self.limits.pause_s, len(self._senders) / self.limits.asks_per_s)
        await asyncio.sleep(shortest_s * self.rng.uniform(0.75, 1.25))
        sender.woken.clear()
        rest_s = max(sender.pause_s, shortest_s) - shortest_s
        with suppress(TimeoutError):
            async with asyncio.timeout(rest_s * self.rng.uniform(0.75, 1.25)):
                await sender.woken.wait()

    async def _look(self, sender: _Sender) -> bool:
        """Take what is new; whether there was anything. Whatever goes wrong is tried again the next time."""
        endpoint, letters = sender.endpoint, list[bytes]()
        with suppress(AskFailed):
            raw = await self.ask(endpoint, head_name(self.address), HEAD_SIZE)
            if len(raw) != HEAD_SIZE:
                return False
            epoch, first, after = decode_head(raw)
            start = max(first, sender.at[1]) if sender.at[0] == epoch else first
            with suppress(AskFailed):
                for number in range(start, min(after, start + self.limits.taken_max)):
                    name = letter_name(self.address, epoch, number)
                    letters.append(await self.ask(endpoint, name, LETTER_BYTES_MAX))
            if letters:
                await self._remember(sender, (epoch, start + len(letters)))
        for letter in letters:
            self._take(endpoint.address, letter)
        return bool(letters)

    def _take(self, sender: Address, raw: bytes) -> None:
        """Put a message into the inbox, if the owner of this outbox signed its delivery to us."""
        try:
            header, message = open_letter(raw)
            signer = self.deliveries.sender(header, message)
        except (ValueError, BadSignature):
            return
        if signer == sender and len(message) <= MESSAGE_BYTES_MAX:
            self.inbox.put(sender, message)

    async def _remember(self, sender: _Sender, at: tuple[int, int]) -> None:
        """Before messages are handed out: at most once holds across a restart, too."""
        sender.at = self._taken[sender.endpoint.address] = at
        while len(self._taken) > 2 * self.limits.senders_max:
            del self._taken[next(iter(self._taken))]
        if self.places is not None:
            text = json.dumps({address.hex(): list(each) for address, each in self._taken.items()})
            await asyncio.to_thread(write_whole, self.places, [text.encode()])


def _read_places(path: Path | None) -> dict[Address, tuple[int, int]]:
    """What an earlier process had taken; nothing if the file is not there or damaged."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        if path is not None:
            found = json.loads(path.read_text())
            return {Address(bytes.fromhex(name)): (int(at[0]), int(at[1])) for name, at in found.items()}
    return {}
