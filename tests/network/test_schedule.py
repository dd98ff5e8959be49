import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.network.schedule import Request, Schedule, ScheduleLimits, Shares

ALL = frozenset(range(100))


def schedule(
    missing: list[int],
    failures_max: int = 3,
    duplicate_after_s: float = 2.0,
    shares: Shares[str] | None = None,
    **held: frozenset[int],
) -> Schedule[str]:
    plan = Schedule(
        missing, random.Random(1), ScheduleLimits(failures_max, duplicate_after_s), shares, len(missing)
    )
    for holder, chunks in held.items():
        plan.offer(holder, chunks)
    return plan


def take(plan: Schedule[str], holder: str, now: float = 0.0) -> int | None:
    request = plan.take(holder, now)
    return None if request is None else request.index


def test_every_chunk_is_asked_for_once_in_random_order() -> None:
    plan = schedule(list(range(50)), a=ALL, b=ALL)
    taken = [take(plan, "ab"[turn % 2]) for turn in range(50)]
    assert sorted(index for index in taken if index is not None) == list(range(50))
    assert taken != sorted(index for index in taken if index is not None)
    assert take(plan, "a") is None


def test_only_chunks_that_a_holder_has() -> None:
    plan = schedule([1, 2, 3], a=frozenset({2}))
    assert take(plan, "a") == 2
    assert take(plan, "a") is None
    assert plan.offer("b", {7}) is False and not plan.useful("b")
    assert plan.offer("b", {3, 7}) is True and plan.useful("b")
    assert plan.offer("b", {3}) is False
    plan.lacks("b", 3)
    assert not plan.useful("b") and take(plan, "b") is None


def test_the_rarest_come_first() -> None:
    plan = schedule(list(range(6)), a=frozenset(range(6)), b=frozenset({0, 1, 2}), c=frozenset({0, 1, 4}))
    order = [take(plan, "a") for _ in range(6)]
    assert set(order[:2]) == {3, 5} and set(order[2:4]) == {2, 4} and set(order[4:]) == {0, 1}


def test_a_dropped_holder_makes_nothing_common() -> None:
    plan = schedule([0, 1], a=frozenset({0, 1}), liar=frozenset({0}))
    plan.drop("liar")
    plan.offer("b", {1})
    assert take(plan, "a") == 0


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_those_who_fetch_ask_an_author_for_different_chunks(count: int) -> None:
    names = ["author", "b", "c", "d"]
    places = {name: at for at, name in enumerate(names)}
    plans = {}
    for name in names[1:]:
        others = {other: place for other, place in places.items() if other != name}
        plans[name] = schedule(list(range(count)), shares=Shares(places[name], others), author=ALL)
    taken = [take(plans[names[1 + turn % 3]], "author") for turn in range(count)]
    assert sorted(taken) == list(range(count))


def test_who_is_done_with_its_share_takes_what_another_begins_last() -> None:
    shares = Shares(1, {"author": 0, "c": 2})
    plan = schedule(list(range(8)), shares=shares, author=ALL)
    assert [take(plan, "author") for _ in range(8)] == [0, 2, 4, 6, 7, 5, 3, 1]


def test_a_refused_chunk_is_tried_again_later_and_at_last_without_politeness() -> None:
    plan = schedule([4], a=ALL)
    assert plan.take("a", 0.0) == Request(4, polite=True)
    plan.refused("a", 4, 0.1)
    assert plan.take("a", 0.2) is None
    assert plan.take("a", 0.5) == Request(4, polite=True)
    plan.refused("a", 4, 0.5)
    assert plan.take("a", 4.2, usual_s=3.0) == Request(4, polite=True)  # a slow one is given more time
    plan.refused("a", 4, 4.2)
    assert plan.take("a", 5.0) == Request(4, polite=False)
    plan.release("a", 4)
    plan.offer("b", ALL)
    assert plan.take("b", 5.0) == Request(4, polite=True)


def test_a_late_chunk_is_asked_of_one_other_and_the_loser_is_named() -> None:
    plan = schedule([4], slow=ALL, fast=ALL, third=ALL)
    assert take(plan, "slow") == 4
    assert take(plan, "fast", 1.9) is None
    assert take(plan, "slow", 9.0) is None
    assert plan.take("fast", 5.0, usual_s=2.0) is None
    assert plan.take("fast", 2.0) == Request(4, polite=False)
    assert take(plan, "third", 9.0) is None
    assert plan.stored("fast", 4) == ["slow"]
    assert plan.complete
    plan.release("slow", 4)
    assert take(plan, "slow", 99.0) is None


def test_who_will_be_much_faster_is_asked_as_well() -> None:
    plan = schedule([4], slow=ALL, fast=ALL, new=ALL)
    assert plan.take("slow", 0.0, usual_s=1.0) == Request(4)
    assert plan.take("new", 0.1) is None  # nobody knows whether it is any faster
    assert plan.take("fast", 0.1, usual_s=0.5) is None
    assert plan.take("fast", 0.1, usual_s=0.4) == Request(4, polite=False)


def test_who_is_overtaken_again_and_again_is_the_last_resort() -> None:
    plan = schedule([1, 2], slow=frozenset({1, 2}), fast=frozenset({1}))
    for _ in range(3):
        assert take(plan, "slow") == 2
        plan.overtaken("slow", 2)
    assert take(plan, "slow") == 2, "nobody else has it"
    assert take(plan, "slow") is None
    assert plan.stored("slow", 2) == [] and take(plan, "slow") == 1, "it came in time"


def test_a_released_chunk_goes_to_another() -> None:
    plan = schedule([4], a=ALL, b=ALL)
    take(plan, "a")
    plan.release("a", 4)
    assert take(plan, "b") == 4


def test_failures_in_a_row_use_up_the_budget_and_a_success_restores_it() -> None:
    plan = schedule([1, 2, 3], failures_max=2, a=ALL, b=ALL)
    index = take(plan, "a")
    assert index is not None and not plan.failed("a", index)
    index = take(plan, "a")
    assert index is not None
    plan.stored("a", index)
    for last in (False, True):
        index = take(plan, "a")
        assert index is not None and plan.failed("a", index) is last
    assert take(plan, "a") is None
    assert take(plan, "b") is not None


@given(
    st.integers(1, 30), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("ofrnv")), max_size=200)
)
def test_no_chunk_is_ever_lost(count: int, script: list[tuple[str, str]]) -> None:
    plan = schedule(list(range(count)), 10**6, 1.0, a=ALL, b=ALL, c=ALL, z=ALL)
    for now, (holder, fate) in enumerate(script):
        index = take(plan, holder, now / 2)
        if index is None:
            continue
        assert index in plan.missing
        if fate == "o":
            plan.stored(holder, index)
        elif fate == "f":
            plan.failed(holder, index)
        elif fate == "v":
            plan.overtaken(holder, index)
        elif fate == "n":
            plan.refused(holder, index, now / 2)
        else:
            plan.release(holder, index)
    for now in range(1000, 1000 + 2 * count):
        index = take(plan, "z", now)
        if index is not None:
            plan.stored("z", index)
    assert plan.complete
