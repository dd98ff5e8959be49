"""The doctor of one run: every obstacle is found, named, and comes with what to do about it."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from distrai.cli.main import main
from distrai.ledger.client import LedgerClient
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey, create_key
from distrai.ledger.locks import FileLock
from distrai.peer.link import Link
from distrai.protocol.primitives import Address, Hash
from distrai.runs import checkup
from distrai.runs.checkup import Place, check_up
from distrai.runs.findings import Finding
from helpers.messages import named

NOWHERE = Link("http://127.0.0.1:9", 5, Address(b"r" * 20), 1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "ASK_S", 0.5)
    monkeypatch.setattr(checkup, "CONNECT_S", 0.3)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    assert all(finding.found and (finding.ok or finding.advice) for finding in findings)
    return {finding.what: finding for finding in findings}


@asynccontextmanager
async def opened_run(path: Path) -> AsyncIterator[tuple[Link, LedgerClient]]:
    """A ledger with one run on it."""
    owner, chain = NodeKey.generate(), EmbeddedChain.open(path)
    try:
        async with serve(chain, "127.0.0.1", 0) as url:
            registry = await LedgerClient.deploy_registry(url, chain.chain_id, owner)
            client = await LedgerClient.connect(url, registry, chain.chain_id, owner)
            try:
                opening = Opening(*(named(name) for name in ("recipe", "state", "data", "tokenizer")))
                run = await client.open_run(opening, Limits(1, 8, 100))
                yield Link(url, chain.chain_id, registry, run), client
            finally:
                await client.close()
    finally:
        chain.close()


def test_a_ledger_that_does_not_answer_is_named(tmp_path: Path) -> None:
    found = by_name(check_up(NOWHERE, Place(tmp_path / "home", "127.0.0.1")))
    assert {name for name, finding in found.items() if not finding.ok} == {"ledger"}
    assert NOWHERE.rpc in found["ledger"].found
    assert "one is made when you join" in found["node key"].found
    assert "run" not in found and "peers" not in found


async def test_ledger_and_run_are_looked_at_step_by_step(tmp_path: Path) -> None:
    async with opened_run(tmp_path) as (link, client):

        async def outside(link: Link) -> dict[str, Finding]:
            return by_name((await checkup._outside(link))[0])

        found = await outside(link)
        assert found["ledger"].ok and found["run"].ok and "by invitation" in found["run"].found
        assert not found["peers"].ok and "no peer has an address" in found["peers"].found
        wrong = {
            "another chain": replace(link, chain_id=link.chain_id + 1),
            "no registry": replace(link, registry=Address(b"x" * 20)),
            "no such run": replace(link, run=77),
            "another genesis": replace(link, genesis=Hash(b"g" * 32)),
        }
        results = {name: await outside(each) for name, each in wrong.items()}
        assert not results["another chain"]["ledger"].ok and not results["no registry"]["ledger"].ok
        assert "no contract" in results["no registry"]["ledger"].found
        assert "there is no run 77" in results["no such run"]["run"].found
        assert not results["another genesis"]["run"].ok

        key = NodeKey.generate()
        member = await client.register(key, key.address, key.address)
        await client.join(link.run, member, key, await invitation(client, link, member))
        mine = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, key)
        await mine.announce(link.run, member, "http://127.0.0.1:9")
        await mine.close()
        found = await outside(link)
        assert not found["peers"].ok and member.hex()[:12] in found["peers"].found


async def invitation(client: LedgerClient, link: Link, member: bytes) -> bytes:
    return client.invitation(client._key, link.run, member)  # type: ignore[arg-type]


def test_a_port_that_is_taken_and_an_address_that_leads_elsewhere(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        found = by_name(check_up(NOWHERE, Place(tmp_path, "127.0.0.1", taken)))
        assert not found["port"].ok and str(taken) in found["port"].found
        found = by_name(check_up(NOWHERE, Place(tmp_path, "127.0.0.1", 0, f"127.0.0.1:{taken}")))
        assert found["port"].ok and not found["own address"].ok
        assert "--advertise" in found["own address"].advice
    found = by_name(check_up(NOWHERE, Place(tmp_path, "127.0.0.1")))
    assert found["port"].ok and found["own address"].ok


def test_keys_that_others_may_read_and_homes_in_use(tmp_path: Path) -> None:
    create_key(tmp_path / "node.json")
    found = by_name(check_up(NOWHERE, Place(tmp_path, "127.0.0.1")))
    assert found["node key"].ok and found["home"].ok
    (tmp_path / "node.json").chmod(0o644)
    with FileLock(tmp_path / "peer.lock", "this peer's home"):
        found = by_name(check_up(NOWHERE, Place(tmp_path, "127.0.0.1")))
    assert not found["node key"].ok and "600" in found["node key"].advice
    assert not found["home"].ok


def test_too_small_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkup._disk(tmp_path / "not" / "yet" / "there", 1000).ok
    assert not checkup._disk(tmp_path, 1 << 60).ok


def test_the_verb_takes_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(NOWHERE), "--home", str(tmp_path / "home"), "--json"]) == 1
    assert '"ledger", "ok": false' in capsys.readouterr().out
    assert not (tmp_path / "home").exists(), "looking changes nothing"
