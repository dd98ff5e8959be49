"""Claiming on a real chain: what is payable is paid once, whatever crashes, comes late, is repeated or taken back."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from distrai.ledger.errors import WrongChain
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.rpc import Patience
from distrai.network.http import HttpTransport
from distrai.network.store import BlobStore
from distrai.protocol.blobs import BlobRef
from distrai.protocol.pot import Pot, recompute
from distrai.protocol.primitives import Address
from distrai.protocol.rewards import RewardTable, rewards_proof
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.claiming import Claim, claim_for
from distrai.runs.reward_tables import Tables, reaching
from helpers.paid_runs import PRICE, ROUND_S, WINDOWS, PaidRun, Player, Scene, open_run

TOKENS = 256
WAGE = TOKENS * PRICE
"""Millionths of a base unit for one update."""
AT_EPOCH_1, AT_EPOCH_2 = 3 * WAGE // 1_000_000, 6 * WAGE // 1_000_000
"""Member 2 is in every round of both epochs."""


async def claim(world: PaidRun, player: Player, pots: PotsClient | None = None, **changes: Any) -> Claim:
    settings = {"tables": Tables.of_folder(world.folder), "finality": 0, "run": world.run} | changes
    run, tables = settings.pop("run"), settings.pop("tables")
    domain = settings.pop("domain", world.domain)
    return await claim_for(
        world.index, pots or world.pots, domain, run, player.member, tables, sync=world.sync, **settings
    )


def on(scene: Scene, play: Callable[[PaidRun], Awaitable[None]]) -> None:
    """Play a test on the chain of a scene."""

    async def run() -> None:
        async with scene.opened() as world:
            await play(world)

    asyncio.run(run())


@asynccontextmanager
async def another(world: PaidRun, key: NodeKey, **patience: float) -> AsyncIterator[PotsClient]:
    """The distributor as another machine has it."""
    waits = Patience(**patience) if patience else None
    client = await PotsClient.connect(
        world.url, world.deployment.rewards, world.deployment.chain_id, key, patience=waits
    )
    try:
        yield client
    finally:
        await client.close()


def test_what_is_active_is_paid_and_the_rest_is_waited_for(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        player = scene.author(2)
        first = await claim(world, player)
        assert (first.state, first.epoch, first.amount, first.claimed) == (
            "waiting",
            2,
            AT_EPOCH_1,
            AT_EPOCH_1,
        )
        assert first.payable_from is not None and "active" in first.why
        again = await claim(world, player)
        assert (again.state, again.amount, again.transaction) == ("waiting", 0, first.transaction)
        world.clock.now = first.payable_from
        second = await claim(world, player)
        assert (second.state, second.epoch, second.why) == ("paid", 2, "")
        assert (second.amount, second.claimed) == (AT_EPOCH_2 - AT_EPOCH_1, AT_EPOCH_2)
        assert await world.paid_to(player) == AT_EPOCH_2
        last = await claim(world, player)
        assert (last.state, last.amount, last.claimed) == ("paid", 0, AT_EPOCH_2)
        assert last.transaction == second.transaction != first.transaction
        assert last.to_json(18)["claimed"] == "0.000000000000000018"

    on(scene, play)


class Crash(BaseException):
    """The process is gone."""


def crashing(pots: PotsClient, at: int) -> None:
    """End the process before the call to the node with this number."""
    call, calls = pots._rpc.call, iter(range(at))

    async def counted(method: str, *params: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise Crash
        return await call(method, *params, **options)

    pots._rpc.call = counted  # type: ignore[method-assign]


def test_a_claimer_that_crashes_anywhere_is_paid_once(scene: Scene, paid: Scene) -> None:
    """It is ended before each of its calls in turn; a chain on which it was paid by then is begun anew."""
    at, paid_by_then, is_over = 0, [], False

    async def play(world: PaidRun) -> None:
        nonlocal at, is_over
        player, there = scene.author(2), 0
        while not there and not is_over:
            async with another(world, NodeKey.generate()) as doomed:
                crashing(doomed, at)
                try:
                    await claim(world, player, doomed)
                    is_over = True
                except Crash:
                    at += 1
            there = await world.paid_to(player)
            paid_by_then.append(there > 0)
        told = await claim(world, player)
        assert told.claimed == await world.paid_to(player) == AT_EPOCH_1
        assert told.amount == AT_EPOCH_1 - there

    while not is_over:
        shutil.rmtree(scene.folder.path)
        on(paid.copy(scene.folder.path), play)
    assert paid_by_then[0] is False and paid_by_then[-2:] == [True, True]
    assert paid_by_then == sorted(paid_by_then) and len(paid_by_then) > 8


def test_a_node_that_answers_late_pays_once(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        player = scene.author(2)
        async with another(world, NodeKey.generate(), call_s=0.3) as slow:
            call, held = slow._rpc.call, []

            async def late(method: str, *params: Any, **options: Any) -> Any:
                if method == "eth_sendRawTransaction":
                    held.append(params)
                    return "0x" + "00" * 32
                return await call(method, *params, **options)

            slow._rpc.call = late  # type: ignore[method-assign]
            told = await claim(world, player, slow)
            assert (told.state, told.amount, told.claimed) == ("unknown", 0, 0)
            assert "claim again" in told.why
            slow._rpc.call = call  # type: ignore[method-assign]
            for params in held:
                await call("eth_sendRawTransaction", *params)
            told = await claim(world, player, slow)
            assert (told.amount, told.claimed) == (0, AT_EPOCH_1)
        assert await world.paid_to(player) == AT_EPOCH_1

    on(scene, play)


def test_a_receipt_that_never_comes_is_no_failure(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        player = scene.author(2)
        async with another(world, NodeKey.generate(), call_s=0.3) as slow:
            call = slow._rpc.call

            async def forgetful(method: str, *params: Any, **options: Any) -> Any:
                return (
                    None if method == "eth_getTransactionReceipt" else await call(method, *params, **options)
                )

            slow._rpc.call = forgetful  # type: ignore[method-assign]
            told = await claim(world, player, slow)
            assert (told.amount, told.claimed) == (AT_EPOCH_1, AT_EPOCH_1)

    on(scene, play)


@pytest.mark.parametrize("same_key", [True, False])
def test_two_machines_that_claim_for_one_member_pay_it_once(scene: Scene, same_key: bool) -> None:
    async def play(world: PaidRun) -> None:
        player, key = scene.author(2), NodeKey.generate()
        async with (
            another(world, key) as one,
            another(world, key if same_key else NodeKey.generate()) as other,
        ):
            told = await asyncio.gather(claim(world, player, one), claim(world, player, other))
        assert [each.claimed for each in told] == [AT_EPOCH_1] * 2
        assert await world.paid_to(player) == AT_EPOCH_1
        assert len({each.transaction for each in told}) == 1

    on(scene, play)


def test_rotated_keys_and_new_addresses_pay_nothing_again(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        player, new = scene.author(2), Address(b"\xbb" * 20)
        await claim(world, player)
        deployment = world.deployment
        own = await type(world.ledger).connect(
            world.url, deployment.registry, deployment.chain_id, player.key
        )
        try:
            await own.rotate_key(player.member, NodeKey.generate())
            await own.set_attributes(player.member, player.address, new)
        finally:
            await own.close()
        assert (await claim(world, player)).amount == 0
        world.wait(WINDOWS.activation_seconds)
        assert (await claim(world, player)).amount == AT_EPOCH_2 - AT_EPOCH_1
        assert await world.paid_to(player) == AT_EPOCH_1
        assert await world.token.balance(new) == AT_EPOCH_2 - AT_EPOCH_1

    on(scene, play)


def test_a_claim_that_a_reorg_took_back_is_claimed_again(scene: Scene, paid: Scene) -> None:
    player = scene.author(2)

    async def before(world: PaidRun) -> None:
        assert (await claim(world, player)).amount == AT_EPOCH_1

    async def after(world: PaidRun) -> None:
        await claim(world, scene.author(0))
        told = await claim(world, player)
        assert (told.amount, told.claimed) == (AT_EPOCH_1, AT_EPOCH_1)
        assert await world.paid_to(player) == AT_EPOCH_1

    on(scene, before)
    shutil.rmtree(scene.folder.ledger)
    shutil.copytree(paid.folder.ledger, scene.folder.ledger)
    on(replace(scene, now=scene.now + ROUND_S), after)


def test_only_blocks_that_are_final_count(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        player = scene.author(2)
        world.wait(WINDOWS.activation_seconds)
        told = await claim(world, player, finality=3)
        assert (told.state, told.epoch, told.claimed) == ("confirming", 1, AT_EPOCH_1), (
            "epoch 2 is one block deep"
        )
        await world.bare_round(world.run)
        told = await claim(world, player, finality=3)
        assert (told.state, told.claimed) == ("confirming", AT_EPOCH_2)
        other = await claim(world, scene.author(1), finality=3)
        assert (other.state, other.claimed) == ("confirming", AT_EPOCH_2), "only its older claim is final"
        for _ in range(3):
            await world.bare_round(world.run)
        told = await claim(world, player, finality=3)
        assert (told.state, told.amount, told.claimed) == ("paid", 0, AT_EPOCH_2)

    on(scene, play)


def test_another_chain_is_refused_and_another_domain_pays_nothing(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        rewards, chain = world.deployment.rewards, world.deployment.chain_id
        with pytest.raises(WrongChain, match="chain"):
            await PotsClient.connect(world.url, rewards, chain + 1, NodeKey.generate())
        told = await claim(world, scene.author(2), domain=Domain(chain + 1, rewards))
        assert (told.state, told.claimed) == ("no-table", 0)

    on(scene, play)


def test_a_child_run_on_the_same_distributor_pays_for_itself(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        resolved = world.resolved()
        child, people = await open_run(world, resolved, parent=world.run), world.people[:2]
        await world.join(child, people)
        await world.open_pot(child, resolved, people, 10)
        await world.ledger.start(child, [each.member for each in people])
        assert (await claim(world, scene.author(2), run=child)).state == "nothing"
        for _ in range(2):
            await world.bare_round(child)
        await world.conspire(child, {people[0].member: 5, people[1].member: 2})
        world.wait(WINDOWS.activation_seconds)
        one, other = await claim(world, people[0], run=child), await claim(world, people[0])
        assert (one.amount, one.claimed) == (5, 5)
        assert other.claimed == await world.paid_to(people[0]) - 5
        assert (await claim(world, scene.author(2), run=child)).claimed == 0
        assert (await claim(world, people[0], run=child)).amount == 0
        pot = await world.pots.pot_of(child)
        assert pot is not None and pot.paid == 5

    on(scene, play)


def test_without_the_newest_table_older_epochs_are_paid(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        world.wait(WINDOWS.activation_seconds)
        pot = Pot.fold(await world.events())
        remove_blob(world, pot.epochs[1].settled.data_hash)
        told = await claim(world, scene.author(2))
        assert (told.state, told.epoch, told.amount) == ("no-table", 2, AT_EPOCH_1)
        assert "while a peer of the run is online" in told.why

    on(scene, play)


def remove_blob(world: PaidRun, name: Any) -> None:
    store = BlobStore(world.folder.archive / "blobs")
    store.delete(BlobRef(name, store.manifest(name)[0]))


def test_tables_come_from_peers_that_the_ledger_names(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        world.wait(WINDOWS.activation_seconds)
        host = scene.author(0)
        peer = HttpTransport(
            BlobStore(scene.folder.archive / "blobs"),
            host="127.0.0.1",
            port=0,
            address=host.address,
            sign=host.sign,
            recover=recover,
            local=True,
            rng=random.Random(1),
        )
        try:
            url = await peer.start()
            own = await type(world.ledger).connect(
                world.url, world.deployment.registry, world.deployment.chain_id, host.key
            )
            await own.announce(world.run, host.member, url)
            await own.close()
            nothing, home = Tables(()), scene.folder.path / "elsewhere"
            async with reaching(nothing, world.ledger, world.url, world.run, home) as tables:
                told = await claim(world, scene.author(2), tables=tables)
            assert (told.state, told.amount) == ("paid", AT_EPOCH_2)
        finally:
            await peer.close()
        assert (await claim(world, scene.author(1), tables=nothing)).state == "no-table"

    on(scene, play)


def test_a_table_that_is_not_the_roots_is_named_and_not_claimed_by(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        player = scene.author(2)
        await world.bare_round(world.run)
        pot = Pot.fold(await world.events())
        root = pot.epochs[0].settled.root
        amounts = recompute(pot, world.worked(), world.domain, world.run)[-1].earnings.amounts
        await world.conspire(world.run, amounts, root=root)
        world.wait(WINDOWS.activation_seconds)
        told = await claim(world, player)
        assert (told.state, told.epoch, told.claimed) == ("no-table", 3, AT_EPOCH_2)
        assert f"does not make its root 0x{root.hex()}" in told.why

    on(scene, play)


def test_what_the_guardian_killed_is_not_waited_for(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        await world.pots.kill(world.run, 2)
        told = await claim(world, scene.author(2))
        assert (told.state, told.epoch, told.claimed) == ("paid", 1, AT_EPOCH_1)

    on(scene, play)


def test_who_was_never_let_in_is_told_so(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        (stranger,) = await world.register([9])
        assert (await claim(world, stranger)).state == "nothing"
        await world.bare_round(world.run)
        pot = Pot.fold(await world.events())
        amounts = recompute(pot, world.worked(), world.domain, world.run)[-1].earnings.amounts
        amounts[stranger.member] = 1
        await world.conspire(world.run, amounts)
        world.wait(WINDOWS.activation_seconds)
        told = await claim(world, stranger)
        assert (told.state, told.claimed) == ("waiting", 0)
        assert "never let this member earn" in told.why

    on(scene, play)


def test_captured_seats_that_leave_a_member_out_do_not_keep_it_from_what_is_active(scene: Scene) -> None:
    """By the false root it has earned nothing; by the one before it has, until claims by the false one use that up."""

    async def play(world: PaidRun) -> None:
        victim, thief = scene.author(2), scene.author(1)
        await world.bare_round(world.run)
        stolen = Pot.fold(await world.events()).total
        await world.conspire(world.run, {thief.member: stolen})
        told = await claim(world, victim)
        assert (told.claimed, told.epoch) == (AT_EPOCH_1, 2)
        world.wait(WINDOWS.activation_seconds)
        await claim(world, victim)
        assert await world.paid_to(victim) == AT_EPOCH_2
        assert (await claim(world, thief)).amount <= stolen - AT_EPOCH_2

    on(scene, play)


def test_a_lesser_claim_that_others_sent_leaves_the_better_one(scene: Scene) -> None:
    """A false root gives the victim a little, and its maker claims that for it: the rest is still to be had."""

    async def play(world: PaidRun) -> None:
        victim, thief = scene.author(2), scene.author(1)
        await world.bare_round(world.run)
        stolen = Pot.fold(await world.events()).total - 1
        lie = {thief.member: stolen, victim.member: 1}
        await world.conspire(world.run, lie)
        world.wait(WINDOWS.activation_seconds)
        proof = rewards_proof(world.domain, world.run, lie, victim.member)
        await world.pots.claim(world.run, 3, victim.member, 1, proof)
        told = await claim(world, victim)
        assert (told.state, told.epoch, told.amount) == ("paid", 2, AT_EPOCH_2 - 1)

    on(scene, play)


def test_a_table_of_captured_seats_that_no_leaf_can_hold_stops_no_claim(scene: Scene) -> None:
    async def play(world: PaidRun) -> None:
        await world.bare_round(world.run)
        seats = scene.author(1).member, scene.author(2).member
        monster = RewardTable(world.run, 3, tuple(sorted(seats)), (b"\xff" * 20,) * 2)
        BlobStore(world.folder.archive / "blobs").put(monster.to_bytes())
        pot = Pot.fold(await world.events())
        amounts = {seats[0]: pot.total}
        await world.conspire(world.run, amounts, data_hash=monster.blob.hash)
        world.wait(WINDOWS.activation_seconds)
        told = await claim(world, scene.author(2))
        assert told.claimed == AT_EPOCH_2

    on(scene, play)
