"""Catching up beside the engine: lists for rounds that are over, the right moment to join, and when to give up.

As long as a peer is no member of the run nobody answers its messages. What certificates commit to can be had all the
same: lists from the documents that peers show, ciphertexts from whoever has them. The engine lands them as always.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from distrai.peer.circle import Circle
from distrai.peer.directory import Directory
from distrai.peer.engine import Engine
from distrai.peer.events import Event, ListArrived
from distrai.peer.newcomer import Newcomer, Tell, signers, trainer_keys
from distrai.peer.snapshots import ENDPOINTS_SHOWN_MAX
from distrai.peer.store import PeerStore
from distrai.protocol.body import Body
from distrai.protocol.ledger_events import Certified, RollCalled
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import MemberId

BUSY_POLL_S, QUIET_POLL_S = 0.02, 1.0
LISTS_AHEAD = 16
ASK_PAUSE_S = 0.5
PATIENCE_S = 10.0
"""A member asks others by messages first: only what does not come for so long is looked for here."""
STUCK_S = 120.0
ROUNDS_TO_EFFECT = 2
"""Who joins trains two rounds later: so long may the rest of the catching up take."""
REPLAY_SHARE = 0.5
"""Of a round's time, for applying it afterwards, until that is known better: there is no training in it."""


class FellBehind(Exception):
    """Nobody has the updates any more that would come next: only a newer snapshot helps."""


@dataclass
class Pace:
    """How fast rounds are over on the ledger, and how fast they are applied here."""

    clock: Callable[[], float] = time.monotonic
    live_since: float = field(init=False)
    live_from: int | None = None
    live_to: int = 0
    replay_since: float | None = None
    replay_from: int = 0
    replay_to: int = 0

    def __post_init__(self) -> None:
        self.live_since = self.clock()

    def saw(self, number: int) -> None:
        """This is the ledger's newest round."""
        if self.live_from is None:
            self.live_from = number
        self.live_to = max(self.live_to, number)

    def applied(self, number: int) -> None:
        """This is the round whose state is here."""
        if self.replay_since is None:
            self.replay_since, self.replay_from = self.clock(), number
        self.replay_to = max(self.replay_to, number)

    @property
    def round_s(self) -> float:
        """Seconds of a round of the others: rather too short than too long."""
        return (self.clock() - self.live_since) / (self.live_to - (self.live_from or 0) + 1)

    @property
    def replay_s(self) -> float | None:
        """Seconds that it takes to apply a round, if that is known."""
        done = self.replay_to - self.replay_from
        return None if done <= 0 or self.replay_since is None else (self.clock() - self.replay_since) / done

    def is_near(self, remaining: int) -> bool:
        """Whether what remains is applied by the time that joining takes effect."""
        if self.replay_s is None:
            return remaining * REPLAY_SHARE <= ROUNDS_TO_EFFECT
        return remaining * self.replay_s <= ROUNDS_TO_EFFECT * self.round_s


