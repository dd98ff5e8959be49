"""A published model beside its training record on a real (embedded) ledger: a third person compares them."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from distrai.cli.main import main
from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.saving import save_model
from distrai.jobs.models.store import ModelStore, Saved
from distrai.jobs.records.ledgers import OwnLedger
from distrai.jobs.records.recorded import NoRecord, compare_with_record
from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve
from distrai.ledger.keys import NodeKey
from distrai.ledger.training_records import RecordsClient, Request, Result
from distrai.protocol.primitives import ZERO_HASH, Hash
from helpers.money_chain import MoneyChain

SCRIPT = Hash(hashlib.sha256(b"script").digest())
REQUEST = Request(0, SCRIPT, 2_000_000, 7, "CPU", "own", "toy", "tests", "{}")


@dataclass
class Recorded:
    """A ledger, and the model of a job with an open record."""

    chain: MoneyChain
    records: RecordsClient
    number: int
    store: ModelStore
    saved: Saved
    file: Path
    options: list[str] = field(default_factory=list)

    async def close(self, manifest: bytes) -> None:
        result = Result(Hash(manifest), ZERO_HASH, training_seconds=1, gpu_seconds=0, peers=1)
        await self.records.close_record(self.number, result)

    async def compare(self, saved: Saved | None = None, number: int = 0) -> tuple[str, ...]:
        arguments = (saved or self.saved, self.chain.url, self.file, number or self.number)
        return (await asyncio.to_thread(compare_with_record, *arguments)).differences


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Recorded]:
    chain, owner = EmbeddedChain.open(tmp_path / "chain", time.time), NodeKey.generate()
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    async with AsyncExitStack() as stack:
        stack.callback(chain.close)
        url = await stack.enter_async_context(serve(chain, "127.0.0.1", 0))
        money = await MoneyChain(url, chain.chain_id, lambda seconds: None, stack, owner).deploy()
        file = tmp_path / "deployment.json"
        money.deployment.write(file)
        records = await money.records()
        number = await records.open(REQUEST)
        address = "0x" + owner.address.hex()
        origin = Origin(
            address=address, job="job", script_hash=SCRIPT.hex(), record=number, chain_id=chain.chain_id
        )
        store = ModelStore.at(str(tmp_path / "models"))
        saved = save_model(store, folder, f"{address}/job", origin)
        yield Recorded(money, records, number, store, saved, file)


async def test_the_model_of_a_closed_record_is_recognised_also_by_command(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoRecord, match="not closed yet"):
        await recorded.compare()
    with pytest.raises(NoRecord, match="no training record 99"):
        await recorded.compare(number=99)
    await recorded.close(bytes.fromhex(recorded.saved.manifest.hash))
    assert await recorded.compare() == ()
    options = ["--record", "1", "--rpc", recorded.chain.url, "--deployment", str(recorded.file), "--json"]
    command = ["models", "verify", recorded.saved.location, *options]
    assert await asyncio.to_thread(main, command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["record"] == 1 and told["wrong"] == []


CHANGES: list[tuple[Callable[[Origin], Origin], str]] = [
    (
        lambda origin: Origin(address="0x" + "11" * 20, script_hash=origin.script_hash),
        "the model says 0x1111",
    ),
    (lambda origin: Origin(address=origin.address, script_hash="22" * 32), "the model says 2222"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
async def test_another_model_is_told_apart(
    recorded: Recorded, tmp_path: Path, change: Callable[[Origin], Origin], words: str
) -> None:
    await recorded.close(bytes.fromhex(recorded.saved.manifest.hash))
    other = save_model(recorded.store, tmp_path / "made", "hub/other", change(recorded.saved.manifest.origin))
    differences = await recorded.compare(other)
    assert len(differences) == 2 and "the record's manifest is" in differences[0] and words in differences[1]


def test_a_model_of_the_users_own_ledger_is_compared_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DISTRAI_MODELS", raising=False)
    ledger, made = OwnLedger(), tmp_path / "made"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")

    async def record() -> Saved:
        async with ledger.connected() as at:
            client = await RecordsClient.connect(
                at.url, at.deployment.records, at.deployment.chain_id, at.key
            )
            address, number = "0x" + at.key.address.hex(), await client.open(REQUEST)
            origin = Origin(address=address, record=number, chain_id=at.deployment.chain_id)
            saved = save_model(ModelStore.at(), made, f"{address}/job", origin)
            result = Result(Hash(bytes.fromhex(saved.manifest.hash)), ZERO_HASH, 1, 0, 1)
            await client.close_record(number, result)
            await client.close()
            return saved

    origin = asyncio.run(record()).manifest.origin
    assert main(["models", "verify", "job"]) == 0
    assert "compared with training record 1" in capsys.readouterr().out
    save_model(ModelStore.at(), made, "hub/other", replace(origin, kind="forged"))
    assert main(["models", "verify", "hub/other"]) == 1
    assert "the record's manifest is" in capsys.readouterr().out
    save_model(ModelStore.at(), made, "hub/elsewhere", replace(origin, chain_id=1))
    assert main(["models", "verify", "hub/elsewhere"]) == 0
    assert "does not say who made it" in capsys.readouterr().out
