"""Stakes by the verbs that users type: put in from a wallet, asked back, waited for, paid out; and refused."""

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distrai.cli.main import main
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.keys import NodeKey, load_key, save_key
from distrai.ledger.settings import LOCAL
from distrai.ledger.stakes import StakeTerms
from distrai.network.store import BlobStore
from distrai.peer.keyring import FIRST, Keyring
from distrai.protocol.primitives import MemberId
from distrai.protocol.recipe import parse_recipe
from distrai.runs.caution import Unconfirmed, confirm_on_terminal
from distrai.runs.folder import RunFolder
from distrai.runs.resolving import resolve
from distrai.runs.wallet import default_wallet, show_address
from helpers.archives import recipe_of
from helpers.paid_runs import BEGAN, REWARDS, Clock, PaidRun, open_run, opened, write_run

PASSWORD = "correct horse"
TOKEN = 10**18
UNBOND_S, DEAD_S = 1000, 5000
WINDOWS = replace(
    LOCAL.windows,
    activation_seconds=1,
    settle_seconds=1,
    slash_seconds=1,
    unbond_seconds=UNBOND_S,
    dead_seconds=DEAD_S,
)
SETTINGS = replace(LOCAL, windows=WINDOWS)
Verb = Callable[..., tuple[int, list[dict[str, Any]], str]]


def recipe(texts: Path) -> dict[str, Any]:
    return recipe_of(texts) | {"rewards": REWARDS, "stake": {"minimum": "10", "fault_max": "1"}}


async def _open(folder: RunFolder, texts: Path) -> None:
    async with opened(folder, Clock(), SETTINGS) as world:
        blobs = BlobStore(folder.archive / "blobs")
        resolved = resolve(parse_recipe(recipe(texts)), texts, blobs, world.contracts)
        world.run = await open_run(world, resolved)
        await world.stakes.set_terms(world.run, 10 * TOKEN, TOKEN)
        await world.ledger.require_stake(world.run, world.contracts.stakes)
        await world.open_pot(world.run, resolved, [], 8)
        write_run(folder, world, resolved, 8)


@pytest.fixture(scope="module")
def opened_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that asks for 10 tokens, which nobody joined yet; tests copy it."""
    folder = RunFolder(tmp_path_factory.mktemp("staked") / "run")
    folder.path.mkdir()
    asyncio.run(_open(folder, tmp_path_factory.mktemp("texts")))
    return folder


@dataclass
class World:
    """A copy of that run with a clock that the verbs see, and the opener's key as the wallet."""

    folder: RunFolder
    clock: Clock
    verb: Verb

    @property
    def home(self) -> Path:
        return self.folder.path / "joined"

    @property
    def key(self) -> NodeKey:
        return Keyring.open(self.home).first

    def ask(self, question: Callable[[PaidRun], Any]) -> Any:
        """What the ledger answers."""

        async def run() -> Any:
            async with opened(self.folder, self.clock, SETTINGS) as world:
                world.run = self.folder.link().run
                return await question(world)

        return asyncio.run(run())

    def join(self, *homes: Path) -> list[MemberId]:
        """The members of these homes join, and the run starts."""

        async def run(world: PaidRun) -> list[MemberId]:
            members = []
            for home in homes:
                key = Keyring.open(home).first
                member = await world.ledger.member_of_key(key.address)
                assert member is not None
                invitation = world.ledger.invitation(world.owner, world.run, member)
                await world.ledger.join(world.run, member, key, invitation)
                members.append(member)
            await world.ledger.start(world.run, sorted(members))
            return members

        return self.ask(run)


