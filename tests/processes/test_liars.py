"""One of four real peers lies, in another way each round; twenty members join and never say a word.

The honest ones end with equal states, none of them fails, and what a liar made is in no list where it must not be. At
the end it keeps its Haves, so that every round needs a proposer: two of those are killed in the middle of it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from distrai.ledger.client import LedgerClient
from distrai.ledger.keys import NodeKey, load_key
from distrai.protocol.ledger_events import Certified, CheckedIn, Joined, LedgerEvent
from distrai.runs.folder import RunFolder
from distrai.runs.logs import read_log
from helpers.liars import KINDS
from helpers.local_runs import Death, Drive, ledger_history, logged, tiny_recipe
from helpers.nursery import LIAR, Nursery

pytestmark = pytest.mark.processes

PEERS = [f"peer-{number}" for number in range(4)]
LIES = "peer-3"
HONEST = [name for name in PEERS if name != LIES]
SILENT_JOINERS = 20
DEATHS = [("peer-1", "persisted-proposal"), ("peer-2", "sent-proposal")]
TIMES = {"count": 1000, "d0_s": 0.2, "cut_s": 5.0, "hard_s": 20.0, "stall_seconds": 400}


@dataclass
class Record:
    """What came of the run."""

    folder: RunFolder
    drive: Drive
    history: list[LedgerEvent]

    @property
    def members(self) -> dict[str, str]:
        return self.drive.observer.of("started")[0]["members"]

    @property
    def member(self) -> str:
        """The liar's."""
        return self.members[LIES]

    @property
    def told(self) -> dict[str, int]:
        """The round of every kind of lies."""
        return {event["kind"]: event["round"] for event in self.drive.observer.of("lies")}

    @property
    def listed(self) -> dict[int, list[str]]:
        """The members of each list."""
        return {event["round"]: event["members"] for event in self.drive.observer.of("applied", *HONEST)}

    def refused(self, rule: str) -> set[str]:
        """The honest peers that refused something of the liar by this rule."""
        events = self.drive.observer.of("refused", *HONEST)
        return {
            event["from"] for event in events if event["rule"] == rule and event.get("member") == self.member
        }


