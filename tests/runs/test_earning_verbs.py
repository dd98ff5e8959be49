"""``distrai earnings``, ``claim`` and ``estimate`` as users type them, on the run of ``helpers/paid_runs.py``."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.keys import save_key
from distrai.network.store import BlobStore
from distrai.peer.link import Link
from distrai.protocol.amounts import parse_amount
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import parse_recipe
from distrai.runs.folder import RunFolder
from distrai.runs.resolving import resolve
from helpers.archives import recipe_of
from helpers.paid_runs import CAP, PRICE, WINDOWS, Clock, PaidRun, Scene, open_run, write_run

Verb = Callable[..., tuple[int, Any, str]]


@dataclass
class Desk:
    """The verbs on one run, at a time that tests turn."""

    scene: Scene
    clock: Clock
    capsys: pytest.CaptureFixture[str]

    def verb(self, name: str, *arguments: object, folder: Path | Link | None = None) -> tuple[int, Any, str]:
        where = self.scene.folder.path if folder is None else folder
        code = main([name, str(where), *map(str, arguments), "--json"])
        said = self.capsys.readouterr()
        for player in self.scene.people:
            hidden = player.key._key.secret.hex()
            assert hidden not in said.out + said.err
        return code, json.loads(said.out) if said.out else None, said.err

    def text(self, name: str, *arguments: object) -> str:
        assert main([name, str(self.scene.folder.path), *map(str, arguments)]) == 0
        return self.capsys.readouterr().out

    def balance(self, number: int) -> int:
        """What came to a member's payout address."""

        async def ask() -> int:
            async with self.scene.opened() as world:
                return await world.token.balance(self.scene.author(number).payout)

        return asyncio.run(ask())

    def live_here(self, number: int) -> None:
        """A member's home is on this machine."""
        home = self.scene.folder.path / "joined"
        home.mkdir(exist_ok=True)
        save_key(self.scene.author(number).key, home / "node.json")


