"""Two embedded chains with the same contracts at the same addresses, the same members and runs.

Nothing that was signed, earned or proved on one counts on the other, because each has a chain id of its own.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from distrai.ledger.client import LedgerClient
from distrai.ledger.deployment import LOCAL, Deployment, deploy
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.records import TransactionRefused
from distrai.ledger.embedded.server import serve
from distrai.ledger.errors import LedgerRefused, WrongChain
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.stakes import StakesClient
from distrai.ledger.statements import join_statement, registration
from distrai.protocol.body import Body
from distrai.protocol.keccak import keccak
from distrai.protocol.messages import Update
from distrai.protocol.primitives import ZERO_HASH, MemberId, SignatureBytes
from distrai.protocol.rewards import Epoch, RewardTerms, rewards_proof, rewards_root
from distrai.protocol.typed_data import Domain

OWNER = NodeKey(b"\x01" * 32)
SEATS = [NodeKey(bytes([number]) * 32) for number in (2, 3, 4)]
OPENING = Opening(keccak(b"recipe"), keccak(b"state 0"), keccak(b"data"), keccak(b"tokenizer"))
LIMITS = Limits(min_seats=1, max_seats=8, stall_seconds=100)
TERMS = RewardTerms(price=10, cap=500, max_members=3, min_round_seconds=1)
STAKE = 1000


@dataclass
class World:
    """One of the chains, with a run of three staked seats that pays."""

    chain: EmbeddedChain
    url: str
    made: Deployment
    stack: AsyncExitStack
    run: int = 0
    members: dict[MemberId, NodeKey] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        return Domain(self.chain.chain_id, self.made.registry)

    @property
    def till(self) -> Domain:
        return Domain(self.chain.chain_id, self.made.rewards)

    async def connect(self, client: Any, address: bytes, key: NodeKey = OWNER) -> Any:
        made = await client.connect(self.url, address, self.chain.chain_id, key)
        self.stack.push_async_callback(made.close)
        return made

    async def begin(self) -> None:
        self.ledger: LedgerClient = await self.connect(LedgerClient, self.made.registry)
        self.pots: PotsClient = await self.connect(PotsClient, self.made.rewards)
        self.stakes: StakesClient = await self.connect(StakesClient, self.made.stakes)
        self.run = await self.ledger.open_run(OPENING, LIMITS)
        await self.stakes.set_terms(self.run, STAKE, STAKE // 2)
        await self.ledger.require_stake(self.run, self.made.stakes)
        await self.pots.open_pot(self.run, TERMS)
        await self.pots.fund(self.run, 10 * TERMS.rate)
        for key in SEATS:
            member = await self.ledger.register(key, OWNER.address, key.address)
            self.members[member] = key
            await self.stakes.stake(self.run, member, STAKE)
            invitation = self.ledger.invitation(OWNER, self.run, member)
            await self.ledger.join(self.run, member, key, invitation)
            await self.pots.allow(self.run, member)
        await self.ledger.start(self.run, sorted(self.members))

    def sign(self, digest: bytes) -> list[SignatureBytes]:
        return [key.sign(digest) for key in sorted(SEATS, key=lambda key: key.address)]

    async def body(self) -> Body:
        """The next round's."""
        state = await self.ledger.run_state(self.run)
        roots = (keccak(b"updates"), keccak(b"state"), keccak(b"trainers"))
        return Body(self.run, state.round + 1, state.head, *roots)

    async def certify(self, body: Body, domain: Domain) -> None:
        await self.ledger.certify(body, self.sign(domain.digest(body.id)))

    async def due(self, amounts: dict[MemberId, int], root_of: Domain) -> Epoch:
        """The first epoch, with these amounts as leaves of a chain."""
        body = await self.ledger.run_state(self.run)
        root = rewards_root(root_of, self.run, amounts)
        return Epoch(
            self.run, 1, body.round, body.head, root, sum(amounts.values()), keccak(b"table"), ZERO_HASH, 0
        )

    async def settle(self, epoch: Epoch, domain: Domain) -> None:
        await self.pots.settle(epoch, self.sign(domain.digest(epoch.id)))


@pytest.fixture
async def worlds(open_chain: Callable[..., EmbeddedChain]) -> AsyncIterator[tuple[World, World]]:
    async with AsyncExitStack() as stack:
        found = []
        for name in ("one", "two"):
            chain = open_chain(name)
            url = await stack.enter_async_context(serve(chain, "127.0.0.1", 0))
            found.append(World(chain, url, await deploy(url, chain.chain_id, OWNER, LOCAL), stack))
        one, two = found
        assert replace(one.made, chain_id=two.chain.chain_id) == two.made, "equal but for the chain"
        for world in found:
            await world.begin()
        assert (one.run, one.members) == (two.run, two.members)
        yield one, two


