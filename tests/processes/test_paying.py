"""A whole run that pays, as a user starts it, whose opener is killed between the last epoch and the first claim."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from distrai.ledger.training_records import Stage
from distrai.protocol.money_events import EpochSettled, Funded, PotClosed, PotOpened, Refunded, RewardClaimed
from distrai.protocol.primitives import Hash
from distrai.runs.anchor import ledger_url
from distrai.runs.archive import Archive
from distrai.runs.chain import open_owner
from distrai.runs.folder import RunFolder
from distrai.runs.session import CannotRunHere, choose
from distrai.runs.tills import Tills
from helpers.local_runs import DEADLINE_S
from helpers.secret_search import Arguments, files_below, found, keys_of
from helpers.signalled import signalled

pytestmark = pytest.mark.processes
SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
MONEY = """
[rewards]
price = "1000"
cap = "0.3"
max_members = 4
epoch_rounds = 2

[stake]
minimum = "10"
fault_max = "1"
"""
TOKEN = 10**18


def write_recipe(folder: Path) -> Path:
    """The smoke recipe on texts of its own, with money."""
    for number in range(4):
        words = (f"{number} times {each} makes {number * each}." for each in range(400))
        (folder / f"table-{number}.txt").write_text("\n".join(words))
    data = "[data]\nheld_out_fraction = 0.2\ntuning_fraction = 0.2"
    text = SMOKE.read_text().replace("[data]", data)
    text = text.replace('source = "python-stdlib"', 'source = "files"\nglobs = ["*.txt"]')
    path = folder / "paid.toml"
    path.write_text(text.replace('"PSF-2.0"', '"CC0-1.0"') + MONEY)
    return path


def run_until(kind: str | None, *arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:
    """``distrai run``, killed at the first event of a kind; its exit code and events."""
    words = ("run", *map(str, arguments), "--json", "--device", "cpu")
    command = [sys.executable, "-m", "distrai.cli", *words]
    if kind is not None:
        command = signalled(kind, signal.SIGKILL, *words)
    told: list[dict[str, Any]] = []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        told += map(json.loads, process.stdout)
        return process.wait(2 * DEADLINE_S), told


def of(told: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in told if event["event"] == kind]


def test_an_opener_that_is_killed_before_it_pays(new_folder: Callable[[str], Path]) -> None:
    base = new_folder("paid")
    folder = RunFolder(base / "run")
    options = ("--out", folder.path, "--peers", "3", "--rounds", "4")
    with Arguments() as arguments:
        code, told = run_until("pot-closed", write_recipe(base), *options)
    assert code == -signal.SIGKILL
    assert len(of(told, "funded")) == len(of(told, "pot-opened")) == len(of(told, "record-opened")) == 1
    assert not of(told, "claimed")
    assert not folder.summary.exists()

    first = told
    code, told = run_until(None, folder.path)
    assert code == 0
    if (
        max(event["last_round"] for event in of(first, "epoch-settled")) == 4
    ):  # else the last rounds earned nothing
        assert not of(told, "started"), "nobody is needed any more but the ledger"
    assert not {event["event"] for event in told} & {"funded", "pot-opened", "record-opened", "allowed"}
    assert len(of(told, "claimed")) == 3
    summary = of(told, "summary")[-1]
    check_summary(summary)
    asyncio.run(check_ledger(folder, summary))
    said = {"said": json.dumps([first, told]).encode(), "arguments": arguments.all}
    assert not found(keys_of(folder.path), files_below(base) | said)
    assert b"distrai.peer" in arguments.all

    with pytest.raises(CannotRunHere, match="is finished"):
        choose(folder.path, None, None, None)
    shutil.rmtree(folder.path)


def check_summary(summary: dict[str, Any]) -> None:
    """A round of 256 tokens earns .256, below the cap; of rounds within one second not all are paid."""
    assert summary["finished"]
    assert set(summary["earned"]) == {"peer-0", "peer-1", "peer-2"}
    assert summary["claimed"] == summary["earned"]
    for name, amount in summary["earned"].items():
        assert 0 < Decimal(amount) <= Decimal(summary["tokens_of"][name]) / 1000
        assert Decimal(amount) % Decimal("0.256") == 0
    money = summary["money"]
    assert (money["done"], money["waits"], money["pending"], money["label"]) == (True, [], "0", "trusted")
    assert (money["token"], money["funded"]) == ("PLAY", "4.8")
    assert money["epochs"] in (1, 2), "one, where rounds went on faster than a seat marked the second"
    claimed = sum(map(Decimal, summary["claimed"].values()))
    assert claimed + Decimal(money["refunded"]) == Decimal(money["funded"])


async def check_ledger(folder: RunFolder, summary: dict[str, Any]) -> None:
    """The tokens are where the summary says, and everything happened once."""
    resolved = Archive(folder.archive).recipe(Hash(bytes.fromhex(folder.read().recipe_hash[2:])))
    owner = open_owner(folder)
    async with ledger_url(folder) as url, Tills.opened(url, folder, resolved, owner) as tills:
        kinds = (PotOpened, Funded, EpochSettled, PotClosed, RewardClaimed, Refunded)
        events = await tills.events(kinds)
        counts = dict.fromkeys(kinds, 1) | {EpochSettled: summary["money"]["epochs"], RewardClaimed: 3}
        assert Counter(type(event) for event in events) == counts
        claims = [event for event in events if isinstance(event, RewardClaimed)]
        amounts = sorted(int(Decimal(amount) * TOKEN) for amount in summary["claimed"].values())
        assert sorted(event.amount for event in claims) == amounts
        for claim in claims:
            assert await tills.token.balance(claim.to) == claim.amount, "what it staked is with the manager"
            assert (await tills.stakes.stake_of(tills.run, claim.member)).staked == 10 * TOKEN
        assert await tills.token.balance(resolved.contracts.rewards) == 0  # type: ignore[union-attr]
        supply = await tills.token.total_supply()
        assert await tills.token.balance(owner.address) == supply - sum(amounts) - 30 * TOKEN
        record = await tills.records.get(1)
        state = await tills.registry.run_state(tills.run)
        assert (record.stage, record.round, record.state_root) == (Stage.CLOSED, 4, state.state_root)
        assert (record.result.peers, record.run) == (3, tills.run)
        held = {blob.hash for blob in Archive(folder.archive).blobs.refs()}
        assert held >= {record.result.manifest, record.result.table}
