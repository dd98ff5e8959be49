"""A run that pays, on a real embedded chain: contracts, members, certified rounds, epochs, all made in this process.

The archive is that of ``archives.py``: seven rounds are certified (the third is empty, the fourth seat is dropped), in
epochs of three non-empty rounds. Rounds are ten seconds apart on a clock that tests turn.
"""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from distrai.ledger.client import LedgerClient
from distrai.ledger.deployment import LOCAL, Deployment, DeploymentSettings, deploy
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey, load_key, save_key
from distrai.ledger.pots import PotsClient
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.ledger.training_records import RecordsClient
from distrai.network.store import BlobStore
from distrai.peer.link import Link
from distrai.protocol.body import Body, quorum
from distrai.protocol.ledger_events import LedgerEvent
from distrai.protocol.lists import CertifiedList
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.pot import Due, Pot, compute_epoch, recompute
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId
from distrai.protocol.recipe import Contracts, ResolvedRecipe, parse_recipe
from distrai.protocol.rewards import (
    MILLION,
    Earnings,
    Epoch,
    WorkedRound,
    accepted_tokens,
    reward_table,
    rewards_proof,
    rewards_root,
)
from distrai.protocol.typed_data import Domain
from distrai.runs.archive import Archive
from distrai.runs.folder import RunFolder, RunInfo
from distrai.runs.resolving import resolve
from helpers.archives import SEATS, ArchiveMaker, attested, recipe_of
from helpers.messages import Author, named

BEGAN = 1_700_000_000.0
ROUND_S = 10
ROUNDS = {
    1: (0, 1, 2, 3),
    2: (0, 1, 2),
    3: (),
    4: (0, 1, 2),
    5: (0, 1, 2),
    6: (1, 2),
    7: (0, 1, 2),
    8: (0, 1, 2),
}
PRICE, CAP = 12_345, 4
"""Base units; an update of 256 tokens earns 3.16 of them, and one of 512 would be cut down to the cap."""
REWARDS = {
    "price": "0.000000000000012345",
    "cap": "0.000000000000000004",
    "max_members": SEATS,
    "epoch_rounds": 3,
}
WINDOWS = replace(LOCAL.windows, activation_seconds=100, unbond_seconds=300)
OWNER = NodeKey(b"\x07" * 32)
SETTINGS = replace(LOCAL, windows=WINDOWS, guardian=OWNER.address, guardian_may_be_key=True)


@dataclass
class Clock:
    """The chain's clock."""

    now: float = BEGAN

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Player(Author):
    """An author whom a registry knows."""

    id: MemberId = field(default=MemberId(bytes(32)))

    @property
    def member(self) -> MemberId:
        return self.id

    @property
    def key(self) -> NodeKey:
        return NodeKey((self.number + 1).to_bytes(32, "big"))

    @property
    def payout(self) -> Address:
        """Nobody has the key of it."""
        return Address(b"\xaa" * 19 + bytes([self.number]))


