"""``ledger verify`` adds up what is right, and names what is false, missing or forged, on the ledger or beside it."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distrai.ledger.abi import load_artifact
from distrai.ledger.client import LedgerClient
from distrai.ledger.index import LedgerIndex, LogSource
from distrai.ledger.keys import NodeKey
from distrai.ledger.reader import LedgerReader
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.ledger.training_records import Request, Result, Stage
from distrai.network.store import BlobStore
from distrai.peer.public import PublicFolder
from distrai.protocol.blobs import BlobRef
from distrai.protocol.pot import Pot, recompute
from distrai.protocol.primitives import Hash, MemberId, SignatureBytes
from distrai.protocol.typed_data import Domain
from distrai.runs.ledger_verify import ledger_verify, ledger_verify_text, verify_ledger
from helpers.messages import named
from helpers.paid_runs import PaidRun, Player, Scene, open_run
from helpers.rounds import authors, started, update_of

MINIMUM, FAULT = 1_000, 400


@pytest.fixture(scope="module")
def rich(paid: Scene, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The run that pays, beside a child with stakes (one slashed, one on its way out), and two training records."""
    scene = paid.copy(tmp_path_factory.mktemp("rich") / "run")
    asyncio.run(_enrich(scene))
    return scene


@pytest.fixture
def ledger(rich: Scene, tmp_path: Path) -> Scene:
    """A copy of that, for one test."""
    return rich.copy(tmp_path / "rich")


async def _enrich(scene: Scene) -> None:
    async with scene.opened() as world:
        await _staked_child(world)
        request = Request(world.run, named("recipe"), 2_000_000, 123, "H100", "us", "tiny", "code", "{}")
        record = await world.records.open(request)
        await world.records.reach(record, Stage.TRAINED, named("model"))
        await world.records.close_record(record, Result(named("manifest"), named("table"), 60, 240, 4))
        await world.records.open(replace(request, run=0))


async def _staked_child(world: PaidRun) -> None:
    made, people = world.deployment, world.people[:3]
    child = await open_run(world, world.resolved(), parent=world.run)
    await world.stakes.set_terms(child, MINIMUM, FAULT)
    await world.ledger.require_stake(child, made.stakes)
    own = [await StakesClient.connect(world.url, made.stakes, made.chain_id, each.key) for each in people]
    for player, stakes in zip(people, own, strict=True):
        await world.token.transfer(player.address, MINIMUM)
        await stakes.stake(child, player.member, MINIMUM)
    await world.join(child, people)
    await world.ledger.start(child, [each.member for each in people])
    await world.bare_round(child)
    await _slash(world, child, people[0])
    leaver = await LedgerClient.connect(world.url, made.registry, made.chain_id, people[1].key)
    await leaver.leave(child, people[1].member)
    await own[1].unbond(child, people[1].member)
    for client in (leaver, *own):
        await client.close()


async def _slash(world: PaidRun, run: int, player: Player) -> None:
    domain = Domain(world.deployment.chain_id, world.deployment.registry)
    made = update_of(authors(1)[0], started(authors(3)), run=run, member=player.member, round=2)
    both = made, msgspec.structs.replace(made, tokens=made.tokens + 1)
    assert await world.stakes.slash(*both, *(player.sign(each.digest(b"", domain)) for each in both))


def problems(scene: Scene) -> list[str]:
    told = ledger_verify(scene.folder)
    assert told["ok"] is (not told["problems"])
    return list(told["problems"])


def change(scene: Scene, play: Callable[[PaidRun], Awaitable[Any]]) -> None:
    async def run() -> None:
        async with scene.opened() as world:
            await play(world)

    asyncio.run(run())


def tamper(
    scene: Scene,
    contract: str,
    event: str,
    change: str,
    *values: object,
    of: str = "MAX",
    run: int | None = None,
) -> None:
    """Change what the chain's file says of the newest (or oldest) log of an event: DELETE, or UPDATE with a SET."""
    topic = load_artifact(contract).abi.topic(event)
    which, named_by = "topic0 = ?", [topic]
    if run is not None:
        which, named_by = "topic0 = ? AND topic1 = ?", [topic, run.to_bytes(32, "big")]
    with closing(sqlite3.connect(scene.folder.ledger / "chain.sqlite", isolation_level=None)) as database:
        block = f"(SELECT {of}(block_number) FROM logs WHERE {which})"
        query = f"{change} WHERE {which} AND block_number = {block}"
        assert database.execute(query, (*values, *named_by, *named_by)).rowcount == 1


def test_a_ledger_that_is_right_adds_up(rich: Scene) -> None:
    told = ledger_verify(rich.folder)
    assert told["problems"] == []
    assert {name: told[name] for name in ("ok", "certificates", "roots", "records", "runs")} == {
        "ok": True,
        "certificates": 9,
        "roots": 2,
        "records": 2,
        "runs": 2,
    }
    assert (told["paid"], told["owed"]) == ("0.000000000000000018", "0.000000000000000036")
    assert (told["roots_recomputed"], told["roots_by_table"], told["roots_unchecked"]) == (2, 0, 0)
    assert "the ledger adds up" in ledger_verify_text(told)