@dataclass
class Guest:
    """One peer's way from its checkpoint to the newest head, and what it does when it loses the thread later."""

    engine: Engine
    store: PeerStore
    newcomer: Newcomer
    directory: Directory
    pace: Pace
    post: Callable[[Event], Awaitable[None]]
    join: Callable[[], Coroutine[Any, Any, None]]
    """Joins the run on the ledger, unless that is done."""
    tell: Tell
    lists: dict[int, CertifiedList] = field(default_factory=dict)
    _joining: "asyncio.Task[None] | None" = None
    _asked_at: float = float("-inf")
    _waiting: tuple[int, float] = (0, 0.0)

    @property
    def circle(self) -> Circle:
        """The peers that are asked."""
        return self.newcomer.circle

    @property
    def member(self) -> MemberId:
        """Whose part this is."""
        return self.engine.identity.member

    def applied(self) -> int:
        """The newest round whose state is here, durably."""
        standing = self.store.checkpoints()[-1].standing
        return 0 if standing is None else standing.round

    def remaining(self) -> int:
        """Rounds that the ledger has and that are not applied here."""
        following = self.engine.following
        followed = 0 if self.engine.standing is None else self.engine.standing.round
        ahead = sum(isinstance(event, Certified | RollCalled) for event in following.pending)
        return max(self.pace.live_to, followed + ahead + (following.landing is not None)) - self.applied()

    async def run(self) -> None:
        """Catch up and join, then watch over it. Raises FellBehind."""
        try:
            while True:
                remaining, applied = self.remaining(), self.applied()
                self.pace.saw(applied + remaining)
                self.pace.applied(applied)
                if self.engine.standing is not None:
                    await self._supply()
                    self._see_to_joining(remaining)
                is_settled = remaining == 0 and self.member in self.engine.roster
                await asyncio.sleep(QUIET_POLL_S if is_settled else BUSY_POLL_S)
        finally:
            if self._joining is not None:
                self._joining.cancel()

    def _see_to_joining(self, remaining: int) -> None:
        """Join when it is time, beside everything else: an invitation may have to be waited for."""
        if self._joining is None and self.pace.is_near(remaining):
            self._joining = asyncio.create_task(self.join())
        if self._joining is not None and self._joining.done():
            self._joining.result()

    async def _supply(self) -> None:
        """See that the engine gets what the certificate needs that it wants to land."""
        landing, now = self.engine.following.landing, self.pace.clock()
        if landing is None or (landing.certified is not None and not landing.missing):
            self._waiting = (0, now)
            return
        body = landing.event.body
        if self._waiting[0] != body.round:
            self._waiting = (body.round, now)
        if landing.certified is None and (known := self.lists.pop(body.round, None)) is not None:
            await self.post(ListArrived(known))
            return
        waited = now - self._waiting[1]
        is_stranger = self.member not in self.engine.roster
        if now < self._asked_at + ASK_PAUSE_S or not (is_stranger or waited > PATIENCE_S):
            return
        self._asked_at = now
        await self._ask(waited)

    async def _ask(self, waited: float) -> None:
        landing = self.engine.following.landing
        assert landing is not None
        body = landing.event.body
        self.circle.learn(self.directory.records(ENDPOINTS_SHOWN_MAX), self.engine.roster)
        await self.circle.ask(self.engine.roster)
        for endpoint in self.circle.endpoints.values():
            self.directory.introduce(endpoint)
        if landing.certified is None:
            await self._collect([body, *self._bodies_ahead()])
            if body.round in self.lists:
                return
        pruned = self.circle.pruned_through()
        pending = self.engine.following.pending
        heads = {
            landing.event.head,
            *(event.head for event in pending if isinstance(event, Certified | RollCalled)),
        }
        has_newer = any(item.head in heads for item, _ in self.circle.snapshots())
        if pruned >= body.round or (has_newer and waited > STUCK_S):
            self.tell("fell-behind", round=body.round, pruned_through=pruned)
            raise FellBehind

    def _bodies_ahead(self) -> list[Body]:
        pending = self.engine.following.pending
        return [event.body for event in pending if isinstance(event, Certified)][:LISTS_AHEAD]

    async def _collect(self, bodies: list[Body]) -> None:
        """Get lists ahead of time, up to the first that nobody has."""
        standing = self.engine.standing
        assert standing is not None
        people = len(self.engine.roster) + len(standing.trainers)
        after = {base.round: trainer_keys(base.trainers) for base in (*standing.bases, standing.base)}
        for body in bodies:
            if body.round not in self.lists:
                keys = signers(body.round, self.engine.rules.run.staleness, after)
                certified = await self.newcomer.list(body, people, keys)
                if certified is None:
                    return
                self.lists[body.round] = certified
            after[body.round] = trainer_keys(self.lists[body.round].trainers)