@pytest.fixture
def desk(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    clock = Clock(scene.now)
    chain = SimpleNamespace(open=lambda path: EmbeddedChain.open(path, clock))
    monkeypatch.setattr("distrai.runs.anchor.EmbeddedChain", chain)
    monkeypatch.setattr("distrai.runs.money.time", SimpleNamespace(time=clock))
    return Desk(scene, clock, capsys)


def member_of(desk: Desk, number: int) -> str:
    return "0x" + desk.scene.author(number).member.hex()


def test_every_amount_is_in_one_of_four_states_with_what_shows_it(desk: Desk) -> None:
    code, told, err = desk.verb("earnings")
    assert code == 0, err
    assert (told["label"], told["trust"], told["missing"]) == ("pending, unverified", "trusted", [])
    assert len(told["members"]) == 4
    for member in told["members"]:
        amounts = {name: parse_amount(member[name], 18) for name in ("earned", "pending", "payable", "paid")}
        assert amounts["earned"] == sum(amounts[name] for name in ("pending", "payable", "paid"))
        assert member["audited"] == "0" and member["label"] == "pending, unverified"
        paid = member["evidence"]["paid"]
        assert sum(parse_amount(item["amount"], 18) for item in paid) == amounts["paid"]
        assert all(len(item["transaction"]) == 66 for item in paid)
    by_member = {member["member"]: member for member in told["members"]}
    first, third = by_member[member_of(desk, 0)], by_member[member_of(desk, 2)]
    assert first["paid"] != "0" and first["payable"] == "0"
    assert third["paid"] == "0" and third["payable"] != "0"
    assert third["evidence"]["payable"]["epoch"] == 1 and third["evidence"]["pending"]["epoch"] == 2
    assert third["payable_from"] == desk.clock.now - 10 + WINDOWS.activation_seconds
    text = desk.text("earnings", "--member", member_of(desk, 2))
    assert "pending, unverified; epoch 2" in text and "round 8" in text and "there are no audits yet" in text
    assert first["member"][:14] not in text


def test_time_alone_makes_an_epoch_payable(desk: Desk) -> None:
    before = desk.verb("earnings", "--member", member_of(desk, 2))[1]["members"][0]
    desk.clock.now += WINDOWS.activation_seconds
    after = desk.verb("earnings", "--member", member_of(desk, 2))[1]["members"][0]
    assert parse_amount(after["payable"], 18) > parse_amount(before["payable"], 18)
    assert after["earned"] == before["earned"]


def test_claiming_pays_the_payout_address_once(desk: Desk) -> None:
    desk.live_here(2)
    code, told, err = desk.verb("claim")
    assert code == 0, err
    (claim,) = told["claims"]
    assert (claim["member"], claim["state"]) == (member_of(desk, 2), "waiting"), "epoch 2 is not active yet"
    first = desk.balance(2)
    assert first == parse_amount(claim["amount"], 18) > 0
    assert claim["payout"] == "0x" + desk.scene.author(2).payout.hex()
    assert desk.verb("claim")[1]["claims"][0]["amount"] == "0"
    assert desk.balance(2) == first
    assert "payable from" in desk.text("claim")
    desk.clock.now += WINDOWS.activation_seconds
    code, told, _ = desk.verb("claim")
    assert (code, told["claims"][0]["state"]) == (0, "paid")
    assert desk.balance(2) == first + parse_amount(told["claims"][0]["amount"], 18)
    assert desk.verb("claim")[1]["claims"][0]["amount"] == "0"
    assert "in all (transaction 0x" in desk.text("claim")


def test_anybody_may_claim_for_a_member(desk: Desk) -> None:
    assert desk.verb("claim", "--member", member_of(desk, 3))[1]["claims"][0]["amount"] != "0"
    code, told, err = desk.verb("claim", "--member", "0x" + "12" * 32)
    assert code == 2 and told["error"] == "NoSuchMember" and "is on this ledger" in err
    assert desk.verb("earnings", "--member", "0x" + "12" * 32)[0] == 2


def test_who_has_no_home_here_is_told_what_to_give(desk: Desk) -> None:
    code, _, err = desk.verb("claim")
    assert code == 2 and "--member" in err and "--home" in err


def test_a_lost_table_is_named_and_fails(desk: Desk) -> None:
    async def names() -> list[str]:
        async with desk.scene.opened() as world:
            return [
                event.data_hash.hex() for event in await world.events() if isinstance(event, EpochSettled)
            ]

    before = desk.verb("earnings")[1]
    for name in asyncio.run(names()):
        (desk.scene.folder.archive / "blobs" / name[:2] / name).unlink()
    code, told, _ = desk.verb("claim", "--member", member_of(desk, 2))
    assert (code, told["ok"], told["claims"][0]["state"]) == (1, False, "no-table")
    assert "while a peer of the run is online" in told["claims"][0]["why"]
    assert desk.verb("earnings")[1] == before, "recomputed from the lists"
    shutil.rmtree(desk.scene.folder.archive / "public" / "lists")
    missing = desk.verb("earnings")[1]["missing"]
    assert missing and "is not counted" in missing[0]


def test_the_estimate_is_what_members_really_earned(desk: Desk) -> None:
    code, told, err = desk.verb("estimate")
    assert code == 0, err
    wage = Fraction(256 * PRICE, 1_000_000)
    assert wage < CAP
    assert (told["peers"], told["rounds_seen"], told["rounds_listed"]) == (4, 8, 7)
    assert told["tokens_per_round"] == 256
    assert parse_amount(told["price_per_round"], 18) == int(wage)
    accepted = 4 + 3 + 3 + 3 + 2 + 3 + 3
    assert told["acceptance_rate"] == round(accepted / (7 * 4), 4)
    per_round = wage * Fraction(accepted, 7 * 4)
    assert parse_amount(told["expected_per_round"], 18) == int(per_round)
    hour = Fraction(told["rounds_per_hour"]).limit_denominator(1000)
    assert abs(parse_amount(told["expected_per_hour"], 18) - per_round * hour) <= 1
    assert "acceptance rate x min(" in told["formula"]
    assert any("no audits" in sentence for sentence in told["unknown"])
    assert told["trust"] == "trusted" and told["allowed"] is None
    assert desk.verb("earnings", "--estimate")[1] == told
    text = desk.text("estimate")
    assert "formula: expected per round" in text and "trusted" in text


def test_without_lists_the_estimate_says_what_it_assumes(desk: Desk) -> None:
    shutil.rmtree(desk.scene.folder.archive / "public" / "lists")
    told = desk.verb("estimate")[1]
    assert told["acceptance_rate"] is None and told["rounds_listed"] == 0
    assert any("no list of a round" in sentence for sentence in told["unknown"])


def test_a_member_that_may_not_earn_is_warned(desk: Desk) -> None:
    desk.live_here(1)
    assert desk.verb("estimate")[1]["allowed"] is True

    async def disallow() -> None:
        async with desk.scene.opened() as world:
            await world.pots.disallow(world.run, desk.scene.author(1).member)

    asyncio.run(disallow())
    told = desk.verb("estimate")[1]
    assert told["allowed"] is False and any("DOES NOT LET" in sentence for sentence in told["unknown"])
    code, told, _ = desk.verb("invite", desk.scene.author(1).member.hex(), "--pay")
    assert (code, told["pay"]) == (0, True)
    assert desk.verb("estimate")[1]["allowed"] is True


@contextmanager
def served(desk: Desk) -> Iterator[Link]:
    """The run's chain in a thread, as if on another machine; the link to it."""
    ready: Queue[str] = Queue()
    over = threading.Event()

    async def run() -> None:
        chain = EmbeddedChain.open(desk.scene.folder.ledger, desk.clock)
        try:
            async with serve(chain, "127.0.0.1", 0) as url:
                ready.put(url)
                await asyncio.to_thread(over.wait)
        finally:
            chain.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield replace(desk.scene.folder.link(), rpc=ready.get(timeout=60))
    finally:
        over.set()
        thread.join()


def test_a_link_and_a_home_are_enough(desk: Desk, tmp_path: Path) -> None:
    """What a joiner on another machine has: blobs and lists of its own, and the ledger."""
    home = tmp_path / "elsewhere"
    for part in ("blobs", "public"):
        shutil.copytree(desk.scene.folder.archive / part, home / part)
    save_key(desk.scene.author(2).key, home / "node.json")
    here = desk.verb("earnings", "--member", member_of(desk, 2))[1]["members"][0]
    with served(desk) as link:
        code, told, err = desk.verb("earnings", "--home", home, folder=link)
        assert code == 0, err
        assert [member["earned"] for member in told["members"] if member["here"]] == [here["earned"]]
        code, told, err = desk.verb("claim", "--home", home, folder=link)
        assert code == 0, err
        assert told["claims"][0]["amount"] != "0"
        assert desk.verb("claim", "--home", home, folder=link)[1]["claims"][0]["amount"] == "0"
        told = desk.verb("estimate", "--home", home, folder=link)[1]
        assert (told["rounds_listed"], told["allowed"]) == (7, True)
        told = desk.verb("records", folder=link)[2]
        assert "no peer of this run gives its recipe" in told
        code, _, err = desk.verb("earnings", folder=replace(link, genesis=Hash(b"g" * 32)))
        assert code == 2 and "another head than the link says" in err
        code, _, err = desk.verb("earnings", folder=replace(link, chain_id=5))
        assert code == 2 and f"the node serves chain {link.chain_id}" in err
        code, _, err = desk.verb("earnings", folder=replace(link, run=7))
        assert code == 2 and "there is no run 7" in err
    assert desk.balance(2) > 0


async def _other_runs(scene: Scene, path: Path, texts: Path) -> dict[str, RunFolder]:
    """Beside the run that pays: one without money, and one whose pot is empty, on the same chain."""
    found = {}
    async with scene.opened() as world:
        for name in ("free", "unfunded"):
            folder = RunFolder(path / name)
            recipe = recipe_of(texts) | {"name": name}
            contracts = None
            if name == "unfunded":
                recipe["rewards"] = {"price": "1", "cap": "1", "max_members": 4}
                contracts = world.contracts
            resolved = resolve(parse_recipe(recipe), texts, BlobStore(folder.archive / "blobs"), contracts)
            world.run = await open_run(world, resolved)
            if contracts is not None:
                await world.pots.open_pot(world.run, resolved.recipe.rewards.terms(18))
            _at(world, folder, resolved)
            found[name] = folder
    for folder in found.values():
        shutil.copytree(scene.folder.ledger, folder.ledger)
    return found


def _at(world: PaidRun, folder: RunFolder, resolved: Any) -> None:
    write_run(folder, world, resolved, 8)
    world.deployment.write(folder.deployment)


def test_runs_without_money_say_so(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    others = asyncio.run(_other_runs(desk.scene, tmp_path / "others", tmp_path / "texts"))
    for name in ("earnings", "claim", "estimate", "stake", "unstake"):
        code, _, err = desk.verb(name, folder=others["free"].path)
        assert code == 2 and "pays nothing" in err, name
    code, told, err = desk.verb("records", folder=others["free"].path)
    assert code == 0 and told["records"] == [] and "keeps no training records" in told["note"], err
    code, told, err = desk.verb("estimate", folder=others["unfunded"].path)
    assert code == 0, err
    assert any("not funded" in sentence for sentence in told["unknown"])
    code, told, _ = desk.verb("earnings", folder=others["unfunded"].path)
    assert (code, told["members"]) == (0, [])
    code, _, err = desk.verb("stake", folder=others["unfunded"].path)
    assert code == 2 and "asks for no stake" in err


def test_another_chain_in_the_folder_is_named(desk: Desk, tmp_path: Path) -> None:
    folder = desk.scene.folder
    shutil.rmtree(folder.ledger)
    EmbeddedChain.open(folder.ledger).close()
    code, _, err = desk.verb("earnings")
    assert code == 2 and "another chain" in err
    folder.write(replace(folder.read(), external=True))
    assert folder.read().external


def test_the_opener_sends_tokens_to_a_wallet_and_the_wallet_sends_them_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTRAI_PASSWORD", "correct horse")
    folder, elsewhere = str(desk.scene.folder.path), "0x" + "12" * 20

    def verb(*arguments: str) -> dict[str, Any]:
        code = main(["wallet", *arguments, "--json"])
        told: dict[str, Any] = json.loads(desk.capsys.readouterr().out)
        assert code == (0 if told["ok"] else 2)
        return told

    made = verb("new")
    address, file = made["address"], made["file"]
    sent = verb("send", folder, address, "2.5")
    assert (sent["to"], sent["amount"]) == (address, "2.5")
    assert verb("show", folder)["balance"] == "2.5"
    assert verb("send", folder, elsewhere, "0.5", "--wallet", file)["left"] == "2"
    refused = verb("send", folder, elsewhere, "3", "--wallet", file)
    assert refused["error"] == "TooFewTokens" and "not 3" in refused["why"]
    assert verb("send", folder, "0x12", "1")["error"] == "BadAddress"
    assert verb("show", folder)["balance"] == "2"


def test_a_home_of_another_run_is_refused(desk: Desk, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "joined.json").write_text(json.dumps({"chain": 1, "registry": "0x" + "11" * 20, "run": 1}))
    for verb in ("claim", "earnings", "unstake"):
        code, told, _ = desk.verb(verb, "--home", home)
        assert (code, told["error"]) == (2, "CannotJoin"), verb
        assert "peer in another run" in told["why"]
