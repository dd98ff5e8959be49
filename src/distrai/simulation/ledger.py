"""A ledger with one run on it: blocks, a pool of transactions, forks that replace each other, and outages.

Each peer looks at it through a ``Node`` of its own, which is what the real ``LedgerFeed`` reads from; nodes may
lag, and learn of a fork one after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from distrai.ledger.errors import LedgerUnreachable
from distrai.ledger.follower import BlockMark
from distrai.peer.identity import Identity
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Certified, LedgerEvent, Position, RollCalled, RunOpened, Started
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.simulation.clock import Clock
from distrai.simulation.contract import Contract, Limits, Refused
from distrai.simulation.scenario import LedgerFaults
from distrai.simulation.toy import GENESIS
from distrai.simulation.transactions import Join, Start, Transaction

BLOCKS_BEFORE_RUN = 1
"""The first block: members are registered and the run is open. No reorg takes it back."""
START_IS_FINAL_S = 10.0
"""When the start of a run is taken back no more. Whoever joins before it is a seat: others join after this."""

LATE_S = 10.0
"""After a reorg some transactions come back only after so long."""


@dataclass(frozen=True)
class Block:
    """A block with the contract as it is after it."""

    mark: BlockMark
    timestamp: int
    contract: Contract
    taken: tuple[Transaction, ...] = ()
    events: tuple[LedgerEvent, ...] = ()


@dataclass(frozen=True)
class Landed:
    """A round that is over: its head, the state that it leads to, when it closed; no body for a roll call."""

    head: Hash
    state_root: Hash
    at_s: float
    body: Body | None


class LedgerModel:
    """One run on one ledger. ``on_head`` is told of every head, whatever becomes of its block later."""

    def __init__(self, clock: Clock, random: Random, faults: LedgerFaults, limits: Limits) -> None:
        self.clock, self.random, self.faults = clock, random, faults
        self.rounds: list[Landed] = []
        self.heads: dict[Hash, LedgerEvent] = {}
        """Every head that ever was on some fork."""
        self.refused: dict[str, int] = {}
        self.reorgs = 0
        self.roll_calls = 0
        self.reachable = True
        self.on_head: Callable[[LedgerEvent, Contract], None] = lambda *_: None
        self.nodes: list[Node] = []
        self._final = BLOCKS_BEFORE_RUN
        self._pool: list[Transaction] = []
        self._late: dict[object, list[Transaction]] = {}
        """What a reorg took out of a block, and its sender's later ones: nobody has it until a while later."""
        self._expected: set[MemberId] = set()
        contract = Contract(limits, GENESIS.head, GENESIS.state_root)
        self.blocks = [self._block(None, 0, contract, (), (lambda at: RunOpened(at, GENESIS, _OWNER),))]

    @property
    def contract(self) -> Contract:
        """The contract as of the newest block. Not to be changed."""
        return self.blocks[-1].contract

    @property
    def round(self) -> int:
        """How many rounds are over."""
        return self.contract.round

    def open(self, registered: Sequence[Identity], members: Sequence[Identity]) -> None:
        """``members`` join, in one block, and the run starts in the next; then there is one every ``block_s``."""
        for identity in registered:
            self.contract.register(identity.member, identity.address)
        self._expected = {identity.member for identity in members}
        self._pool += [Join(member) for member in sorted(self._expected)]
        self._add_block(1)
        self._start()
        self._add_block(1)
        self.clock.after(self.faults.block_s, self._mine)

    def _start(self) -> None:
        """What the owner does, again where a reorg took it back: start the run once all are in that did not leave."""
        contract = self.contract
        waited_for = {member for member in self._expected if contract.parts.get(member) is not False}
        if not contract.is_started and waited_for <= set(contract.seats):
            self._pool.append(Start(tuple(sorted(contract.seats))))

    def after_start(self, then: Callable[[], None]) -> None:
        """Do something once the start of the run is final: at once where there are no reorgs."""
        late = self.faults.reorg_every_s > 0 and self.clock.now < START_IS_FINAL_S
        if late or not self.contract.is_started:
            self.clock.after(1.0, lambda: self.after_start(then))
            return
        self._final = max(self._final, len(self.blocks))
        then()

    def node(self) -> "Node":
        """Another view of the ledger."""
        self.nodes.append(Node(self))
        return self.nodes[-1]

    def submit(self, sent: Transaction) -> None:
        """Take a transaction for the next block, unless nobody can be reached."""
        if self.reachable:
            self._late.get(_sender(sent), self._pool).append(sent)

    # Blocks

    def _mine(self) -> None:
        self._start()
        self._add_block(int(self.clock.now))
        self.clock.after(self.faults.block_s, self._mine)

    def _add_block(self, timestamp: int, share: float = 1.0) -> None:
        """A block with what waits, or about this share of it."""
        waiting, self._pool = self._pool, []
        parent = self.blocks[-1]
        timestamp = max(timestamp, parent.timestamp)
        contract = parent.contract.copy() if waiting else parent.contract
        made: list[Callable[[Position], LedgerEvent]] = []
        taken: list[Transaction] = []
        put_off: set[object] = set()
        for sent in waiting:
            if share < 1 and (_sender(sent) in put_off or self.random.random() > share):
                put_off.add(_sender(sent))
                self._pool.append(sent)
                continue
            try:
                made.append(contract.apply(sent, timestamp))
                taken.append(sent)
            except Refused as refusal:
                self.refused[str(refusal)] = self.refused.get(str(refusal), 0) + 1
        block = self._block(parent, timestamp, contract, tuple(taken), tuple(made))
        self.blocks.append(block)
        for event in block.events:
            self._note_head(event, contract)

    def _block(
        self,
        parent: Block | None,
        timestamp: int,
        contract: Contract,
        taken: tuple[Transaction, ...],
        made: tuple[Callable[[Position], LedgerEvent], ...],
    ) -> Block:
        number = 0 if parent is None else parent.mark.number + 1
        before = Hash(bytes(32)) if parent is None else parent.mark.hash
        name = keccak(before + b"block %d on fork %d" % (number, self.reorgs))
        events = tuple(event(Position(number, index, name)) for index, event in enumerate(made))
        return Block(BlockMark(number, name, before), timestamp, contract, taken, events)

    def _note_head(self, event: LedgerEvent, contract: Contract) -> None:
        if isinstance(event, Started | Certified | RollCalled):
            self.heads[event.head] = event
            self.on_head(event, contract)
        if isinstance(event, Certified | RollCalled):
            body = event.body if isinstance(event, Certified) else None
            state_root = event.state_root if isinstance(event, RollCalled) else event.body.state_root
            self.rounds.append(Landed(event.head, state_root, self.clock.now, body))
            self.roll_calls += body is None

    # Reorgs

    def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by a longer fork; what was in them comes back in another order, or much later."""
        depth = min(depth, len(self.blocks) - self._final)
        if depth <= 0:
            return
        lost = self.blocks[len(self.blocks) - depth :]
        self.blocks = self.blocks[: len(self.blocks) - depth]
        self.reorgs += 1
        del self.rounds[self.contract.round :]
        self._take_back([sent for block in lost for sent in block.taken])
        grown = depth + 1 if self.random.random() < 0.7 else 0  # else it is the shorter one for a while
        for _ in range(grown):
            self._add_block(self.blocks[-1].timestamp + 1, share=self.random.choice((0.3, 0.7, 1.0)))
        for node in self.nodes:
            self.clock.after(self.random.uniform(0, self.faults.fork_seen_s), node.switch)

    def _take_back(self, returned: list[Transaction]) -> None:
        """Lost blocks' transactions wait again, before those that came later; some senders' only after a while."""
        by_sender: dict[object, list[Transaction]] = {}
        for sent in returned:
            by_sender.setdefault(_sender(sent), []).append(sent)
        drawn = [sender for sender, sent in by_sender.items() for _ in sent]
        self.random.shuffle(drawn)
        for sender in by_sender:
            if sender not in self._late and self.random.random() < self.faults.reorg_lost:
                self._late[sender] = []
                self.clock.after(LATE_S, partial(self._come_late, sender))
        again: list[Transaction] = []
        for sender in drawn:
            self._late.get(sender, again).append(by_sender[sender].pop(0))
        self._pool = again + self._pool

    def _come_late(self, sender: object) -> None:
        self._pool += self._late.pop(sender)


def _sender(sent: Transaction) -> object:
    """Whose account sends it. An account's transactions keep their order: that is what nonces are for."""
    return getattr(sent, "member", sent)


class Node:
    """What one peer sees of the ledger: a fork, up to some block."""

    def __init__(self, ledger: LedgerModel) -> None:
        self.ledger = ledger
        self.blocks = ledger.blocks
        self.lag = 0
        """Newest blocks that this node has not seen."""

    def switch(self) -> None:
        """Learn of the fork that won."""
        self.blocks = self.ledger.blocks

    @property
    def length(self) -> int:
        """How many blocks there are for this node."""
        if not self.ledger.reachable:
            raise LedgerUnreachable("no node answers")
        return max(1, len(self.blocks) - self.lag)

    async def newest_block(self) -> BlockMark:
        """The newest block."""
        return self.blocks[self.length - 1].mark

    async def block_marks(self, first: int, last: int) -> list[BlockMark]:
        """The blocks ``first`` to ``last`` inclusive."""
        return [block.mark for block in self.blocks[first : min(last + 1, self.length)]]

    async def events(self, run: int, first: int, last: int) -> list[LedgerEvent]:
        """The run's events in the blocks ``first`` to ``last`` inclusive."""
        blocks = self.blocks[first : min(last + 1, self.length)]
        return [event for block in blocks for event in block.events]


_OWNER = Address(b"\x22" * 20)
