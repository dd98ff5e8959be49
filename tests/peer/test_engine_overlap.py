"""Overlapping rounds, and rounds at the others' pace: what the engine asks training for."""

from dataclasses import dataclass, replace

import pytest

from distrai.peer.events import FinishTraining, StateApplied, StopTraining, Train, TrainAhead, TrainingDone
from distrai.peer.pace import TOLERANCE
from distrai.peer.round import Rules
from distrai.simulation.toy import INNER_STEPS, WORK
from helpers.engine import BEGAN, Driven, Table

TAU = 2


@dataclass
class Overlapping(Table):
    """A run whose rounds overlap by ``TAU`` steps."""

    @property
    def rules(self) -> Rules:
        plain = super().rules
        return replace(plain, run=replace(plain.run, lag=1), work=replace(plain.work, overlap=TAU))


@dataclass
class Measured(Table):
    """A run in which slower peers take fewer steps."""

    @property
    def rules(self) -> Rules:
        return replace(super().rules, measured_pace=True)


def test_the_next_round_is_begun_once_the_own_update_is_announced_and_is_the_one_that_comes() -> None:
    table = Overlapping()
    peer = Driven(table)
    peer.tell(StateApplied(table.standing.head))
    assert not peer.of(TrainAhead)
    before, own = table.standing, peer.train()
    (ahead,) = peer.of(TrainAhead)
    assert ahead.standing == before
    peer.land([own, *(table.update(who) for who in (1, 2, 3))])
    peer.tell(StateApplied(table.standing.head))
    train = peer.of(Train)[-1]
    assert train.standing.round == 1
    assert train.block == ahead.block != peer.of(Train)[0].block
    assert (train.standing.before, train.steps) == (before.head, INNER_STEPS)


def test_an_empty_round_in_between_gives_other_data() -> None:
    table = Overlapping()
    peer = Driven(table)
    peer.tell(StateApplied(table.standing.head))
    peer.train()
    (ahead,) = peer.of(TrainAhead)
    peer.land()
    peer.tell(StateApplied(table.standing.head))
    assert peer.of(Train)[-1].block == ahead.block, "an empty round moves the cursor as any other"
    peer.land(block=11)
    peer.tell(StateApplied(table.standing.head))
    assert peer.of(Train)[-1].block != ahead.block


def test_nothing_is_begun_ahead_of_the_last_round_or_where_rounds_do_not_overlap() -> None:
    for table in (Overlapping(rounds=1), Table()):
        peer = Driven(table)
        peer.tell(StateApplied(table.standing.head))
        peer.train()
        assert not peer.of(TrainAhead)


def test_after_a_restart_it_goes_on_ahead_of_an_update_that_was_announced_before() -> None:
    table = Overlapping()
    peer = Driven(table)
    peer.tell(StateApplied(table.standing.head))
    own = peer.train()
    again = Driven(table, records=peer.persisted, held=(own.blob,))
    again.tell(StateApplied(table.standing.head))
    assert not again.of(Train)
    assert again.of(TrainAhead) == peer.of(TrainAhead)


def test_what_was_trained_too_late_is_not_built_upon() -> None:
    """The others' Haves came before the own update: it cannot count any more, and nobody will know it."""
    table = Overlapping()
    peer = Driven(table)
    peer.tell(StateApplied(table.standing.head))
    others = [table.update(who) for who in (1, 2, 3)]
    peer.get(*others)
    peer.hear(*(table.have(who, others) for who in (1, 2, 3)))
    made = table.update(0)
    peer.tell(TrainingDone(table.standing.head, made.sealed.blob, made.sealed.key, INNER_STEPS, 32))
    assert not peer.said("update")
    assert not peer.of(TrainAhead)


def test_the_update_says_how_many_steps_were_taken_ahead() -> None:
    table = Overlapping()
    peer = Driven(table)
    peer.land([peer.train()])
    made = table.update(0)
    peer.tell(TrainingDone(table.standing.head, made.sealed.blob, made.sealed.key, INNER_STEPS, 32, TAU))
    first, second = peer.said("update")
    assert (first.message.tau, second.message.tau) == (0, TAU)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("steps", "refused"), [(TAU - 1, ["WrongFragment"]), (TAU, [])])
def test_who_took_steps_ahead_took_at_least_as_many(steps: int, refused: list[str]) -> None:
    table = Overlapping()
    peer = Driven(table)
    peer.land([peer.train()])
    tokens = steps * WORK.tokens_per_step
    peer.get(table.update(1, tau=TAU, inner_steps=steps, tokens=tokens))
    assert peer.refused == refused


def test_no_step_is_taken_ahead_of_the_first_round() -> None:
    table = Overlapping()
    peer = Driven(table)
    peer.get(table.update(1, tau=TAU))
    assert peer.refused == ["WrongFragment"]


def test_nobody_is_asked_to_finish_what_was_not_begun() -> None:
    table = Measured()
    peer = Driven(table)
    peer.now = BEGAN + 4.0
    peer.get(*(table.update(who) for who in (1, 2)))
    peer.tick(4.0 * TOLERANCE)
    assert not peer.of(FinishTraining)
    peer.tell(StateApplied(table.standing.head))
    assert [type(effect) for effect in peer.all if isinstance(effect, Train | FinishTraining)] == [
        Train,
        FinishTraining,
    ]


def test_a_peer_that_keeps_the_others_waiting_is_asked_to_finish() -> None:
    table = Measured()
    peer = Driven(table)
    peer.tell(StateApplied(table.standing.head))
    peer.now = BEGAN + 4.0
    peer.get(*(table.update(who) for who in (1, 2)))
    assert peer.wakes_at == 4.0 * TOLERANCE
    assert not peer.of(FinishTraining)
    peer.tick(4.0 * TOLERANCE)
    assert len(peer.of(FinishTraining)) == 1
    assert not peer.of(StopTraining)


def test_in_the_next_round_it_takes_as_many_steps_as_it_has_time_for() -> None:
    table = Measured()
    peer = Driven(table)
    peer.tell(StateApplied(table.standing.head))
    updates = [table.update(who) for who in (1, 2, 3)]
    peer.now = BEGAN + 4.0
    peer.get(*updates)
    peer.now = BEGAN + 8.0
    made = table.update(0)
    peer.tell(TrainingDone(table.standing.head, made.sealed.blob, made.sealed.key, INNER_STEPS, 32))
    peer.land([made, *updates])
    peer.tell(StateApplied(table.standing.head))
    assert [train.steps for train in peer.of(Train)] == [INNER_STEPS, 1]
