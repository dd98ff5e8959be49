"""What a home keeps of its heads: where a peer can go on from after a crash, and back to after a reorg."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distrai.peer.checkpoint import Checkpoint
from distrai.peer.events import Apply, Persist
from distrai.peer.following import KEPT_HEADS
from distrai.peer.records import decode_checkpoint, encode_checkpoint
from distrai.peer.store import REORG_BLOCKS_MAX, PeerStore
from distrai.protocol.body import Body
from distrai.protocol.errors import ReorgTooDeep
from distrai.protocol.keccak import keccak
from distrai.protocol.ledger_events import Position
from distrai.protocol.primitives import ZERO_HASH, Hash
from distrai.protocol.standing import ListedRound, Seat, Standing
from helpers.engine import Table

INITIAL = b"initial state"
FIRST = Table().standing
ROSTER = Table().roster


@dataclass(frozen=True)
class Kept:
    """A head, and what has to be on disk for it."""

    checkpoint: Checkpoint
    state: bytes = INITIAL
    private: bytes = b""

    @property
    def standing(self) -> Standing:
        return self.checkpoint.standing or FIRST

    @property
    def block(self) -> int:
        return 0 if self.checkpoint.at is None else self.checkpoint.at.block_number


@dataclass
class Home:
    """A store, and what should be in it."""

    path: Path
    store: PeerStore = field(init=False)
    kept: list[Kept] = field(default_factory=lambda: [Kept(Checkpoint())])
    made: int = 0

    def __post_init__(self) -> None:
        self.store = PeerStore(self.path, archive=False)

    def reopen(self) -> None:
        self.store.close()
        self.store = PeerStore(self.path, archive=False)

    def apply(self, kind: str, blocks: int = 1) -> Kept:
        """The next head lands: "round" with a state of its own, "empty", or "roll call"."""
        before, self.made = self.kept[-1].standing, self.made + 1
        number, head = before.round + 1, Hash(keccak(b"head %d" % self.made))
        body = None
        if kind != "roll call":
            updates = keccak(b"list %d" % self.made) if kind == "round" else ZERO_HASH
            body = Body(before.run, number, before.head, updates, before.state_root, ZERO_HASH)
        after = replace(before, round=number, head=head, state_root=keccak(head))
        block = self.kept[-1].block + blocks
        at = Position(block, 0, keccak(b"block %d %d" % (block, self.made)))
        certified = None if body is None else Table().listed([])
        state = b"state %d" % self.made if kind == "round" else b""
        private = b"private %d" % self.made
        self.store.save_applied(Apply(before, after, body, certified, False, ROSTER, at), state, private)
        self.kept.append(Kept(Checkpoint(after, ROSTER, at), state or self.kept[-1].state, private))
        return self.kept[-1]

    def revert(self, index: int) -> None:
        del self.kept[index + 1 :]
        self.store.revert(self.kept[-1].checkpoint.standing)

    def states(self) -> set[int]:
        """The rounds after which there is a state."""
        return {int(path.stem) for path in (self.path / "states").iterdir()}

    def has(self, kept: Kept) -> bool:
        """Whether state and private state of a head are here."""
        private = self.store.private_path(kept.standing.head)
        if kept.private and not (private.exists() and private.read_bytes() == kept.private):
            return False
        return self.store.state_after(kept.standing.round, INITIAL) == kept.state


@pytest.fixture
def home(tmp_path: Path) -> Any:
    made = Home(tmp_path)
    yield made
    made.store.close()


def checkpoints(kept: list[Kept]) -> list[Checkpoint]:
    return [item.checkpoint for item in kept]


# Going on


def test_a_new_home_goes_on_from_the_beginning(home: Home) -> None:
    assert home.store.checkpoints() == [Checkpoint()]


def test_the_newest_heads_survive_a_restart_oldest_first(home: Home) -> None:
    for number in range(1, KEPT_HEADS + 4):
        home.apply("round")
        expected = checkpoints(home.kept)[-KEPT_HEADS - 1 :]
        assert home.store.checkpoints() == expected
        assert (Checkpoint() in expected) == (number <= KEPT_HEADS)
        home.reopen()
        assert home.store.checkpoints() == expected


def test_a_checkpoint_reads_back_whole() -> None:
    everybody = Table(guests=2)
    rotated = {member: key[::-1] for member, key in reversed(everybody.roster.items())}
    standing = replace(
        everybody.standing,
        seats=tuple(Seat(seat.member, seat.key, 3, 2) for seat in everybody.standing.seats),
        recent=(ListedRound(2, frozenset(everybody.standing.seat_members[:2])), ListedRound(5, frozenset())),
        before=keccak(b"before"),
        bases=(replace(everybody.standing.base, head=keccak(b"older")), everybody.standing.base),
        spent=frozenset((member, 3) for member in everybody.standing.seat_members[1:]),
    )
    checkpoint = Checkpoint(standing, rotated, Position(7, 3, keccak(b"7")))
    found = decode_checkpoint(encode_checkpoint(checkpoint))
    assert found == checkpoint and list(found.roster) == list(rotated)  # the order of joining counts
    assert found.standing is not None and found.standing.roster == standing.roster != standing.next_trainers


def test_own_words_are_given_back_from_the_oldest_kept_head_on(home: Home) -> None:
    for number in range(1, KEPT_HEADS + 4):
        home.store.persist(Persist(home.kept[-1].standing.head, number, b"word %d" % number))
        home.apply("round")
    home.store.persist(Persist(home.kept[-1].standing.head, KEPT_HEADS + 4, b"newest"))
    home.reopen()
    words = [record.raw for record in home.store.own_records()]
    oldest = home.store.checkpoints()[0].standing
    assert oldest is not None
    assert words == [*(b"word %d" % number for number in range(oldest.round + 1, KEPT_HEADS + 4)), b"newest"]


# Going back


def test_after_a_reorg_the_later_heads_are_void_also_for_a_restart(home: Home) -> None:
    for _ in range(5):
        home.apply("round")
    for index in (3, 1):
        home.revert(index)
        assert home.store.checkpoints() == checkpoints(home.kept)
        assert home.states() == {*range(1, index + 1)}
        home.reopen()
        assert home.store.checkpoints() == checkpoints(home.kept)
    home.apply("empty")
    home.apply("round")
    home.reopen()
    assert home.store.checkpoints() == checkpoints(home.kept) and len(home.kept) == 4
    home.revert(0)
    home.reopen()
    assert home.store.checkpoints() == [Checkpoint()]


def test_back_to_the_first_head_is_back_to_the_beginning(home: Home) -> None:
    """It has no entry in the log: its state is the initial one."""
    home.apply("round")
    home.store.revert(FIRST)
    assert home.store.checkpoints() == [Checkpoint()]
    assert home.store.state_after(0, INITIAL) == INITIAL
    home.reopen()
    assert home.store.checkpoints() == [Checkpoint()]


def test_an_empty_round_after_a_reorg_leaves_the_state_from_before_it(home: Home) -> None:
    home.apply("round")
    home.apply("round")
    home.apply("round")
    home.revert(1)
    for kind in ("empty", "roll call"):
        assert home.has(home.apply(kind)) and home.kept[-1].state == home.kept[1].state
    home.reopen()
    assert all(home.has(item) for item in home.kept[1:])


def test_a_roll_call_in_the_place_of_a_certificate_leaves_no_list(home: Home) -> None:
    home.apply("round")
    assert home.store.list_bytes(1) is not None
    home.revert(0)
    home.apply("roll call")
    assert home.store.list_bytes(1) is None and home.has(home.kept[-1])


def test_back_to_a_head_that_is_not_kept_is_too_deep(home: Home) -> None:
    for _ in range(KEPT_HEADS + 1):
        home.apply("round")
    before = home.store.checkpoints()
    for standing in (FIRST, None, replace(FIRST, head=Hash(keccak(b"another")))):
        with pytest.raises(ReorgTooDeep):
            home.store.revert(standing)
    assert home.store.checkpoints() == before  # nothing was undone
    home.reopen()
    assert home.store.checkpoints() == before and home.has(home.kept[-1])


def test_states_that_no_reorg_leads_back_to_are_forgotten(home: Home) -> None:
    blocks = [1, 10, REORG_BLOCKS_MAX, 10]
    heads = [home.apply("round", count) for count in blocks]
    assert [home.has(item) for item in heads] == [False, True, True, True]
    assert home.states() == {item.standing.round for item in heads[1:]}
    assert home.store.checkpoints() == checkpoints(heads[1:])
    with pytest.raises(ReorgTooDeep):
        home.store.revert(heads[0].standing)


def test_a_long_run_with_fast_blocks_keeps_a_bounded_number_of_states(home: Home) -> None:
    for _ in range(3 * KEPT_HEADS):
        home.apply("round")
    for folder in ("states", "private"):
        assert len(list((home.path / folder).iterdir())) <= KEPT_HEADS + 2
    assert all(home.has(item) for item in home.kept[-KEPT_HEADS - 1 :])


# Beginning from a snapshot


def test_who_begins_from_a_snapshot_goes_on_from_it_alone(home: Home) -> None:
    home.apply("round")
    home.apply("round")
    theirs = replace(FIRST, round=40, head=Hash(keccak(b"theirs")))
    snapshot = Checkpoint(theirs, ROSTER, Position(400, 0, keccak(b"400")))
    state = home.store.blobs.put(b"their state")
    listed = Table().listed([])
    home.store.adopt(snapshot, state, {39: listed, 40: listed})
    for _ in range(2):
        assert home.store.checkpoints() == [snapshot] and home.states() == {40}
        assert home.store.state_after(40, INITIAL) == b"their state"
        assert home.store.list_bytes(40) == home.store.list_bytes(39) == listed.to_bytes()
        with pytest.raises(ReorgTooDeep):
            home.store.revert(FIRST)
        home.reopen()
    home.kept = [Kept(snapshot, b"their state")]
    home.apply("empty")
    home.apply("round")
    home.reopen()
    assert home.store.checkpoints() == checkpoints(home.kept) and all(map(home.has, home.kept))
    home.revert(0)
    home.reopen()
    assert home.store.checkpoints() == [snapshot] and home.has(home.kept[0])


# Whatever happens


STEPS = st.tuples(
    st.sampled_from(("round", "round", "round", "empty", "roll call", "reorg", "reopen")),
    st.sampled_from((1, 2, 9, 30, 70)),
    st.integers(0, REORG_BLOCKS_MAX),
)


@settings(max_examples=max(20, settings.default.max_examples // 5))
@given(st.lists(STEPS, max_size=20))
def test_everything_that_a_reorg_within_reach_needs_is_there(story: list[tuple[str, int, int]]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)  # what a power cut leaves is another test's matter
        home, highest = Home(Path(folder)), 0
        for kind, blocks, depth in story:
            if kind == "reopen":
                home.reopen()
            elif kind == "reorg":
                to_block = max(highest - REORG_BLOCKS_MAX, home.kept[-1].block - depth)
                index = max(at for at, item in enumerate(home.kept) if item.block <= max(0, to_block))
                if len(home.kept) - index <= KEPT_HEADS + 1:
                    home.revert(index)
            else:
                home.apply(kind, blocks)
            highest = max(highest, home.kept[-1].block)
            found = home.store.checkpoints()
            assert found[-1] == home.kept[-1].checkpoint
            near = [item for item in home.kept[-KEPT_HEADS - 1 :] if item.block > highest - REORG_BLOCKS_MAX]
            first = next((item for item in reversed(home.kept) if item not in near), None)
            needed = near if first is None or len(near) > KEPT_HEADS else [first, *near]
            assert found[-len(needed) :] == checkpoints(needed)
            assert all(home.has(item) for item in needed)
        home.store.close()