@dataclass
class PaidRun:
    """A chain that answers, its contracts, and everybody around them."""

    folder: RunFolder
    clock: Clock
    chain: EmbeddedChain
    url: str
    owner: NodeKey
    deployment: Deployment
    ledger: LedgerClient
    pots: PotsClient
    stakes: StakesClient
    records: RecordsClient
    token: TokenClient
    index: LedgerIndex
    source: LogSource
    run: int = 0
    people: list[Player] = field(default_factory=list)

    @property
    def domain(self) -> Domain:
        """The distributor's."""
        return Domain(self.deployment.chain_id, self.deployment.rewards)

    @property
    def contracts(self) -> Contracts:
        made = self.deployment
        return Contracts(
            token=made.token,
            stakes=made.stakes,
            rewards=made.rewards,
            records=made.records,
            decimals=made.decimals,
        )

    async def sync(self) -> None:
        await self.index.sync(self.source)

    async def events(self, run: int | None = None) -> list[LedgerEvent]:
        await self.sync()
        return self.index.events(run=self.run if run is None else run)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def resolved(self) -> ResolvedRecipe:
        return Archive(self.folder.archive).recipe(Hash(bytes.fromhex(self.folder.read().recipe_hash[2:])))

    def lists(self) -> dict[int, CertifiedList]:
        return dict(Archive(self.folder.archive).lists())

    def worked(self) -> list[WorkedRound]:
        lists = sorted(self.lists().items())
        return [WorkedRound(number, accepted_tokens(listed)) for number, listed in lists if listed.entries]

    # Members and runs

    async def register(self, numbers: Sequence[int]) -> list[Player]:
        """Members whose creator is the owner, sorted by id."""
        found = []
        for number in numbers:
            player = Player(number)
            member = await self.ledger.register(player.key, player.address, player.payout)
            found.append(replace(player, id=member))
        return sorted(found, key=lambda each: each.member)

    async def join(self, run: int, people: Sequence[Player]) -> None:
        for player in people:
            invitation = self.ledger.invitation(self.owner, run, player.member)
            await self.ledger.join(run, player.member, player.key, invitation)

    async def open_pot(
        self, run: int, resolved: ResolvedRecipe, people: Sequence[Player], rounds: int
    ) -> None:
        """A pot that is funded, from which these may earn."""
        assert resolved.recipe.rewards is not None
        terms = resolved.recipe.rewards.terms(self.deployment.decimals)
        await self.pots.open_pot(run, terms)
        await self.pots.fund(run, rounds * terms.rate)
        for player in people:
            await self.pots.allow(run, player.member)

    # Rounds and epochs

    async def certify(self, maker: ArchiveMaker, who: Sequence[int], **changes: Any) -> None:
        """One round, on disk and on the ledger."""
        self.wait(ROUND_S)
        maker.round(who, **changes)
        record = maker.archive().certificate(maker.standing.round)
        await self.ledger.certify(record.body, record.signatures)

    async def due(self, last_round: int, before: Earnings | None = None) -> Due:
        """The next epoch, until the mark of this round."""
        pot = Pot.fold(await self.events())
        if before is None:
            before = await self.settled_earnings()
        return compute_epoch(pot, before, self.worked(), pot.marks[last_round], self.domain, self.run)

    async def settled_earnings(self) -> Earnings:
        pot, earned = Pot.fold(await self.events()), Earnings()
        for live, known in enumerate(pot.epochs):
            earlier = replace(pot, epochs=pot.epochs[:live])
            mark = pot.marks[known.settled.last_round]
            earned = compute_epoch(earlier, earned, self.worked(), mark, self.domain, self.run).earnings
        return earned

    async def settle(self, epoch: Epoch) -> None:
        """Land an epoch with the signatures of the seats of now."""
        seats = [each for each in self.people if await self.has_seat(epoch.run, each)]
        signers = sorted(seats[: quorum(len(seats))], key=lambda each: each.address)
        digest = self.domain.digest(epoch.id)
        await self.pots.settle(epoch, [each.sign(digest) for each in signers])

    async def has_seat(self, run: int, player: Player) -> bool:
        return (await self.ledger.membership(run, player.member)).seat_key is not None

    async def end_epoch(self, maker: ArchiveMaker) -> Due:
        """Mark the newest head, settle until there, and publish the table."""
        await self.pots.mark_head(self.run)
        due = await self.due(maker.standing.round)
        maker.blobs.put(due.table.to_bytes())
        await self.settle(due.epoch)
        return due

    async def conspire(self, run: int, amounts: dict[MemberId, int], **changes: Any) -> EpochSettled:
        """An epoch until the newest head, in which captured seats pay what they like: base units in all, by member."""
        await self.pots.mark_head(run)
        pot = Pot.fold(await self.events(run))
        earnings = Earnings({member: amount * MILLION for member, amount in amounts.items()})
        table, last = reward_table(run, len(pot.epochs) + 1, earnings), list(pot.marks.values())[-1]
        BlobStore(self.folder.archive / "blobs").put(table.to_bytes())
        epoch = Epoch(
            run=run,
            epoch=len(pot.epochs) + 1,
            last_round=last.mark.round,
            head=last.head,
            root=rewards_root(self.domain, run, earnings.amounts),
            total=earnings.total,
            data_hash=table.blob.hash,
            previous_root=pot.epochs[-1].settled.root if pot.epochs else ZERO_HASH,
            kills=pot.kills,
        )
        await self.settle(msgspec.structs.replace(epoch, **changes))
        return Pot.fold(await self.events(run)).epochs[-1].settled

    async def bare_round(self, run: int) -> None:
        """A round of which there is nothing but a body that its seats signed."""
        self.wait(ROUND_S)
        state = await self.ledger.run_state(run)
        number = state.round + 1
        roots = named(f"updates {number}"), named(f"state {number}"), named(f"trainers {number}")
        body = Body(run, number, state.head, *roots)
        seats = [each for each in self.people if await self.has_seat(run, each)]
        domain = Domain(self.deployment.chain_id, self.deployment.registry)
        await self.ledger.certify(body, attested(body, seats[: quorum(len(seats))], domain))

    async def paid_to(self, player: Player) -> int:
        """What is at the member's payout address."""
        return await self.token.balance(player.payout)