@pytest.fixture
def world(
    opened_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DISTRAI_PASSWORD", PASSWORD)
    monkeypatch.setattr("distrai.ledger.keys._STANDARD_SCRYPT_N", 1 << 12)
    shutil.copytree(opened_run.path, tmp_path / "run")
    folder, clock = RunFolder(tmp_path / "run"), Clock(BEGAN + 1000)
    chain = SimpleNamespace(open=lambda path: EmbeddedChain.open(path, clock))
    monkeypatch.setattr("distrai.runs.anchor.EmbeddedChain", chain)
    monkeypatch.setattr("distrai.runs.money.time", SimpleNamespace(time=clock))
    owner = load_key(folder.owner_key)
    default_wallet().parent.mkdir(parents=True)
    save_key(owner, default_wallet(), PASSWORD)

    def verb(name: str, *arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        if name == "stake" and "--amount" not in arguments and "--no" not in arguments:
            arguments = (*arguments, "--yes")
        arguments = tuple(argument for argument in arguments if argument != "--no")
        code = main([name, str(folder.path), *map(str, arguments), "--json"])
        said = capsys.readouterr()
        secrets = [
            owner,
            *([Keyring.open(folder.path / "joined").first] if (folder.path / "joined").exists() else []),
        ]
        for key in secrets:
            hidden = key._key.secret.hex()
            assert hidden not in said.out.lower() and hidden not in said.err.lower()
        assert PASSWORD not in said.out and PASSWORD not in said.err
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return World(folder, clock, verb)


def test_a_stake_comes_from_the_wallet_and_makes_the_member(world: World) -> None:
    code, told, err = world.verb("stake")
    assert code == 0, err
    assert [step.get("event") for step in told] == ["transferred", None]
    done = told[-1]
    assert (done["staked"], done["added"], done["minimum"], done["active"]) == ("10", "10", "10", True)
    wallet = load_key(world.folder.owner_key).address
    assert done["payout"] == show_address(wallet), "the wallet's, since nobody said otherwise"
    assert (world.home / FIRST).stat().st_mode & 0o077 == 0
    key = world.key

    async def asked(run: PaidRun) -> tuple[Any, ...]:
        member = await run.ledger.member_of_key(key.address)
        assert member is not None
        state = await run.ledger.member(member)
        return state.controller, state.payout, (await run.stakes.stake_of(run.run, member)).staked

    assert world.ask(asked) == (key.address, wallet, 10 * TOKEN)


def test_staking_again_adds_nothing_and_an_amount_adds_that(world: World) -> None:
    world.verb("stake")
    code, (done,), _ = world.verb("stake")
    assert (code, done["added"], done["staked"]) == (0, "0", "10")
    code, told, _ = world.verb("stake", "--amount", "2.5")
    assert (code, told[-1]["staked"]) == (0, "12.5")


def test_too_little_is_refused_before_anything_is_sent(world: World) -> None:
    code, _, err = world.verb("stake", "--amount", "9.5")
    assert code == 2 and "needs 10 tokens" in err and "--amount 10" in err
    code, _, err = world.verb("stake", "--amount", "many")
    assert code == 2 and "no amount" in err


def test_who_has_no_tokens_is_told_where_to_send_them(world: World) -> None:
    default_wallet().unlink()
    code, _, err = world.verb("stake")
    assert code == 2 and "lacks 10 PLAY" in err and show_address(world.key.address) in err
    assert "there is no wallet" in err
    save_key(NodeKey.generate(), default_wallet(), PASSWORD)
    code, _, err = world.verb("stake")
    assert code == 2 and "has 0" in err and "send tokens to one of them" in err


def test_a_wrong_password_stakes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRAI_PASSWORD", "battery staple")
    code, _, err = world.verb("stake")
    assert code == 2 and "the password does not open" in err


def test_join_stops_with_the_command_that_stakes(world: World) -> None:
    code, told, err = world.verb("join")
    assert code == 2
    assert f"distrai stake {world.folder.path} --home {world.home} --amount 10`" in err
    estimate = told[0]
    assert (estimate["event"], estimate["trust"], estimate["stake"]) == ("estimate", "trusted", "10")
    assert world.verb("stake", "--home", world.home, "--amount", "10")[0] == 0, "the command that was named"


def test_an_amount_that_nobody_said_is_not_staked(world: World) -> None:
    code, _, err = world.verb("stake", "--no")
    assert code == 2 and "--amount 10" in err and "--yes" in err


def test_foreign_contracts_get_nothing(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run whose recipe names a stake manager of somebody's own making, or whose terms are not the recipe's."""
    wallet = load_key(world.folder.owner_key).address

    async def balance(run: PaidRun) -> int:
        return await run.token.balance(wallet)

    before = world.ask(balance)
    with monkeypatch.context() as patch:
        patch.setattr("distrai.runs.caution.UNBOND_S_MAX", UNBOND_S - 1)
        code, _, err = world.verb("stake")
        assert code == 2 and "would come back" in err
    with monkeypatch.context() as patch:

        async def more(*arguments: object) -> StakeTerms:
            return StakeTerms(10**9 * TOKEN, TOKEN)

        patch.setattr("distrai.ledger.stakes.StakesClient.terms_of", more)
        code, _, err = world.verb("stake")
        assert code == 2 and "the recipe asks for 10 tokens" in err and "the ledger for 1000000000" in err
    (tmp_path / "texts").mkdir()

    async def lure(run: PaidRun) -> None:
        """Let the recipe name another contract as the one that holds stakes."""
        blobs = BlobStore(world.folder.archive / "blobs")
        contracts = replace(run.contracts, stakes=run.contracts.records)
        resolved = resolve(parse_recipe(recipe(tmp_path / "texts")), tmp_path / "texts", blobs, contracts)
        info = replace(world.folder.read(), recipe_hash="0x" + resolved.blob.hash.hex())
        world.folder.write(info)

    world.ask(lure)
    code, _, err = world.verb("stake", "--amount", "1000")
    assert code == 2 and "nothing was staked" in err and "StakeManager" in err
    assert world.ask(balance) == before


def test_a_node_that_asks_for_all_coins_as_gas_gets_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dear(client: object) -> int:
        return 10**12

    monkeypatch.setattr("distrai.ledger.coins.CoinClient.gas_price", dear)
    code, _, err = world.verb("stake")
    assert code == 2 and "--rpc" in err and "gas for this costs 1 coins" in err


def test_a_stake_comes_back_step_by_step(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    world.verb("stake")
    world.verb("stake", "--home", other)
    member, _ = world.join(world.home, other)
    code, told, err = world.verb("unstake", "--wait", 0)
    assert code == 0, err
    assert [step.get("event") for step in told] == ["left-run", "exit-asked", None]
    last = told[-1]
    assert (last["state"], last["active"], last["staked"]) == ("seat-held", False, "10")
    assert abs(last["unbond_at"] - (world.clock.now + DEAD_S)) <= 10
    world.clock.now = last["unbond_at"] + 1
    code, told, _ = world.verb("unstake", "--wait", 0)
    assert (code, told[-1]["state"], told[-1]["unbonding"]) == (0, "unbonding", "10")
    release_at = told[-1]["release_at"]
    assert abs(release_at - (world.clock.now + UNBOND_S)) <= 10
    code, told, _ = world.verb("unstake", "--wait", 0)
    assert told[-1]["state"] == "unbonding" and told[-1]["release_at"] == release_at, (
        "asking again moves nothing"
    )
    world.clock.now = release_at + 1
    wallet = load_key(world.folder.owner_key).address

    async def balance(run: PaidRun) -> int:
        return await run.token.balance(wallet)

    before = world.ask(balance)
    code, told, _ = world.verb("unstake", "--wait", 0)
    assert (code, told[-1]["state"], told[-1]["amount"]) == (0, "paid-out", "10")
    assert told[-1]["payout"] == show_address(wallet)
    assert world.ask(balance) - before == 10 * TOKEN
    assert world.verb("unstake", "--wait", 0)[1][-1]["state"] == "nothing"
    assert told[-1]["member"] == "0x" + member.hex()


def test_an_asked_exit_is_taken_back_by_staking(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    world.verb("stake")
    world.verb("stake", "--home", other)
    world.join(world.home, other)
    assert world.verb("unstake", "--wait", 0)[1][-1]["active"] is False
    assert world.verb("stake")[1][-1]["active"] is True


def test_payout_changes_where_everything_goes(world: World) -> None:
    address = show_address(NodeKey.generate().address)
    code, _, err = world.verb("payout", address)
    assert code == 2 and "no peer's home" in err
    world.verb("stake")
    code, (told,), _ = world.verb("payout", address)
    assert (code, told["payout"]) == (0, address)
    assert world.verb("stake")[1][-1]["payout"] == address, "what was chosen is not put back to the wallet's"
    code, _, err = world.verb("payout", address.swapcase().replace("X", "x"))
    assert code == 2 and "check sum" in err


def test_a_home_that_is_in_use_is_left_alone(world: World) -> None:
    from distrai.ledger.locks import FileLock

    world.verb("stake")
    with FileLock(world.home / "peer.lock", "this peer's home"):
        for verb, arguments in (("stake", ["--amount", "1"]), ("unstake", []), ("payout", ["0x" + "1" * 40])):
            code, _, err = world.verb(verb, *arguments)
            assert code == 2 and "stop it first" in err


def test_a_lost_answer_stakes_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transfer landed and this process died: the same command does not send a second time."""
    world.verb("stake")
    home_before = (world.home / FIRST).read_bytes()

    async def tokens(run: PaidRun) -> int:
        return await run.token.balance(Keyring.open(world.home).first.address)

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    other = world.folder.path / "joined-2"
    with monkeypatch.context() as patch:
        patch.setattr("distrai.ledger.stakes.StakesClient.stake_up_to", dies)
        assert world.verb("stake", "--home", other)[0] == 130
    _, told, _ = world.verb("stake", "--home", other)
    assert [step.get("event") for step in told] == [None], "the tokens were there already"
    assert told[-1]["staked"] == "10"
    assert (world.home / FIRST).read_bytes() == home_before and world.ask(tokens) == 0


@pytest.mark.parametrize(("answer", "agrees"), [("yes", True), ("Y ", True), ("", False), ("no", False)])
def test_a_terminal_is_asked(
    answer: str, agrees: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    with nullcontext() if agrees else pytest.raises(Unconfirmed):
        confirm_on_terminal("Stake 10 PLAY?", "10")
    assert "Stake 10 PLAY?" in capsys.readouterr().err
