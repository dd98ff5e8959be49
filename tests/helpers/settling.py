"""A run that pays, on a real chain, whose members settle over real transports; rounds are certified by hand."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.deployment import LOCAL, Deployment, deploy
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.rpc import Patience
from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint, FetchFailed
from distrai.network.store import BlobStore
from distrai.peer.epochs import EpochBook
from distrai.peer.log import EventLog
from distrai.peer.settlement import Seats, Settlement
from distrai.peer.signing import SignedEpochs
from distrai.peer.work import WorkBook
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.canonical import encode_canonical
from distrai.protocol.cipher import KEY_SIZE
from distrai.protocol.keccak import keccak
from distrai.protocol.lists import CertifiedList, Entry
from distrai.protocol.messages import UPDATE_VERSION, Envelope, Update
from distrai.protocol.primitives import SIGNATURE_SIZE, ZERO_HASH, Hash, MemberId, SignatureBytes
from distrai.protocol.rewards import RewardTerms
from distrai.protocol.signatures import recover
from distrai.protocol.standing import Seat
from distrai.protocol.typed_data import Domain
from helpers.reorgs import reorganise

QUICK = Patience(request_s=5.0, call_s=10.0, backoff_s=0.01, backoff_s_max=0.1)
OPENING = Opening(keccak(b"recipe"), keccak(b"state 0"), keccak(b"data"), keccak(b"tokenizer"))
LIMITS = Limits(min_seats=1, max_seats=8, stall_seconds=100)
TERMS = RewardTerms(price=10**18, cap=10**15, max_members=4, min_round_seconds=1)
"""A token is 10^12 base units, a thousand of them the cap."""
TOKEN_PRICE = TERMS.price // 1_000_000
EPOCH_ROUNDS = 3
TURN_S = 1_000.0
ACTIVATION_S = 1_000
WINDOWS = replace(LOCAL.windows, activation_seconds=ACTIVATION_S, unbond_seconds=10_000)


@dataclass
class Clock:
    """A clock that the test turns, for the chain or for turns."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Told:
    """A telemetry that remembers."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.events if name == event]


def list_of(run: int, number: int, tokens: Mapping[MemberId, int]) -> CertifiedList:
    """A list that accepted so many tokens of each; nobody looks at its signatures."""
    entries = tuple(_entry(run, number, member, count) for member, count in sorted(tokens.items()))
    return CertifiedList(0, (), entries)


def _entry(run: int, number: int, member: MemberId, tokens: int) -> Entry:
    update = Update(
        run=run,
        round=number,
        previous_head=ZERO_HASH,
        member=member,
        version=UPDATE_VERSION,
        base_round=number - 1,
        base_state_root=ZERO_HASH,
        fragment=0,
        tau=0,
        inner_steps=1,
        tokens=tokens,
        codec="int8/1",
        blob_hash=keccak(b"blob"),
        blob_size=1_000,
        key_hash=keccak(b"key"),
        trace_root=ZERO_HASH,
    )
    envelope = Envelope(update.kind, encode_canonical(update), SignatureBytes(bytes(SIGNATURE_SIZE)))
    return Entry(encode_canonical(envelope), bytes(KEY_SIZE))


@dataclass
class Giving:
    """What other peers give: blobs over the transport, and lists that the test lets out."""

    peer: "Peer"
    given: dict[int, CertifiedList] = field(default_factory=dict)
    asked: int = 0

    async def lists(self, bodies: Sequence[Body]) -> list[tuple[int, CertifiedList]]:
        self.asked += 1
        return [(body.round, self.given[body.round]) for body in bodies if body.round in self.given]

    async def blob(self, name: Hash, size_max: int) -> BlobRef:
        holders = [other.endpoint for other in self.peer.paying.peers if other is not self.peer]
        if not holders:
            raise FetchFailed(name, "nobody", {})
        blob = await self.peer.transport.resolve(name, holders, size_max, 5.0)
        await self.peer.transport.fetch(blob, holders, 5.0, "data")
        return blob


@dataclass
class Peer:
    """A member with its home, its transport, and a settlement that may be begun anew."""

    paying: "Paying"
    home: Path
    key: NodeKey
    member: MemberId
    transport: HttpTransport
    endpoint: Endpoint
    told: Told = field(default_factory=Told)
    clock: Clock = field(default_factory=Clock)

    async def begin(self, finality: int = 0) -> None:
        """Begin to settle, as a process does that was just started on this home."""
        self.stack = AsyncExitStack()
        paying, deployment = self.paying, self.paying.deployment
        self.log = EventLog(self.home / "peer.sqlite")
        self.stack.callback(self.log.close)
        self.work = WorkBook(self.home / "work.sqlite")
        self.stack.callback(self.work.close)
        index = LedgerIndex.open(self.home / "ledger.sqlite", deployment)
        self.stack.callback(index.close)
        source = await LogSource.connect(paying.url, deployment.chain_id, patience=QUICK)
        self.stack.push_async_callback(source.close)
        pots = await self.connect(self.key)
        self.others = Giving(self)
        domain = Domain(deployment.chain_id, deployment.rewards)
        blobs = self.transport.store
        book = EpochBook(paying.run, domain, EPOCH_ROUNDS, paying.rounds, self.work, blobs, self.others)
        self.settlement = Settlement(
            book,
            index,
            source,
            pots,
            self.transport,
            SignedEpochs(self.log),
            lambda: Seats(paying.seats, self.member, lambda _: self.key),
            lambda member: next((one.endpoint for one in paying.peers if one.member == member), None),
            self.told,  # type: ignore[arg-type]
            finality,
            replace(TERMS, **paying.promised),
            TURN_S,
            clock=self.clock,
        )

    async def connect(self, key: NodeKey) -> PotsClient:
        pots = await PotsClient.connect(
            self.paying.url,
            self.paying.deployment.rewards,
            self.paying.deployment.chain_id,
            key,
            patience=QUICK,
        )
        self.stack.push_async_callback(pots.close)
        return pots

    async def end(self) -> None:
        await self.stack.aclose()

    async def step(self) -> str | None:
        """One look; why it waits, if it does."""
        from distrai.peer.epochs import Waits

        try:
            await self.settlement.step()
        except Waits as why:
            return str(why)
        return None


@dataclass
class Paying:
    """A started run with a pot; ``peers`` are its seats, and whoever comes later."""

    path: Path
    node: AsyncExitStack
    """The chain and who serves it."""
    url: str
    clock: Clock
    owner: NodeKey
    deployment: Deployment
    ledger: LedgerClient
    pots: PotsClient
    stack: AsyncExitStack
    rounds: int = 1_000
    promised: dict[str, int] = field(default_factory=dict)
    """What the recipe says otherwise than the pot."""
    run: int = 0
    peers: list[Peer] = field(default_factory=list)
    seats: tuple[Seat, ...] = ()
    lists: dict[int, CertifiedList] = field(default_factory=dict)

    @classmethod
    async def open(cls, path: Path, stack: AsyncExitStack, members: int, rounds: int = 1_000) -> "Paying":
        """Deploy everything, open and fund a run's pot, and start the run with so many members, all allowed."""
        clock, owner, node = Clock(), NodeKey.generate(), await stack.enter_async_context(AsyncExitStack())
        chain = EmbeddedChain.open(path / "chain", clock)
        node.callback(chain.close)
        url = await node.enter_async_context(serve(chain, "127.0.0.1", 0))
        settings = replace(LOCAL, windows=WINDOWS, guardian=owner.address, guardian_may_be_key=True)
        deployment = await deploy(url, chain.chain_id, owner, settings, QUICK)
        ledger = await LedgerClient.connect(url, deployment.registry, chain.chain_id, owner, patience=QUICK)
        stack.push_async_callback(ledger.close)
        pots = await PotsClient.connect(url, deployment.rewards, chain.chain_id, owner, patience=QUICK)
        stack.push_async_callback(pots.close)
        paying = cls(path, node, url, clock, owner, deployment, ledger, pots, stack, rounds)
        paying.run = await ledger.open_run(OPENING, LIMITS)
        await pots.open_pot(paying.run, TERMS)
        await pots.fund_up_to(paying.run, 1_000 * TERMS.rate)
        for _ in range(members):
            await paying.add()
        await ledger.start(paying.run, sorted(peer.member for peer in paying.peers))
        paying.seats = tuple(sorted(Seat(peer.member, peer.key.address, 0) for peer in paying.peers))
        return paying

    async def add(self) -> Peer:
        """One more member, who may earn; as a seat if the run has not started."""
        key, number = NodeKey.generate(), len(self.peers)
        client = await LedgerClient.connect(
            self.url, self.deployment.registry, self.deployment.chain_id, key, patience=QUICK
        )
        self.stack.push_async_callback(client.close)
        member = await client.register(key, key.address, key.address)
        await client.join(self.run, member, key, client.invitation(self.owner, self.run, member))
        await self.pots.allow(self.run, member)
        home = self.path / f"peer-{number}"
        transport = HttpTransport(
            BlobStore(home / "blobs"),
            host="127.0.0.1",
            port=0,
            tls=False,
            address=key.address,
            sign=key.sign,
            recover=recover,
            local=True,
            rng=random.Random(number),
        )
        self.stack.push_async_callback(transport.close)
        urls = await transport.start()
        peer = Peer(self, home, key, member, transport, Endpoint(member, key.address, _several(urls)))
        self.peers.append(peer)
        await peer.begin()
        self.stack.push_async_callback(peer.end)
        return peer

    async def certify(self, tokens: int = 100, seconds: float = 10.0, heard_by: Sequence[Peer] = ()) -> int:
        """A round in which every seat's update with so many tokens is accepted; none: an empty round."""
        self.clock.now += seconds
        state = await self.ledger.run_state(self.run)
        number = state.round + 1
        members = [seat.member for seat in self.seats]
        certified = list_of(self.run, number, dict.fromkeys(members, tokens) if tokens else {})
        self.lists[number] = certified
        body = Body(
            self.run,
            number,
            state.head,
            certified.updates_root,
            keccak(b"state %d" % number) if tokens else state.state_root,
            certified.trainers_root,
        )
        await self.ledger.certify(body, self.sign(self.ledger.domain.digest(body.id)))
        for peer in heard_by or self.peers:
            peer.work.take(number, certified)
        return number

    async def take_back(self, blocks: int) -> None:
        """The last blocks of the chain are gone, as in a reorg; what is mined next takes their place."""
        await self.node.aclose()
        reorganise(self.path / "chain", blocks, 0)
        chain = EmbeddedChain.open(self.path / "chain", self.clock)
        self.node.callback(chain.close)
        port = int(self.url.rsplit(":", 1)[1])
        assert await self.node.enter_async_context(serve(chain, "127.0.0.1", port)) == self.url

    def sign(self, digest: Hash, count: int | None = None) -> list[SignatureBytes]:
        """Signatures of the first seats, sorted by signer."""
        addresses = [seat.key for seat in self.seats[:count]]
        keys = [peer.key for peer in self.peers if peer.key.address in addresses]
        return [key.sign(digest) for key in sorted(keys, key=lambda key: key.address)]

    async def step(self, *peers: Peer) -> list[str | None]:
        """Everybody looks once, at the same time."""
        return await asyncio.gather(*(peer.step() for peer in peers or self.peers))

    async def settle(self, epochs: int, *peers: Peer) -> None:
        """Until so many epochs are live, or it takes too long."""
        for _ in range(10):
            await self.step(*peers)
            pot = await self.pots.pot_of(self.run)
            if pot is not None and pot.live >= epochs:
                return
        raise AssertionError(f"no {epochs} epochs: {[peer.told.events for peer in self.peers]}")


def _several(urls: str | tuple[str, ...]) -> tuple[str, ...]:
    return (urls,) if isinstance(urls, str) else urls
