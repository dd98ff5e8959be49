"""A run with a pot, stakes and a record, through the clients, on any chain whose clock the test turns."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from distrai.ledger.client import LedgerClient
from distrai.ledger.contract import Contract
from distrai.ledger.deployment import LOCAL, Deployment, DeploymentSettings, Windows, deploy
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.rpc import Patience
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.ledger.training_records import RecordsClient
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Update
from distrai.protocol.primitives import ZERO_HASH, Address, Hash, MemberId, SignatureBytes
from distrai.protocol.rewards import Epoch, RewardTerms, rewards_proof, rewards_root
from distrai.protocol.typed_data import Domain

QUICK = Patience(request_s=10.0, call_s=20.0, backoff_s=0.01, backoff_s_max=0.1)
TERMS = RewardTerms(price=2_000_000, cap=1_000, max_members=4, min_round_seconds=10)
MINIMUM, FAULT_MAX = 10_000, 4_000
GUARDIAN = NodeKey(keccak(b"guardian"))
WINDOWS = Windows(
    audit_seconds=10,
    dispute_seconds=20,
    activation_seconds=100,
    settle_seconds=200,
    slash_seconds=300,
    unbond_seconds=700,
    dead_seconds=2_000,
)
SETTINGS = replace(LOCAL, windows=WINDOWS, guardian=GUARDIAN.address, guardian_may_be_key=True)
OPENING = Opening(keccak(b"recipe"), keccak(b"state 0"), keccak(b"data"), keccak(b"tokenizer"))
LIMITS = Limits(min_seats=1, max_seats=8, stall_seconds=1_000)

Client = TypeVar("Client", bound=Contract)


async def refusal(work: Awaitable[object]) -> LedgerRefused:
    """What the ledger says against it."""
    with pytest.raises(LedgerRefused) as refused:
        await work
    return refused.value


async def refused(work: Awaitable[object]) -> str:
    """The name of the contract's error."""
    return (await refusal(work)).name


@dataclass
class MoneyChain:
    """A chain with all contracts; ``owner`` deployed them and has the tokens. ``wait`` turns the ledger's clock."""

    url: str
    chain_id: int
    wait: Callable[[int], None]
    stack: AsyncExitStack
    owner: NodeKey
    give_gas: Callable[[Address], None] = lambda account: None
    deployment: Deployment = field(init=False)

    async def deploy(self, settings: DeploymentSettings = SETTINGS) -> "MoneyChain":
        self.give_gas(GUARDIAN.address)
        self.deployment = await deploy(self.url, self.chain_id, self.owner, settings, QUICK)
        return self

    async def ledger(self, key: NodeKey | None = None) -> LedgerClient:
        of = self.deployment
        client = await LedgerClient.connect(
            self.url, of.registry, of.chain_id, key or self.owner, patience=QUICK
        )
        self.stack.push_async_callback(client.close)
        return client

    async def client(self, kind: type[Client], address: Address, key: NodeKey | None) -> Client:
        if key is not None:
            self.give_gas(key.address)
        client = await kind.connect(self.url, address, self.chain_id, key, patience=QUICK)
        self.stack.push_async_callback(client.close)
        return client

    async def token(self, key: NodeKey | None = None) -> TokenClient:
        return await self.client(TokenClient, self.deployment.token, key or self.owner)

    async def pots(self, key: NodeKey | None = None) -> PotsClient:
        return await self.client(PotsClient, self.deployment.rewards, key or self.owner)

    async def stakes(self, key: NodeKey | None = None) -> StakesClient:
        return await self.client(StakesClient, self.deployment.stakes, key or self.owner)

    async def records(self, key: NodeKey | None = None) -> RecordsClient:
        return await self.client(RecordsClient, self.deployment.records, key or self.owner)

    async def run(self, seats: int = 3, staked: bool = False) -> "PaidRun":
        """A started run of the owner with a pot; its seats may earn and, if asked for, have staked."""
        ledger, pots, stakes = await self.ledger(), await self.pots(), await self.stakes()
        run = PaidRun(self, ledger, pots, stakes, await ledger.open_run(OPENING, LIMITS))
        if staked:
            await stakes.set_terms(run.number, MINIMUM, FAULT_MAX)
            await ledger.require_stake(run.number, self.deployment.stakes)
        for _ in range(seats):
            await run.add(MINIMUM if staked else 0)
        await pots.open_pot(run.number, TERMS)
        for member in run.members:
            await pots.allow(run.number, member)
        await ledger.start(run.number, run.members)
        return run


