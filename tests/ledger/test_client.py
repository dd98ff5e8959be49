"""The registry through ``LedgerClient``, on the embedded chain and on anvil: a whole run, and what is refused."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.client import LedgerClient
from distrai.ledger.errors import BadAnswer, LedgerRefused, LedgerUnreachable, WrongChain
from distrai.ledger.events import parse_logs
from distrai.ledger.follower import Batch, Cursor, follow, read_on
from distrai.ledger.interface import Ledger, Limits, Membership, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.reader import registry_artifact
from distrai.ledger.rpc import Patience
from distrai.protocol.body import Body, Genesis, Promotion, roll_call_head, start_head
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import (
    Announced,
    Certified,
    CheckedIn,
    Joined,
    KeyChanged,
    Left,
    RollCalled,
    RunOpened,
    Started,
)
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import ZERO_HASH, Address, MemberId, SignatureBytes

QUICK = Patience(request_s=5.0, call_s=10.0, backoff_s=0.01, backoff_s_max=0.1)
IMPATIENT = Patience(request_s=0.2, call_s=0.3, backoff_s=0.01, backoff_s_max=0.1)
LIMITS = Limits(min_seats=1, max_seats=8, stall_seconds=100)
OPENING = Opening(keccak(b"recipe"), keccak(b"state 0"), keccak(b"data"), keccak(b"tokenizer"))


@dataclass
class Network:
    """An owner, members and a run of theirs."""

    connect: Callable[[NodeKey], Awaitable[LedgerClient]]
    owner: NodeKey
    ledger: LedgerClient
    run: int = 0
    keys: dict[MemberId, NodeKey] = field(default_factory=dict)
    clients: dict[MemberId, LedgerClient] = field(default_factory=dict)

    async def add(self, joins: bool = True) -> MemberId:
        key = NodeKey.generate()
        client = await self.connect(key)
        member = await client.register(key, key.address, key.address)
        self.keys[member], self.clients[member] = key, client
        if joins:
            await client.join(self.run, member, key, client.invitation(self.owner, self.run, member))
        return member

    async def start(self, members: int) -> tuple[MemberId, ...]:
        self.run = await self.ledger.open_run(OPENING, LIMITS)
        seats = tuple(sorted([await self.add() for _ in range(members)]))
        await self.ledger.start(self.run, seats)
        return seats

    async def body(self, **changes: Any) -> Body:
        state = await self.ledger.run_state(self.run)
        number = state.round + 1
        plain = Body(
            self.run,
            number,
            state.head,
            keccak(b"updates"),
            keccak(b"state %d" % number),
            keccak(b"trainers"),
        )
        return Body(**{name: changes.get(name, getattr(plain, name)) for name in Body.__struct_fields__})

    def sign(self, body: Body, members: Sequence[MemberId]) -> list[SignatureBytes]:
        keys = sorted((self.keys[member] for member in members), key=lambda key: key.address)
        return [key.sign(self.ledger.domain.digest(body.id)) for key in keys]

    async def certify(self, members: Sequence[MemberId], **changes: Any) -> Body:
        body = await self.body(**changes)
        assert await self.ledger.certify(body, self.sign(body, members)) == body.head
        return body


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


@pytest.fixture
def chain(served: Any) -> Any:
    return served.chain


@pytest.fixture
def clock(served: Any) -> Any:
    return served.clock


@pytest.fixture
async def network(served: Any, chain: Any, stack: AsyncExitStack) -> Network:
    url, owner = served.url, NodeKey.generate()
    served.give_gas(owner.address)
    registry = await LedgerClient.deploy_registry(url, chain.chain_id, owner, QUICK)

    async def connect(key: NodeKey) -> LedgerClient:
        served.give_gas(key.address)
        client = await LedgerClient.connect(url, registry, chain.chain_id, key, patience=QUICK)
        stack.push_async_callback(client.close)
        return client

    return Network(connect, owner, await connect(owner))


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(LedgerRefused) as refusal:
        await work
    return refusal.value.name


async def test_a_run_from_its_opening_to_its_second_round(network: Network, chain: Any) -> None:
    ledger: Ledger = network.ledger
    seats = await network.start(4)
    first = await network.certify(seats[:3])
    second = await network.certify(seats, updates_root=ZERO_HASH, state_root=first.state_root)
    await network.clients[seats[0]].announce(network.run, seats[0], "http://127.0.0.1:1")

    opened, *joined, started, one, two, announced = await ledger.events(network.run, 0, chain.block_number)
    genesis = Genesis(
        chain.chain_id,
        network.ledger.domain.registry,
        network.run,
        OPENING.recipe_hash,
        OPENING.state_root,
        OPENING.data_hash,
        OPENING.tokenizer_hash,
    )
    trainers = tuple(Trainer(member, network.keys[member].address) for member in seats)
    assert opened == RunOpened(opened.at, genesis, network.owner.address)
    assert sorted((item.member, item.key) for item in joined if isinstance(item, Joined) and item.seat) == [
        (trainer.member, trainer.key) for trainer in trainers
    ]
    head = start_head(genesis.head, [(trainer.member, trainer.key) for trainer in trainers])
    assert started == Started(started.at, head, trainers)
    assert one == Certified(one.at, first, first.head)
    assert two == Certified(two.at, second, second.head)
    assert first.previous_head == head
    assert announced == Announced(announced.at, seats[0], "http://127.0.0.1:1")
    assert one.at.block_hash == chain.header(one.at.block_number).hash

    state = await ledger.run_state(network.run)
    assert (state.started, state.round, state.seats, state.owner) == (True, 2, 4, network.owner.address)
    assert (state.head, state.state_root, state.head_at) == (
        second.head,
        first.state_root,
        int(chain._clock()),
    )
    assert (state.limits, state.recipe_hash) == (LIMITS, OPENING.recipe_hash)
    assert await network.ledger.membership(network.run, seats[1]) == Membership(trainers[1].key, True, 0)
    assert await ledger.member_of_key(trainers[1].key) == seats[1]
    assert await ledger.member_of_key(network.owner.address) is None
    member = await network.ledger.member(seats[2])
    assert (member.key, member.controller, member.payout) == (trainers[2].key,) * 3


async def test_the_signatures_of_a_certificate_can_be_read_back(network: Network, chain: Any) -> None:
    seats = await network.start(4)
    first, second = await network.certify(seats[:3]), await network.certify(seats)
    *_, one, two = await network.ledger.events(network.run, 0, chain.block_number)
    assert await network.ledger.attestations(first, one.at) == tuple(network.sign(first, seats[:3]))
    assert await network.ledger.attestations(second, two.at) == tuple(network.sign(second, seats))
    with pytest.raises(BadAnswer, match="something else"):
        await network.ledger.attestations(second, one.at)
    with pytest.raises(BadAnswer, match="no certificate at log 7"):
        await network.ledger.attestations(first, replace(one.at, log_index=7))


def test_refusals_keep_the_contract_s_words() -> None:
    abi = registry_artifact().abi
    text = bytes.fromhex("08c379a0") + b"".join(
        [(32).to_bytes(32, "big"), (3).to_bytes(32, "big"), b"why".ljust(32, b"\0")]
    )
    assert (abi.refusal(text).name, abi.refusal(text).arguments) == ("Error", ("why",))
    assert abi.refusal(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big")).arguments == (17,)
    assert abi.refusal(bytes.fromhex("4e487b71")).name == "0x4e487b71"
    assert abi.refusal(b"").name == "reverted"
    unknown = keccak(b"UnknownRun(uint64)")[:4] + (9).to_bytes(32, "big")
    assert str(abi.refusal(unknown)) == "the ledger refuses: UnknownRun(9)"


async def test_members_change_by_certificates(network: Network, chain: Any) -> None:
    seats = await network.start(4)
    newcomer = await network.add()
    new_key = NodeKey.generate()
    await network.clients[seats[3]].rotate_key(seats[3], new_key)
    await network.clients[seats[0]].leave(network.run, seats[0])
    events = await network.ledger.events(network.run, 0, chain.block_number)
    assert [type(event) for event in events[-3:]] == [Joined, KeyChanged, Left]
    assert events[-3] == Joined(events[-3].at, newcomer, network.keys[newcomer].address, False)
    assert events[-2] == KeyChanged(events[-2].at, seats[3], new_key.address)

    promotions = tuple(
        sorted([Promotion(newcomer, network.keys[newcomer].address), Promotion(seats[3], new_key.address)])
    )
    body = await network.certify(seats, promotions=promotions, drops=(seats[0],))
    network.keys[seats[3]] = new_key
    assert (await network.ledger.run_state(network.run)).seats == 4
    landed = (await network.ledger.events(network.run, 0, chain.block_number))[-1]
    assert landed == Certified(landed.at, body, body.head)
    stale = await network.body()
    assert await refused(
        network.ledger.certify(stale, network.sign(stale, [seats[0], seats[1], seats[2]]))
    ) == ("NotASeatKey")
    await network.certify([newcomer, *seats[1:]])


async def test_certificates_that_are_refused_by_name(network: Network) -> None:
    seats = await network.start(4)
    ledger, outsider = network.ledger, await network.add()
    body = await network.body()
    signed = network.sign(body, seats)

    async def reason(given: Body, signatures: Sequence[bytes]) -> str:
        return await refused(ledger.certify(given, [SignatureBytes(item) for item in signatures]))

    def changed(**changes: Any) -> tuple[Body, list[SignatureBytes]]:
        other = Body(**{name: changes.get(name, getattr(body, name)) for name in Body.__struct_fields__})
        return other, network.sign(other, seats)

    assert await reason(body, []) == "NotEnoughSignatures"
    assert await reason(body, signed[:2]) == "NotEnoughSignatures"
    assert await reason(body, [signed[0]] * 4) == "UnsortedSigners"
    assert await reason(body, signed[::-1]) == "UnsortedSigners"
    assert await reason(body, network.sign(body, [outsider, *seats[:3]])) in (
        "NotASeatKey",
        "UnsortedSigners",
    )
    assert await reason(body, network.sign(body, [outsider] * 3)) == "NotASeatKey"
    assert await reason(body, [*signed[:3], signed[3][:64]]) == "BadSignaturesLength"
    assert await reason(*changed(round=2)) == "WrongRound"
    assert await reason(*changed(previous_head=keccak(b"other"))) == "WrongPreviousHead"
    assert await reason(*changed(run=network.run + 1)) == "RunNotStarted"
    assert await reason(*changed(updates_root=ZERO_HASH)) == "EmptyRoundChangesState"
    assert await reason(changed(state_root=ZERO_HASH)[0], signed) in ("NotASeatKey", "UnsortedSigners")
    foreign = replace(ledger.domain, chain_id=1)
    keys = sorted(network.keys[seat].address for seat in seats)
    by_address = {key.address: key for key in network.keys.values()}
    elsewhere = [by_address[address].sign(foreign.digest(body.id)) for address in keys]
    assert await reason(body, elsewhere) in ("NotASeatKey", "UnsortedSigners")
    assert await ledger.certify(body, signed) == body.head
    assert await reason(body, signed) == "WrongRound"


async def test_who_may_join_and_what_it_says_if_not(network: Network) -> None:
    ledger = network.ledger
    network.run = await ledger.open_run(OPENING, LIMITS)
    member = await network.add(joins=False)
    key, client = network.keys[member], network.clients[member]
    invitation = client.invitation(network.owner, network.run, member)
    assert await refused(client.join(network.run, member, key)) == "ECDSAInvalidSignatureLength"
    assert await refused(ledger.join(network.run, member, NodeKey.generate(), invitation)) == "WrongSigner"
    by_another = client.invitation(key, network.run, member)
    assert await refused(client.join(network.run, member, key, by_another)) == "WrongSigner"
    await ledger.join(network.run, member, key, invitation)
    assert await refused(client.join(network.run, member, key, invitation)) == "AlreadyJoined"
    assert await refused(client.register(key, key.address, key.address)) == "MemberExists"
    assert await refused(ledger.register(key, key.address, key.address)) == "KeyTaken"
    assert await refused(client.start(network.run, [member])) == "NotOwner"
    assert await refused(ledger.start(network.run, [])) == "SeatsDiffer"
    assert await refused(ledger.announce(network.run, member, "x")) == "NotMember"
    assert await refused(client.announce(network.run, member, "x" * 257)) == "EndpointTooLong"
    assert await refused(ledger.run_state(99)) == "UnknownRun"
    assert await refused(ledger.member(MemberId(bytes(32)))) == "UnknownMember"
    await client.leave(network.run, member)
    assert await refused(ledger.join(network.run, member, key, invitation)) == "RejoinOnlyByKey"
    await client.join(network.run, member, key, invitation)
    assert (await ledger.run_state(network.run)).seats == 1


async def test_an_open_run_needs_no_invitation(network: Network) -> None:
    network.run = await network.ledger.open_run(OPENING, replace(LIMITS, open_admission=True))
    member = await network.add(joins=False)
    await network.clients[member].join(network.run, member, network.keys[member])
    assert (await network.ledger.run_state(network.run)).seats == 1


async def test_a_roll_call_goes_on_without_those_who_are_silent(
    network: Network, chain: Any, clock: Any
) -> None:
    seats = await network.start(4)
    run, ledger = network.run, network.ledger
    assert await refused(ledger.check_in(run, network.keys[seats[0]])) == "NotStalled"
    clock.now += LIMITS.stall_seconds
    for member in seats[:2]:
        await ledger.check_in(run, network.keys[member])
    call = await ledger.roll_call(run)
    assert (call.closes_at, call.closable_at) == (int(clock.now) + 100, int(clock.now) + 125)
    assert (call.number, call.round, call.checked_in, call.needed) == (1, 1, 2, 2)
    before = await ledger.run_state(run)
    assert await refused(ledger.close_roll_call(run, seats[2:])) == "NotClosable"
    clock.now += 150
    assert await refused(ledger.close_roll_call(run, seats[:2])) == "SeatCheckedIn"
    await ledger.close_roll_call(run, seats[2:])
    *_, first, second, closed = await ledger.events(run, 0, chain.block_number)
    assert (first, second) == (CheckedIn(first.at, 1, seats[0], 1), CheckedIn(second.at, 1, seats[1], 1))
    head = roll_call_head(before.head, 1, before.state_root, seats[2:])
    assert closed == RollCalled(closed.at, 1, head, before.head, before.state_root, seats[2:])
    await network.certify(seats[:2])


async def test_each_run_has_its_own_events(network: Network, chain: Any) -> None:
    seats = await network.start(2)
    other = await network.ledger.open_run(OPENING, LIMITS)
    assert [type(item) for item in await network.ledger.events(other, 0, chain.block_number)] == [RunOpened]
    assert len(await network.ledger.events(network.run, 0, chain.block_number)) == 1 + len(seats) + 1


async def test_following_a_run_from_the_chain(network: Network) -> None:
    seats = await network.start(3)
    batches: list[Batch] = []
    async for batch in follow(network.ledger, network.run, Cursor(0), 0.001):
        batches.append(batch)
        if len(batches) == 1:
            await network.certify(seats)
        elif isinstance(batch.events[-1], Certified):
            break
    assert [type(event) for event in batches[0].events] == [RunOpened, Joined, Joined, Joined, Started]
    assert await read_on(network.ledger, network.run, batches[-1].cursor) is None


async def test_long_ranges_are_asked_for_in_parts(
    network: Network, chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seats = await network.start(4)
    for _ in range(5):
        await network.certify(seats)
    whole = await network.ledger.events(network.run, 0, chain.block_number)
    monkeypatch.setattr("distrai.ledger.reader.LOG_BLOCKS_MAX", 3)
    assert await network.ledger.events(network.run, 0, chain.block_number) == whole
    monkeypatch.undo()
    monkeypatch.setattr("distrai.ledger.embedded.store.LOGS_MAX", 2)
    assert await network.ledger.events(network.run, 0, chain.block_number) == whole
    marks = await network.ledger.block_marks(0, chain.block_number + 5)
    assert [mark.number for mark in marks] == list(range(chain.block_number + 1))
    assert all(mark.hash == chain.header(mark.number).hash for mark in marks)


async def test_another_chain_or_an_empty_address_is_said_to_be_so(
    served: Any, chain: Any, stack: AsyncExitStack, network: Network
) -> None:
    url, key, registry = served.url, NodeKey.generate(), network.ledger.domain.registry
    with pytest.raises(WrongChain, match="the run is on chain 5"):
        await LedgerClient.connect(url, registry, 5, key, patience=QUICK)
    with pytest.raises(WrongChain, match="no contract"):
        await LedgerClient.connect(url, Address(bytes(20)), chain.chain_id, key, patience=QUICK)
    with pytest.raises(LedgerUnreachable):
        await LedgerClient.connect("http://127.0.0.1:1", registry, chain.chain_id, key, patience=IMPATIENT)
    client = await LedgerClient.connect("http://127.0.0.1:1", registry, chain.chain_id, key, url, QUICK)
    stack.push_async_callback(client.close)
    assert await client.block_number() == chain.block_number


async def test_what_a_broken_node_says_is_not_believed(network: Network, chain: Any) -> None:
    seats = await network.start(2)
    await network.certify(seats)
    abi, domain = registry_artifact().abi, network.ledger.domain
    query = {"address": "0x" + domain.registry.hex(), "fromBlock": "0x0", "topics": []}
    logs = await network.ledger._rpc.call("eth_getLogs", query)
    assert len(parse_logs(abi, domain, logs)) == 5
    opened = next(log for log in logs if log["topics"][0] == "0x" + abi.topic("RunOpened").hex())
    forged = opened | {"data": opened["data"].replace(OPENING.recipe_hash.hex(), keccak(b"other").hex())}
    landed = next(log for log in logs if log["topics"][0] == "0x" + abi.topic("Certified").hex())
    changed = landed | {"data": landed["data"].replace(keccak(b"updates").hex(), keccak(b"other").hex())}
    cut = opened | {"data": opened["data"][:-64]}
    foreign = opened | {"address": "0x" + "00" * 20}
    shapeless = opened | {"topics": None}
    for broken in (forged, changed, cut, foreign, shapeless, None, []):
        with pytest.raises(BadAnswer):
            parse_logs(abi, domain, [broken])


@pytest.mark.processes
async def test_a_client_outlives_its_ledger_process(
    serve: Callable[..., Any], tmp_path: Path, stack: AsyncExitStack
) -> None:
    key = NodeKey.generate()
    with serve(tmp_path) as server:
        registry = await LedgerClient.deploy_registry(server.url, server.chain_id, key)
        client = await LedgerClient.connect(server.url, registry, server.chain_id, key, patience=QUICK)
        stack.push_async_callback(client.close)
        run = await client.open_run(OPENING, LIMITS)
        before = await client.events(run, 0, 10)
    with pytest.raises(LedgerUnreachable):
        await client._rpc.call("eth_blockNumber", deadline_s=0.1)
    with serve(tmp_path) as server:
        assert await client.events(run, 0, 10) == before
        assert await client.open_run(OPENING, LIMITS) == run + 1
