"""Deploying all contracts: settings, the file, going on after an interruption, and finding what is wrong."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.abi import load_artifact
from distrai.ledger.code import has_code_of, immutables
from distrai.ledger.deployment import (
    LOCAL,
    PRODUCTION,
    BadDeploymentFile,
    BadSettings,
    Deployment,
    DeploymentDiffers,
    DeploymentSettings,
    NewToken,
    check,
    deploy,
)
from distrai.ledger.embedded.server import serve as serve_chain
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.roles import accept_guardian, offer_guardian, renounce_guardian
from distrai.ledger.sender import Sender
from distrai.ledger.settings import BURN, NOBODY
from distrai.ledger.token import TokenClient
from distrai.protocol.primitives import Address
from helpers.money_chain import GUARDIAN, QUICK, SETTINGS

TOML = """
[windows]
audit_seconds = 1
dispute_seconds = 2
activation_seconds = 4
settle_seconds = 5
slash_seconds = 6
unbond_seconds = 16
dead_seconds = 7
[roles]
guardian = "0x0101010101010101010101010101010101010101"
[token]
name = "Mine"
symbol = "ME"
supply = "12.5"
"""


@pytest.fixture
async def url(chain: Any) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serve_chain(chain, "127.0.0.1", 0))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_settings_are_read_from_toml_and_told_again(tmp_path: Path) -> None:
    settings = DeploymentSettings.from_toml(write(tmp_path / "mine.toml", TOML))
    assert settings.windows.unbond_seconds == 16
    assert (settings.guardian, settings.treasury) == (b"\x01" * 20, BURN)
    assert settings.token == NewToken("Mine", "ME", 125 * 10**17)
    for each in (
        settings,
        LOCAL,
        PRODUCTION,
        replace(LOCAL, token=Address(b"\x07" * 20), treasury=GUARDIAN.address),
    ):
        each.check()
        assert DeploymentSettings.from_table(json.loads(json.dumps(each.to_table()))) == each


def test_the_settings_in_the_repository_are_those_for_production() -> None:
    path = Path(__file__).parents[2] / "deployments" / "production.toml"
    assert DeploymentSettings.from_toml(path) == PRODUCTION


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("activation_seconds = 4", "activation_seconds = 3", "activation_seconds is 3.* more than 3"),
        ("unbond_seconds = 16", "unbond_seconds = 15", "unbond_seconds is 15.* more than 15"),
        ("settle_seconds = 5", "settle_seconds = 0", "settle_seconds is 0.* at least one second"),
        ("dead_seconds = 7", "", "windows.dead_seconds: missing; add"),
        ("dead_seconds = 7", "deed_seconds = 7", "did you mean `windows.dead_seconds`"),
        ("dead_seconds = 7", 'dead_seconds = "7"', "without quotes"),
        ('guardian = "0x01', 'guardian = "01', "0x and 40 hexadecimal digits"),
        (
            "[roles]",
            '[roles]\ntreasury = "0x0000000000000000000000000000000000000000"',
            "the treasury must be able",
        ),
        ('supply = "12.5"', 'supply = "0"', "supply of 0"),
        ('supply = "12.5"', 'supply = "1e9"', "no amount"),
        ('supply = "12.5"', 'supply = "80000000000"', "use 1 to"),
        ("[windows]", "[windows", "is not TOML"),
    ],
)
def test_settings_that_no_contract_takes_say_what_to_write(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in TOML
    with pytest.raises(BadSettings, match=says):
        DeploymentSettings.from_toml(write(tmp_path / "bad.toml", TOML.replace(old, new)))


async def test_everything_is_deployed_checked_and_named_in_a_file(
    url: str, chain: Any, tmp_path: Path
) -> None:
    key, path = NodeKey.generate(), tmp_path / "deployments" / "77.json"
    made = await deploy(url, chain.chain_id, key, LOCAL, QUICK, path)
    assert Deployment.read(path) == made
    assert (made.decimals, made.block, made.settings) == (18, 0, LOCAL)
    assert await check(url, made, QUICK) == []
    blocks = chain.block_number
    assert await deploy(url, chain.chain_id, key, LOCAL, QUICK, path) == made
    assert chain.block_number == blocks == 5
    token = await TokenClient.connect(url, made.token, chain.chain_id, patience=QUICK)
    assert isinstance(LOCAL.token, NewToken)
    assert await token.balance(key.address) == await token.total_supply() == LOCAL.token.supply
    await token.close()
    other = replace(LOCAL, windows=replace(LOCAL.windows, unbond_seconds=91))
    with pytest.raises(DeploymentDiffers, match="other settings"):
        await deploy(url, chain.chain_id, key, other, QUICK, path)
    with pytest.raises(DeploymentDiffers, match="another chain"):
        await deploy(url, 5, key, LOCAL, QUICK, path)


async def test_a_token_that_is_there_is_used(url: str, chain: Any, tmp_path: Path) -> None:
    key = NodeKey.generate()
    first = await deploy(url, chain.chain_id, key, LOCAL, QUICK)
    settings = replace(LOCAL, token=first.token)
    second = await deploy(url, chain.chain_id, key, settings, QUICK, tmp_path / "second.json")
    assert (second.token, second.decimals, second.registry == first.registry) == (first.token, 18, False)
    assert await check(url, second, QUICK) == []
    for address, says in ((first.registry, "no ERC-20"), (Address(b"\x09" * 20), "there is no token")):
        with pytest.raises(BadSettings, match=says):
            await deploy(url, chain.chain_id, key, replace(LOCAL, token=address), QUICK)


async def test_a_guardian_is_a_contract_or_nobody(url: str, chain: Any) -> None:
    key = NodeKey.generate()
    with pytest.raises(BadSettings, match="no contract on this chain: name a multisig"):
        await deploy(url, chain.chain_id, key, replace(LOCAL, guardian=GUARDIAN.address), QUICK)
    assert chain.block_number == 0
    multisig = (await deploy(url, chain.chain_id, key, LOCAL, QUICK)).registry  # any contract will do here
    made = await deploy(url, chain.chain_id, key, replace(LOCAL, guardian=multisig), QUICK)
    assert await check(url, made, QUICK) == []


class Dies(BaseException):
    """The process is ended here."""


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("contract", range(5))
async def test_interrupted_anywhere_it_deploys_nothing_twice(
    url: str, chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract: int, where: str
) -> None:
    key, path, send = NodeKey.generate(), tmp_path / "d.json", Sender.send
    sent: list[Any] = []

    async def dies(self: Sender, *arguments: Any, **options: Any) -> Any:
        if len(sent) == contract and where == "before":
            raise Dies
        sent.append(await send(self, *arguments, **options))
        if len(sent) == contract + 1:
            raise Dies
        return sent[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Sender, "send", dies)
        with suppress(Dies):
            await deploy(url, chain.chain_id, key, LOCAL, QUICK, path)
    with pytest.raises(BadDeploymentFile, match="the same deploy command again"):
        Deployment.read(path)
    with pytest.raises(DeploymentDiffers, match="another wallet"):
        await deploy(url, chain.chain_id, NodeKey.generate(), LOCAL, QUICK, path)
    made = await deploy(url, chain.chain_id, key, LOCAL, QUICK, path)
    assert chain.block_number == 5
    assert Deployment.read(path) == made
    assert await check(url, made, QUICK) == []


async def test_what_stands_elsewhere_than_planned_is_not_taken(url: str, chain: Any, tmp_path: Path) -> None:
    """The key was used for something else between the file and the transaction."""
    key, path = NodeKey.generate(), tmp_path / "d.json"
    made = await deploy(url, chain.chain_id, key, LOCAL, QUICK, path)
    content = json.loads(path.read_text())
    plans = {"RunRegistry": {"address": "0x" + made.token.hex(), "nonce": 1}}
    plans["Token"] = {"address": "0x" + made.token.hex(), "nonce": 0}
    unfinished = {"deployer": "0x" + key.address.hex(), "block": 0, "contracts": plans}
    kept = {name: content[name] for name in ("version", "chain_id", "settings")}
    write(path, json.dumps(kept | {"unfinished": unfinished}))
    again = await deploy(url, chain.chain_id, key, LOCAL, QUICK, path)
    assert again.token == made.token
    assert again.registry != made.token
    assert await check(url, again, QUICK) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "chain_id": 5}'])
def test_a_file_that_is_no_deployment_says_so(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadDeploymentFile):
        Deployment.read(write(tmp_path / "x.json", content))


async def test_the_check_names_everything_that_is_wrong(url: str, chain: Any) -> None:
    key = NodeKey.generate()
    made = await deploy(url, chain.chain_id, key, SETTINGS, QUICK)
    other = await deploy(url, chain.chain_id, key, SETTINGS, QUICK)
    assert made.settings is not None

    async def found(**changes: Any) -> str:
        return "; ".join(await check(url, replace(made, **changes), QUICK))

    assert "serves chain" in await found(chain_id=5)
    assert f"no RunRegistry at 0x{'05' * 20}" in await found(registry=Address(b"\x05" * 20))
    assert "is not the StakeManager of this program" in await found(stakes=made.rewards)
    assert "made with values that the file does not name: 0x" + made.registry.hex() in await found(
        registry=other.registry
    )
    assert "made with values" in await found(rewards=other.rewards)
    assert "made with values" in await found(token=other.token)
    assert await found(decimals=6) == "the decimals of the token is 18, the file says 6"
    assert await found(registry=other.registry, settings=None) == "; ".join(
        f"the registry of the {name} is 0x{made.registry.hex()}, the file says 0x{other.registry.hex()}"
        for name in ("distributor", "stake manager", "records")
    )

    def settings(**changes: Any) -> DeploymentSettings:
        assert made.settings is not None
        return replace(made.settings, **changes)

    windows = replace(SETTINGS.windows, activation_seconds=101)
    assert "made with values that the file does not name: 0x64" in await found(
        settings=settings(windows=windows)
    )
    assert "is no contract: a single key" in await found(settings=settings(guardian_may_be_key=False))
    assert f"the guardian of the distributor is 0x{GUARDIAN.address.hex()}" in await found(
        settings=settings(guardian=NOBODY)
    )
    guardian = await PotsClient.connect(url, made.rewards, chain.chain_id, GUARDIAN, patience=QUICK)
    await guardian.set_paused(True)
    await guardian.offer_guardian(key.address)
    await guardian.close()
    paused = await found()
    assert "the distributor is paused" in paused
    assert "role of the distributor is offered to 0x" + key.address.hex() in paused


async def test_the_guardian_s_role_is_handed_over_and_given_up(url: str, chain: Any) -> None:
    made = await deploy(url, chain.chain_id, NodeKey.generate(), SETTINGS, QUICK)
    heir = NodeKey.generate()
    with pytest.raises(LedgerRefused, match="NotGuardian"):
        await offer_guardian(url, made, heir, heir.address, QUICK)
    with pytest.raises(LedgerRefused, match="NotOffered"):
        await accept_guardian(url, made, heir, QUICK)
    await offer_guardian(url, made, GUARDIAN, heir.address, QUICK)
    blocks = chain.block_number
    await offer_guardian(url, made, GUARDIAN, heir.address, QUICK)
    assert chain.block_number == blocks
    assert len(await check(url, made, QUICK)) == 2  # both are offered
    handed = await accept_guardian(url, made, heir, QUICK)
    assert await accept_guardian(url, made, heir, QUICK) == handed
    assert await check(url, handed, QUICK) == []
    assert [finding[:20] for finding in await check(url, made, QUICK)] == ["the guardian of the "] * 2
    nobody = await renounce_guardian(url, handed, heir, QUICK)
    assert await renounce_guardian(url, handed, heir, QUICK) == nobody
    assert await check(url, nobody, QUICK) == []
    assert nobody.settings is not None
    assert nobody.settings.guardian == NOBODY


async def test_windows_that_were_swapped_are_found(url: str, chain: Any) -> None:
    """Every value that the constructor took is one that the file names, and yet not at its place."""
    made = await deploy(url, chain.chain_id, NodeKey.generate(), SETTINGS, QUICK)
    windows = SETTINGS.windows
    swapped = replace(windows, settle_seconds=windows.slash_seconds, slash_seconds=windows.settle_seconds)
    found = await check(url, replace(made, settings=replace(SETTINGS, windows=swapped)), QUICK)
    assert found == [
        "the distributor's time to settle is 200, the file says 300",
        "the stake manager's slash window is 300, the file says 200",
    ]


def found_at(code: bytes, word: bytes) -> list[int]:
    """Where a word stands in code."""
    return [at for at in range(len(code)) if code.startswith(word, at)]


@pytest.mark.parametrize(
    "name", ["RunRegistry", "RewardsDistributor", "StakeManager", "TrainingRecords", "Token"]
)
async def test_code_with_a_single_byte_changed_is_not_that_of_the_contract(
    url: str, chain: Any, name: str
) -> None:
    made = await deploy(url, chain.chain_id, NodeKey.generate(), LOCAL, QUICK)
    places = {"RunRegistry": made.registry, "RewardsDistributor": made.rewards, "StakeManager": made.stakes}
    address = (places | {"TrainingRecords": made.records, "Token": made.token})[name]
    code = chain.code(address)
    assert has_code_of(name, code)
    words = immutables(name, code)
    assert words is not None
    assert (name == "Token") or (made.registry.rjust(32, b"\0") in words)
    filled = {at + byte for word in words for at in found_at(code, word) for byte in range(32)}
    fixed = [at for at in range(len(code)) if at not in filled]
    for at in (fixed[0], fixed[len(fixed) // 3], fixed[len(fixed) // 2], fixed[-1]):
        changed = bytearray(code)
        changed[at] ^= 1
        assert not has_code_of(name, bytes(changed)), at
    assert not has_code_of(name, code[:-1])
    assert not has_code_of(name, b"")
    assert not has_code_of(name, load_artifact(name).bytecode)