@asynccontextmanager
async def opened(
    folder: RunFolder, clock: Clock, settings: DeploymentSettings = SETTINGS, port: int = 0
) -> AsyncIterator[PaidRun]:
    """The chain in a run's folder, served by this process; contracts are deployed where there are none yet."""
    if not folder.owner_key.exists():
        save_key(OWNER, folder.owner_key)
    owner = load_key(folder.owner_key)
    async with AsyncExitStack() as stack:
        chain = EmbeddedChain.open(folder.ledger, clock)
        stack.callback(chain.close)
        url = await stack.enter_async_context(serve(chain, "127.0.0.1", port))
        made = await deploy(url, chain.chain_id, owner, settings, path=folder.deployment)

        async def connect(client: Any, address: Address) -> Any:
            found = await client.connect(url, address, chain.chain_id, owner)
            stack.push_async_callback(found.close)
            return found

        index = LedgerIndex.open(folder.path / "test-index.sqlite", made)
        stack.callback(index.close)
        source = await LogSource.connect(url, chain.chain_id)
        stack.push_async_callback(source.close)
        yield PaidRun(
            folder,
            clock,
            chain,
            url,
            owner,
            made,
            await connect(LedgerClient, made.registry),
            await connect(PotsClient, made.rewards),
            await connect(StakesClient, made.stakes),
            await connect(RecordsClient, made.records),
            await connect(TokenClient, made.token),
            index,
            source,
        )


@dataclass(frozen=True)
class Scene:
    """A run's folder that a test may copy, and the time when it was left."""

    folder: RunFolder
    now: float
    run: int
    people: tuple[Player, ...]

    def copy(self, to: Path) -> "Scene":
        shutil.copytree(self.folder.path, to)
        return replace(self, folder=RunFolder(to))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[PaidRun]:
        async with opened(self.folder, Clock(self.now)) as world:
            world.run, world.people = self.run, list(self.people)
            yield world

    def author(self, number: int) -> Player:
        return self.people[number]


def write_run(folder: RunFolder, world: PaidRun, resolved: ResolvedRecipe, rounds: int) -> None:
    """What a run's folder is known by."""
    link = Link("http://127.0.0.1:9", world.deployment.chain_id, world.deployment.registry, world.run)
    folder.write(
        RunInfo(
            link=str(link),
            preset="prime",
            peers=SEATS,
            rounds=rounds,
            recipe_hash="0x" + resolved.blob.hash.hex(),
            name="smoke",
        )
    )


async def make_paid_run(path: Path, texts: Path) -> Scene:
    """The run that the module's text describes.

    Epoch 1 (rounds 1 to 4) is active and was claimed by members 0 and 1; epoch 2 (to 7) is not active, round 8 in none.
    """
    folder = RunFolder(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    async with opened(folder, clock) as world:
        blobs = BlobStore(folder.archive / "blobs")
        recipe = recipe_of(texts) | {"rewards": REWARDS}
        resolved = resolve(parse_recipe(recipe), texts, blobs, world.contracts)
        world.people = await world.register(range(SEATS))
        world.run = await open_run(world, resolved)
        await world.join(world.run, world.people)
        domain = Domain(world.deployment.chain_id, world.deployment.registry)
        maker = ArchiveMaker.of(folder.archive, resolved, world.people, domain, world.run)
        await world.open_pot(world.run, resolved, world.people, len(ROUNDS))
        await world.ledger.start(world.run, [each.member for each in world.people])
        for number in (1, 2, 3, 4):
            await world.certify(maker, ROUNDS[number])
        await world.end_epoch(maker)
        for number in (5, 6, 7):
            await world.certify(maker, ROUNDS[number])
        world.wait(WINDOWS.activation_seconds)
        for player in world.people[:2]:
            await claim_epoch(world, 1, player)
        await world.end_epoch(maker)
        await world.certify(maker, ROUNDS[8])
        write_run(folder, world, resolved, len(ROUNDS))
        (folder.path / "test-index.sqlite").unlink(missing_ok=True)
        return Scene(folder, clock.now, world.run, tuple(world.people))


async def open_run(world: PaidRun, resolved: ResolvedRecipe, parent: int = 0) -> int:
    """A run of this recipe on the registry."""
    opening = Opening(
        recipe_hash=resolved.blob.hash,
        state_root=resolved.initial_root,
        data_hash=resolved.corpus.hash,
        tokenizer_hash=resolved.tokenizer_hash,
        parent_run=parent,
    )
    return await world.ledger.open_run(opening, Limits(min_seats=2, max_seats=64, stall_seconds=100))


async def claim_epoch(world: PaidRun, epoch: int, player: Player) -> None:
    """Claim as anybody could, without the code that is tested."""
    pot = Pot.fold(await world.events())
    amounts = recompute(pot, world.worked(), world.domain, world.run)[epoch - 1].earnings.amounts
    proof = rewards_proof(world.domain, world.run, amounts, player.member)
    await world.pots.claim(world.run, epoch, player.member, amounts[player.member], proof)
