"""Which run is meant, whose home it is, who may come in, and what the user is told."""

import io
import json
from pathlib import Path

import pytest

from distrai.ledger.keys import create_key
from distrai.ledger.statements import invitation
from distrai.peer.link import Link
from distrai.protocol.primitives import Address, Hash, MemberId
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.folder import NoRun, RunFolder, RunInfo
from distrai.runs.join_text import JoinText, line_of
from distrai.runs.joining import (
    CannotJoin,
    Joining,
    JoinOptions,
    choose_join,
    invite,
    read_invitation,
    read_member,
)

LINK = Link("http://127.0.0.1:8545", 5, Address(b"r" * 20), 3)
MEMBER = MemberId(b"m" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    made.write(RunInfo(str(LINK), "prime", 4, 10, "0x" + "00" * 32, "test"))
    create_key(made.owner_key)
    return made


def test_a_folder_names_its_run_and_its_owner(folder: RunFolder, tmp_path: Path) -> None:
    target = choose_join(str(folder.path), None)
    assert (target.link, target.home, target.owner) == (LINK, folder.path / "joined", folder.owner_key)
    assert choose_join(str(folder.path), tmp_path / "mine").home == tmp_path / "mine"


def test_a_link_names_a_run_and_no_owner() -> None:
    target = choose_join(str(LINK), None)
    assert (target.link, target.home, target.owner) == (LINK, Path("runs/joined-5-3"), None)


def test_a_link_to_another_machine_says_how_the_run_began() -> None:
    with pytest.raises(ValueError, match="genesis"):
        choose_join(str(Link("http://10.0.0.7:8545", 5, LINK.registry, 3)), None)
    whole = Link("http://10.0.0.7:8545", 5, LINK.registry, 3, Hash(b"g" * 32))
    assert choose_join(str(whole), None).link == whole


@pytest.mark.parametrize("what", ["distrai://nonsense", "nowhere", "distrai://0x12/1?rpc=x&chain=5"])
def test_what_is_neither_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="link"):
        choose_join(what, None)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRun):
        choose_join(str(tmp_path), None)


def test_a_home_belongs_to_one_run(folder: RunFolder, tmp_path: Path) -> None:
    target = choose_join(str(folder.path), tmp_path / "mine")
    target.claim_home()
    target.claim_home()
    assert target.home.stat().st_mode & 0o077 == 0
    other = choose_join(str(Link(LINK.rpc, 5, LINK.registry, 4)), target.home)
    with pytest.raises(CannotJoin, match="another run"):
        other.claim_home()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").touch()
    with pytest.raises(CannotJoin, match="no peer's home"):
        choose_join(str(folder.path), foreign).claim_home()


def test_an_invitation_is_the_owners_signature_over_run_and_member(folder: RunFolder) -> None:
    code = invite(folder, MEMBER)
    digest = invitation(Domain(5, LINK.registry), 3, MEMBER)
    owner = json.loads(folder.owner_key.read_bytes())["address"]
    assert recover(digest, code).hex() == owner.removeprefix("0x").lower()
    assert read_invitation(f"  0x{code.hex()}\n") == code == read_invitation(code.hex())
    assert read_member("0x" + MEMBER.hex()) == MEMBER


@pytest.mark.parametrize("text", ["", "0x", "hello", "0x" + "00" * 64, "00" * 66])
def test_what_is_no_invitation_or_member_is_refused(text: str) -> None:
    with pytest.raises(CannotJoin):
        read_invitation(text)
    with pytest.raises(CannotJoin):
        read_member(text)


def test_who_has_no_owners_key_is_told_whom_to_ask(tmp_path: Path) -> None:
    told: list[dict[str, object]] = []
    joining = Joining(choose_join(str(LINK), tmp_path / "home"), JoinOptions(), told.append)
    joining._on_event("peer", {"event": "invitation-needed", "member": MEMBER.hex()})
    (asked,) = [event for event in told if event["event"] == "ask-owner"]
    assert asked["command"] == f"distrai invite RUN {MEMBER.hex()}"
    assert MEMBER.hex() in line_of(asked)


def test_the_run_is_over_after_its_last_round(tmp_path: Path) -> None:
    joining = Joining(choose_join(str(LINK), tmp_path / "home"), JoinOptions(), lambda event: None)
    joining._on_event("peer", {"event": "ready", "round": 4, "rounds": 6})
    joining._on_event("peer", {"event": "applied", "round": 5})
    assert not joining.over.is_set()
    joining._on_event("peer", {"event": "applied", "round": 6})
    assert joining.over.is_set() and joining.finished


EVENTS = [
    (
        {"event": "downloading", "what": "snapshot", "round": 8, "bytes": 2_000_000, "holders": 3},
        "2 MB) from 3 peers",
    ),
    ({"event": "downloading", "what": "data", "holders": 2}, "from 2 peers"),
    ({"event": "snapshot", "round": 8, "newest": 10}, "after round 8; the run is at 10"),
    ({"event": "joined", "member": "ab" * 32, "round": 10}, "joined as member abababababab in round 11"),
    (
        {
            "event": "applied",
            "round": 12,
            "members": ["a", "b"],
            "own": True,
            "roll_call": False,
            "seats": 4,
            "bytes": {"up": {"updates": 1_500_000}},
        },
        "round 12: 2 updates, with this peer, 4 seats, 1.5 MB sent",
    ),
    ({"event": "leaving", "patience_s": 90.0}, "at most 1 min 30 s"),
    ({"event": "stake-needed", "amount": "10", "address": "ab" * 20}, "a stake of 10 tokens"),
    ({"event": "stake-inactive", "member": "ab" * 32}, "counts for no seat any more"),
    (
        {"event": "epoch-settled", "epoch": 2, "last_round": 7, "active_from": 1_800_000_000},
        "epoch 2 is settled, for the rounds until 7: payable from 2027-01-15 08:00:00 UTC on",
    ),
    ({"event": "over", "how": "left", "home": "a b"}, "this peer has left the run. Its home is 'a b'"),
    ({"event": "step", "round": 1}, ""),
]


@pytest.mark.parametrize(("event", "expected"), EVENTS)
def test_events_are_told_in_words(event: dict[str, object], expected: str) -> None:
    out = io.StringIO()
    JoinText(Path("home"), out).report(event)
    assert expected in out.getvalue() and bool(out.getvalue()) == bool(expected)