def update(world: World, place: Body, work: bytes) -> Update:
    return Update(
        run=world.run,
        round=place.round,
        previous_head=place.previous_head,
        member=min(world.members),
        version=1,
        base_round=place.round - 1,
        base_state_root=keccak(b"base"),
        fragment=0,
        tau=0,
        inner_steps=2,
        tokens=100,
        codec="raw",
        blob_hash=keccak(work),
        blob_size=10,
        key_hash=keccak(b"key"),
        trace_root=ZERO_HASH,
    )


async def slash(where: World, pair: Sequence[Update], signed_for: Domain) -> bool:
    key = where.members[min(where.members)]
    return await where.stakes.slash(*pair, *(key.sign(each.digest(b"", signed_for)) for each in pair))


async def test_no_transaction_signature_or_proof_of_one_counts_on_the_other(
    worlds: tuple[World, World], clock: Any
) -> None:
    one, two = worlds
    with pytest.raises(WrongChain):
        await LedgerClient.connect(two.url, one.made.registry, one.chain.chain_id, OWNER)
    for number in range(1, one.chain.block_number + 1):
        record = one.chain.transaction_of(number)
        assert record is not None
        with pytest.raises(TransactionRefused, match=f"this is chain {two.chain.chain_id}"):
            two.chain.send_raw_transaction(record.raw)

    # Who becomes a member, and who is let in.
    new, other = NodeKey.generate(), await two.ledger.open_run(OPENING, LIMITS)
    assert other == await one.ledger.open_run(OPENING, LIMITS)
    asked = (OWNER.address, 77, OWNER.address, OWNER.address)
    member = min(two.members)
    for domain, refusal in ((one.domain, "WrongSigner"), (two.domain, None)):
        signature = new.sign(registration(domain, *asked))
        sending = two.ledger._send("register", asked[1], asked[2], new.address, asked[3], signature)
        await check(sending, refusal)
    invited = [world.ledger.invitation(OWNER, other, member) for world in worlds]
    joining = [two.members[member].sign(join_statement(world.domain, other, member)) for world in worlds]
    for joins, lets_in, refusal in ((1, 0, "WrongSigner"), (0, 1, "WrongSigner"), (1, 1, None)):
        await check(two.ledger._send("join", other, member, joining[joins], invited[lets_in]), refusal)

    # Rounds. The whole certificate names another head; the same body under the other's domain is signed by nobody here.
    theirs, ours = await one.body(), await two.body()
    assert theirs.previous_head != ours.previous_head
    await check(two.certify(theirs, two.domain), "WrongPreviousHead")
    await check(two.certify(ours, one.domain), "NotASeatKey")
    clock.now += 5
    await one.certify(theirs, one.domain)
    await two.certify(ours, two.domain)

    # Faults.
    pairs = [
        [update(world, body, work) for work in (b"a", b"b")] for world, body in ((one, theirs), (two, ours))
    ]
    await check(slash(two, pairs[0], one.domain), "NotMembersKey")
    await check(slash(two, pairs[1], one.domain), "NotMembersKey")
    assert await slash(two, pairs[1], two.domain)

    # Epochs and claims.
    amounts = {each: 100 + place for place, each in enumerate(sorted(one.members))}
    for world in worlds:
        await world.pots.mark_head(world.run)
    elsewhere = await one.due(amounts, one.till)
    await check(two.settle(elsewhere, one.till), "NotMarked")
    here = await two.due(amounts, two.till)
    await check(two.settle(here, one.till), "NotASeatKey")
    await check(two.settle(msgspec.structs.replace(elsewhere, head=here.head), one.till), "NotASeatKey")
    await one.settle(elsewhere, one.till)
    await two.settle(here, two.till)
    clock.now += 1000
    proofs = [rewards_proof(world.till, world.run, amounts, member) for world in worlds]
    await check(two.pots.claim(two.run, 1, member, amounts[member], proofs[0]), "NotInRoot")
    assert (await two.pots.claim(two.run, 1, member, amounts[member], proofs[1])).paid == amounts[member]
    assert (await one.pots.account_of(one.run, member)).claimed == 0
    assert (await one.pots.claim(one.run, 1, member, amounts[member], proofs[0])).paid == amounts[member]


async def check(sending: Any, refusal: str | None) -> None:
    """See something refused by this name, or go through."""
    if refusal is None:
        await sending
        return
    with pytest.raises(LedgerRefused) as refused:
        await sending
    assert refused.value.name == refusal