async def lies(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    texts, folder = new_folder("liar-texts"), RunFolder(new_folder("liar"))
    recipe = tiny_recipe(texts, rounds=TIMES, membership={"peers": 4, "min_seats": 4})
    environment = defaultdict(dict, {LIES: {LIAR: "all"}})
    deaths = [Death(name, point, folder.path / f"armed-{name}") for name, point in DEATHS]
    with nursery.attached():
        async with Drive(
            folder, nursery, recipe, texts, deaths, environment=environment.__getitem__
        ) as drive:
            await drive.until(lambda: drive.observer.newest_round() >= 1, "a first round")
            await join_silently(folder)
            await drive.until(lambda: len(drive.observer.of("lies")) == len(KINDS), "every kind of lies")
            for death in deaths:
                await kill_proposer(drive, death)
            state, history = await ledger_history(folder)
            await drive.applied_by_all(HONEST, state.round)
            assert not await drive.stop()
    return Record(folder, drive, history)


async def kill_proposer(drive: Drive, death: Death) -> None:
    """It dies while its own attempt is on, and stays away until the others have closed that round without it."""
    name = death.name
    death.armed.touch()
    await drive.until(lambda: drive.deaths_of(name), f"the end of {name} as it proposes")
    killed_in = drive.observer.of("applied", name)[-1]["round"] + 1
    drive.held[name] = killed_in - 1
    await drive.until(lambda: death.back_after is not None, f"the round of {name} without it")
    last = drive.observer.newest_round()
    await drive.until(
        lambda: all(drive.is_certified(each, last) for each in PEERS), f"a certificate with all after {name}"
    )


async def join_silently(folder: RunFolder) -> None:
    """Members that are trainers on the ledger, and nowhere else."""
    link, owner = folder.link(), load_key(folder.owner_key)
    ledger = await LedgerClient.connect(link.rpc, link.registry, link.chain_id, owner)
    for key in (NodeKey.generate() for _ in range(SILENT_JOINERS)):
        member = await ledger.register(key, owner.address, owner.address)
        await ledger.join(link.run, member, key, ledger.invitation(owner, link.run, member))
    await ledger.close()


@pytest.fixture(scope="module")
def record(nursery: Nursery, new_folder: Callable[[str], Path]) -> Record:
    return asyncio.run(lies(nursery, new_folder))


def test_honest_peers_report_the_ledgers_heads_and_state_roots(record: Record) -> None:
    states, drive = record.drive.observer.states(), record.drive
    certified = [event for event in record.history if isinstance(event, Certified)]
    assert [event.body.round for event in certified] == list(range(1, len(certified) + 1)), "and no roll call"
    for event in certified:
        expected = ("0x" + event.head.hex(), "0x" + event.body.state_root.hex())
        told = states.get(event.body.round, {})
        assert set(told.values()) <= {expected}
        assert set(HONEST) <= set(told)
    killed = {name: [-9] for name, _ in DEATHS}
    assert {name: drive.deaths_of(name)[:-1] for name in PEERS} == {name: [] for name in PEERS} | killed


def test_rounds_go_on_with_the_work_of_the_honest(record: Record) -> None:
    """Each lie was told in a round of its own, and every round has a list; one may miss a round that is cut early."""
    assert set(record.told) == set(KINDS)
    assert len(set(record.told.values())) == len(KINDS)
    honest = {record.members[name] for name in HONEST}
    for number, members in record.listed.items():
        assert len(honest & set(members)) >= 2, number
    assert honest <= set(record.listed[record.told["omits"]])


@pytest.mark.parametrize("kind", ["silent", "never-reveals", "not-finite", "copies"])
def test_work_that_cannot_be_opened_is_in_no_list(record: Record, kind: str) -> None:
    assert record.member not in record.listed[record.told[kind]]


@pytest.mark.parametrize("kind", ["equivocates", "signs-twice", "withholds", "two-haves", "two-words"])
def test_work_counts_once_at_most(record: Record, kind: str) -> None:
    assert record.listed[record.told[kind]].count(record.member) <= 1


def test_two_words_of_one_member_are_noted_as_evidence(record: Record) -> None:
    noted = [
        (event["kind"], event["from"])
        for event in record.drive.observer.of("equivocation", *HONEST)
        if event["member"] == record.member
    ]
    assert {kind for kind, _ in noted} >= {"update", "have"}
    assert not [
        event for event in record.drive.observer.of("equivocation") if event["member"] != record.member
    ]


@pytest.mark.parametrize("rule", ["WrongBlobSize", "NonFinitePayload", "CannotOpen", "WrongStateRoot"])
def test_what_breaks_a_rule_is_refused_by_its_name(record: Record, rule: str) -> None:
    """Two honest ones have opened what the third, too, signs. That a proposal is wrong only one need have seen:
    a certificate for another may land before the rest have looked.
    """
    refused = record.refused(rule)
    assert len(refused) >= (1 if rule == "WrongStateRoot" else 2)
    for name in refused:
        assert rule in read_log(record.folder.path / "peers" / name).refused


def test_a_proposer_that_dies_in_its_attempt_costs_no_round(record: Record) -> None:
    for name, point in DEATHS:
        assert f"failpoint: {point}" in logged(record.folder, name)
    certified = {event.body.round for event in record.history if isinstance(event, Certified)}
    assert certified == set(range(1, max(certified) + 1))


def test_silent_joiners_and_needless_check_ins_change_nothing(record: Record) -> None:
    joined = [event for event in record.history if isinstance(event, Joined)]
    assert len(joined) == len(PEERS) + SILENT_JOINERS
    assert not [event for event in record.history if isinstance(event, CheckedIn)]
    assert {event["seats"] for event in record.drive.observer.of("applied")} == {len(PEERS)}
