"""What settling needs of a peer and its run: opened before the first round is applied, closed when the peer ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import LedgerUnreachable
from distrai.ledger.index import LedgerIndex, LogSource, WrongIndex
from distrai.ledger.pots import PotsClient
from distrai.network.interface import Endpoint, Transport
from distrai.peer.circle import Circle, History
from distrai.peer.directory import Directory
from distrai.peer.engine import Engine
from distrai.peer.epochs import EpochBook
from distrai.peer.keyring import Keyring
from distrai.peer.link import Link
from distrai.peer.newcomer import Newcomer
from distrai.peer.plan import Plan
from distrai.peer.settlement import Seats, Settlement
from distrai.peer.signing import SignedEpochs
from distrai.peer.snapshots import ENDPOINTS_SHOWN_MAX
from distrai.peer.store import PeerStore
from distrai.peer.telemetry import Telemetry
from distrai.peer.work import WorkBook
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Body
from distrai.protocol.ledger_events import RunOpened
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Address, Hash
from distrai.protocol.typed_data import Domain

FETCH_S = 60.0
LEDGER_RETRY_S = 1.0
SETTLE_S = 60.0
BLOCK_S = 15.0
"""For a block on top of what is signed about: as long as it takes on slow chains."""
TURN_D0 = 4.0
"""How long seats wait for each other, as a multiple of D0 of the recipe."""


@dataclass(frozen=True)
class RunOthers:
    """The other peers of a run, for what an epoch needs of them."""

    newcomer: Newcomer
    directory: Directory
    history: Callable[[], Awaitable[History]]

    async def _holders(self) -> list[Endpoint]:
        circle, history = self.newcomer.circle, await self.history()
        circle.introduce(history.endpoints())
        circle.learn(self.directory.records(ENDPOINTS_SHOWN_MAX), history.roster())
        return list(circle.endpoints.values())

    async def lists(self, bodies: Sequence[Body]) -> list[tuple[int, CertifiedList]]:
        """Lists of these certificates, of as many as anybody has, by round.

        Whose signatures are in them need not be looked at: the seats certified them by their root.
        """
        await self._holders()
        history = await self.history()
        await self.newcomer.circle.ask(history.roster())
        found = [(body.round, await self.newcomer.list(body, history.people(), {})) for body in bodies]
        return [(number, certified) for number, certified in found if certified is not None]

    async def blob(self, name: Hash, size_max: int) -> BlobRef:
        """Have the blob with this name in the own store. Raises FetchFailed."""
        holders, transport = await self._holders(), self.newcomer.circle.transport
        blob = await transport.resolve(name, holders, size_max, FETCH_S)
        await transport.fetch(blob, holders, FETCH_S, "data")
        return blob


@contextmanager
def work_kept(store: PeerStore) -> Iterator[WorkBook]:
    """The book of accepted tokens, which every list that is applied from now on goes into; lists stay until settled."""
    work = WorkBook(store.home / "work.sqlite")
    work.take_all(store.public)
    store.on_list = work.take
    store.offering.keep_lists_after(0)
    try:
        yield work
    finally:
        store.on_list = lambda _number, _certified: None
        store.offering.keep_lists_after(None)
        work.close()


def settle_s(plan: Plan) -> float:
    """How long the seats may need to settle the last epoch, once all rounds are done; 0 where nothing is paid."""
    rewards = plan.resolved.recipe.rewards
    return 0.0 if rewards is None else SETTLE_S + BLOCK_S * 2 * rewards.finality_blocks


def deployment_of(plan: Plan, link: Link, opened: RunOpened) -> Deployment:
    """The contracts that a run's recipe names. What comes before the run concerns nobody in it."""
    contracts = plan.resolved.contracts
    assert contracts is not None
    block = max(0, opened.at.block_number - 1)
    return Deployment.named_by(contracts, link.chain_id, link.registry, block)


def _open_index(path: Path, deployment: Deployment) -> LedgerIndex:
    """The index of a home, made anew if it is of before a reorg that moved the opening of the run."""
    try:
        return LedgerIndex.open(path, deployment)
    except WrongIndex:
        path.unlink()
        return LedgerIndex.open(path, deployment)


@dataclass(frozen=True)
class Bookkeeping:
    """One peer's part in settling a run that pays."""

    plan: Plan
    link: Link
    opened: RunOpened
    engine: Engine
    keyring: Keyring
    store: PeerStore
    transport: Transport
    directory: Directory
    history: Callable[[], Awaitable[History]]
    telemetry: Telemetry
    address: Address
    """Of the key that the transport proves."""

    async def run(self, work: WorkBook) -> None:
        """Settle, for ever. While the ledger is away it is waited for."""
        while True:
            try:
                async with self._settlement(work) as settlement:
                    await settlement.run()
            except LedgerUnreachable as error:
                self.telemetry.emit("ledger", why=str(error))
            except Exception as error:  # noqa: BLE001 - training goes on without money, and says so
                self.telemetry.emit("settlement-waits", why=f"{type(error).__name__}: {error}")
            await asyncio.sleep(LEDGER_RETRY_S)

    @asynccontextmanager
    async def _settlement(self, work: WorkBook) -> AsyncIterator[Settlement]:
        """Raises LedgerUnreachable or WrongChain."""
        link, deployment = self.link, deployment_of(self.plan, self.link, self.opened)
        async with AsyncExitStack() as stack:
            pots = await PotsClient.connect(link.rpc, deployment.rewards, link.chain_id, self.keyring.first)
            stack.push_async_callback(pots.close)
            source = await LogSource.connect(link.rpc, link.chain_id)
            stack.push_async_callback(source.close)
            index = _open_index(self.store.home / "ledger.sqlite", deployment)
            stack.callback(index.close)
            yield self._made(pots, source, index, self._book(work, Domain(link.chain_id, deployment.rewards)))

    def _book(self, work: WorkBook, domain: Domain) -> EpochBook:
        plan, link, rewards = self.plan, self.link, self.plan.resolved.recipe.rewards
        assert rewards is not None
        circle = Circle(self.transport, Domain(link.chain_id, link.registry), link.run, self.address)
        blobs, tell = self.store.blobs, self.telemetry.emit
        newcomer = Newcomer(circle, blobs, plan.rules.run, plan.state_bytes, tell)
        others = RunOthers(newcomer, self.directory, self.history)
        return EpochBook(
            link.run,
            domain,
            rewards.epoch_rounds,
            plan.rules.rounds,
            work,
            blobs,
            others,
            self.store.offering.keep_lists_after,
        )

    def _made(self, pots: PotsClient, source: LogSource, index: LedgerIndex, book: EpochBook) -> Settlement:
        resolved, engine = self.plan.resolved, self.engine
        rewards, contracts = resolved.recipe.rewards, resolved.contracts
        assert rewards is not None and contracts is not None

        def seats() -> Seats:
            seated = () if engine.standing is None else engine.standing.seats
            return Seats(seated, engine.identity.member, self.keyring.key)

        return Settlement(
            book,
            index,
            source,
            pots,
            self.transport,
            SignedEpochs(self.store.log),
            seats,
            self.directory.endpoint,
            self.telemetry,
            rewards.finality_blocks,
            rewards.terms(contracts.decimals),
            TURN_D0 * self.plan.rules.timing.d0_s,
        )