@dataclass
class PaidRun:
    """A run of the chain's owner. What members earned is what the test says they did."""

    chain: MoneyChain
    ledger: LedgerClient
    pots: PotsClient
    stakes: StakesClient
    number: int
    keys: dict[MemberId, NodeKey] = field(default_factory=dict)
    entered: list[MemberId] = field(default_factory=list)
    """All that ever joined."""
    earned: dict[MemberId, int] = field(default_factory=dict)
    root: Hash = ZERO_HASH
    epochs: int = 0
    kills: int = 0

    @property
    def members(self) -> tuple[MemberId, ...]:
        return tuple(sorted(self.keys))

    @property
    def domain(self) -> Domain:
        """The distributor's."""
        return self.pots.domain

    async def register(self) -> tuple[MemberId, NodeKey]:
        """A member of its own: its key is its controller, and where its money goes."""
        key = NodeKey.generate()
        self.chain.give_gas(key.address)
        client = await self.chain.ledger(key)
        return await client.register(key, key.address, key.address), key

    async def stake(self, member: MemberId, key: NodeKey, amount: int) -> None:
        await (await self.chain.token()).transfer(key.address, amount)
        await (await self.chain.stakes(key)).stake(self.number, member, amount)

    async def add(self, staked: int = 0) -> MemberId:
        """A new member that joins."""
        member, key = await self.register()
        if staked:
            await self.stake(member, key, staked)
        await self.join(member, key)
        return member

    async def join(self, member: MemberId, key: NodeKey) -> None:
        invitation = self.ledger.invitation(self.chain.owner, self.number, member)
        await self.ledger.join(self.number, member, key, invitation)
        self.keys[member] = key
        self.entered.append(member)

    async def work(self, rounds: int, seconds: int = TERMS.min_round_seconds) -> None:
        """So many rounds, each after so long."""
        for _ in range(rounds):
            self.chain.wait(seconds)
            await self.certify()

    async def certify(self, drops: tuple[MemberId, ...] = ()) -> Body:
        state = await self.ledger.run_state(self.number)
        number = state.round + 1
        roots = keccak(b"updates"), keccak(b"state %d" % number), keccak(b"trainers")
        body = Body(self.number, number, state.head, *roots, (), drops)
        await self.ledger.certify(body, self.sign(self.ledger.domain, body.id))
        return body

    def sign(self, domain: Domain, digest: Hash) -> list[SignatureBytes]:
        """The signatures of all members, sorted by signer."""
        keys = sorted(self.keys.values(), key=lambda key: key.address)
        return [key.sign(domain.digest(digest)) for key in keys]

    async def epoch(self, earned: Mapping[MemberId, int]) -> Epoch:
        """The next epoch, ending with the head of now, which is marked; ``earned`` is what is new in it."""
        await self.pots.mark_head(self.number)
        state = await self.ledger.run_state(self.number)
        for member, amount in earned.items():
            self.earned[member] = self.earned.get(member, 0) + amount
        root = rewards_root(self.domain, self.number, self.earned)
        place = self.number, self.epochs + 1, state.round, state.head
        return Epoch(*place, root, sum(self.earned.values()), keccak(b"table"), self.root, self.kills)

    async def settle(self, earned: Mapping[MemberId, int], pots: PotsClient | None = None) -> Epoch:
        """Work is settled: the epoch has landed."""
        epoch = await self.epoch(earned)
        assert await (pots or self.pots).settle(epoch, self.sign(self.domain, epoch.id))
        self.epochs, self.root = epoch.epoch, epoch.root
        return epoch

    def proof(self, member: MemberId) -> Sequence[Hash]:
        return rewards_proof(self.domain, self.number, self.earned, member)

    def update(self, member: MemberId, blob: bytes, round_number: int = 2) -> Update:
        """Something that the member could have signed."""
        return Update(
            run=self.number,
            round=round_number,
            previous_head=keccak(b"head"),
            member=member,
            version=1,
            base_round=round_number - 1,
            base_state_root=keccak(b"state"),
            fragment=0,
            tau=0,
            inner_steps=5,
            tokens=1_000,
            codec="int8",
            blob_hash=keccak(blob),
            blob_size=100,
            key_hash=keccak(b"key" + blob),
            trace_root=ZERO_HASH,
        )

    def signed(self, update: Update, key: NodeKey) -> SignatureBytes:
        return key.sign(update.digest(b"", self.ledger.domain))