def test_a_deployment_alone_is_checked_without_its_lists(rich: Scene) -> None:
    async def run() -> None:
        async with rich.opened() as world:
            told = (await verify_ledger(world.url, world.deployment)).to_json()
            assert (told["ok"], told["runs"], told["certificates"]) == (True, 2, 9)
            assert (told["roots"], told["roots_unchecked"]) == (2, 2)

    asyncio.run(run())


def test_old_folders_without_money_are_checked_too(ledger: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distrai.runs.ledger_verify.deployment_of", lambda folder: None)
    told = ledger_verify(ledger.folder)
    assert (told["ok"], told["certificates"], told["roots"], told["paid"]) == (True, 8, 0, "0")
    tamper(ledger, "RunRegistry", "Certified", "DELETE FROM logs", run=1)
    assert "rounds: the events say" in problems(ledger)[0]


# Roots, tables, lists


def lists_of(scene: Scene) -> PublicFolder:
    return PublicFolder(scene.folder.archive / "public")


def test_roots_without_lists_are_checked_against_their_tables(ledger: Scene) -> None:
    for number in (1, 6):
        lists_of(ledger).list_path(number).unlink()
    told = ledger_verify(ledger.folder)
    assert (told["ok"], told["roots_recomputed"], told["roots_by_table"]) == (True, 0, 2)
    names: list[Hash] = []

    async def name(world: PaidRun) -> None:
        names.append(Pot.fold(await world.events()).epochs[1].settled.data_hash)

    change(ledger, name)
    store = BlobStore(ledger.folder.archive / "blobs")
    store.delete(BlobRef(names[0], store.manifest(names[0])[0]))
    (problem,) = problems(ledger)
    assert "epoch 2 cannot be checked" in problem


def conspire(scene: Scene, gets: dict[int, int], **changes: Any) -> None:
    """The seats sign that members get other amounts: by author, what is added."""

    async def play(world: PaidRun) -> None:
        await world.bare_round(world.run)
        pot = Pot.fold(await world.events())
        amounts = recompute(pot, world.worked(), world.domain, world.run)[-1].earnings.amounts
        for number, more in gets.items():
            member = MemberId(scene.author(number).member)
            amounts[member] = amounts.get(member, 0) + more
        await world.conspire(world.run, amounts, **changes)

    change(scene, play)


def test_a_false_root_is_named_with_who_gets_what(ledger: Scene) -> None:
    async def play(world: PaidRun) -> None:
        pot = Pot.fold(await world.events())
        amounts = recompute(pot, world.worked(), world.domain, world.run)[-1].earnings.amounts
        await world.conspire(world.run, amounts | {liar: amounts[liar] + 5, robbed: amounts[robbed] - 5})

    liar, robbed = ledger.author(0).member, ledger.author(1).member
    change(ledger, play)
    (problem,) = problems(ledger)
    assert problem.startswith("run 1: epoch 3 has the root") and "false root" in problem
    assert f"member {liar.hex()[:12]} gets" in problem


def test_a_false_table_is_named(ledger: Scene) -> None:
    conspire(ledger, {0: 3}, root=Hash(b"\1" * 32))
    found = problems(ledger)
    assert any("epoch 3 does not make its root" in text for text in found)


def test_a_list_that_was_not_certified_is_named(ledger: Scene) -> None:
    public = lists_of(ledger)
    shutil.copy(public.list_path(2), public.list_path(4))
    assert any("not the one that was certified" in text for text in problems(ledger))


# The index that is in use


def test_an_index_that_lacks_or_invents_events_is_named(ledger: Scene) -> None:
    async def read(world: PaidRun) -> None:
        index = LedgerIndex.open(ledger.folder.index, world.deployment)
        source = await LogSource.connect(world.url, world.deployment.chain_id)
        await index.sync(source)
        index.close()
        await source.close()

    change(ledger, read)
    assert problems(ledger) == []
    with closing(sqlite3.connect(ledger.folder.index, isolation_level=None)) as database:
        one = "kind = 'RewardClaimed' AND block = (SELECT MAX(block) FROM logs WHERE kind = 'RewardClaimed')"
        database.execute(f"UPDATE logs SET log_index = 77 WHERE {one}")
    found = problems(ledger)
    assert len(found) == 2
    assert "index.sqlite lacks RewardClaimed of block" in found[0] and "made anew" in found[0]
    assert "index.sqlite has RewardClaimed of block" in found[1]


# A ledger that lies


def test_a_hidden_claim_is_found_by_views_and_transfers(ledger: Scene) -> None:
    tamper(ledger, "RewardsDistributor", "RewardClaimed", "DELETE FROM logs")
    found = "\n".join(problems(ledger))
    assert "what members were paid: the events say 9, the contract 18" in found
    assert "the account of member" in found
    assert "no claim or refund says so" in found


def test_a_hidden_transfer_is_found(ledger: Scene) -> None:
    with closing(sqlite3.connect(ledger.folder.ledger / "chain.sqlite", isolation_level=None)) as database:
        moved = load_artifact("Token").abi.topic("Transfer")
        claimed = load_artifact("RewardsDistributor").abi.topic("RewardClaimed")
        block = "(SELECT MAX(block_number) FROM logs WHERE topic0 = ?)"
        database.execute(f"DELETE FROM logs WHERE topic0 = ? AND block_number = {block}", (moved, claimed))
    found = "\n".join(problems(ledger))
    assert "no transfer says so" in found and "what the distributor has" in found


def test_a_forged_head_is_named(ledger: Scene) -> None:
    flipped = "UPDATE logs SET data = CAST(? || substr(data, 33) AS BLOB)"
    tamper(ledger, "RunRegistry", "Certified", flipped, b"h" * 32, of="MIN")
    problem, changed = problems(ledger)
    assert problem.startswith("ledger:") and "head is not that of the body" in problem
    assert "chain.sqlite: block" in changed


def test_a_missing_certificate_is_named(ledger: Scene) -> None:
    with closing(sqlite3.connect(ledger.folder.ledger / "chain.sqlite", isolation_level=None)) as database:
        topic = load_artifact("RunRegistry").abi.topic("Certified")
        fourth = "(SELECT block_number FROM logs WHERE topic0 = ? ORDER BY block_number LIMIT 1 OFFSET 3)"
        database.execute(f"DELETE FROM logs WHERE block_number = {fourth}", (topic,))
    found = problems(ledger)
    assert found[0].startswith("run 1: round 5 follows") and "an event is missing" in found[0]


@pytest.mark.parametrize("how", ["few", "strangers", "twice"])
def test_a_certificate_without_its_quorum_is_named(
    ledger: Scene, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    honest = LedgerReader.attestations

    async def forged(reader: LedgerReader, body: Any, at: Any) -> tuple[SignatureBytes, ...]:
        signatures = await honest(reader, body, at)
        if body.round != 5 or body.run != 1:
            return signatures
        stranger = NodeKey.generate().sign(reader.domain.digest(body.id))
        return {"few": signatures[:-1], "strangers": (*signatures, stranger), "twice": signatures[:1] * 3}[
            how
        ]

    monkeypatch.setattr(LedgerReader, "attestations", forged)
    (problem,) = problems(ledger)
    assert problem.startswith("run 1: the certificate of round 5 is not signed by two thirds")


def test_a_stake_that_events_do_not_explain_is_named(ledger: Scene) -> None:
    tamper(ledger, "StakeManager", "Slashed", "DELETE FROM logs")
    found = "\n".join(problems(ledger))
    assert "run 2: the stake of member" in found and "whether member" in found


def test_records_that_hide_or_forge_something_are_named(ledger: Scene) -> None:
    state = "UPDATE logs SET data = CAST(substr(data, 1, 32) || ? || substr(data, 65) AS BLOB)"
    tamper(ledger, "TrainingRecords", "RecordClosed", state, b"s" * 32)
    found = "\n".join(problems(ledger))
    assert "record 1: it was closed with round 8 and state 0x7373" in found
    assert "record 1: its state: the events say" in found
    stage = "UPDATE logs SET data = CAST(? || substr(data, 33) AS BLOB)"
    tamper(ledger, "TrainingRecords", "StageReached", stage, int(Stage.REQUESTED).to_bytes(32, "big"))
    assert "record 1: stage 1 follows stage 1" in problems(ledger)
    tamper(ledger, "TrainingRecords", "RecordOpened", "DELETE FROM logs")
    assert "the events open 1 records, the contract has 2" in problems(ledger)


def test_a_contract_that_has_less_than_it_owes_is_named(
    ledger: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = TokenClient.balance

    async def poor(token: TokenClient, account: Any, block: int | None = None) -> int:
        return await honest(token, account, block) // 2

    monkeypatch.setattr(TokenClient, "balance", poor)
    found = "\n".join(problems(ledger))
    assert "the distributor has" in found and "the stake manager has" in found and "owes" in found


HIDDEN = {
    "RunRegistry": ("RunOpened", "Joined", "Started"),
    "RewardsDistributor": ("PotOpened", "Funded", "MemberAllowed", "HeadMarked", "EpochSettled"),
    "StakeManager": ("TermsSet", "Staked", "ExitAsked"),
}


def test_no_event_can_be_hidden(ledger: Scene, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(ledger.folder.ledger, whole)
    for contract, events in HIDDEN.items():
        for event in events:
            tamper(ledger, contract, event, "DELETE FROM logs")
            assert problems(ledger), event
            shutil.rmtree(ledger.folder.ledger)
            shutil.copytree(whole, ledger.folder.ledger)
