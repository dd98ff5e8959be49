import random

from hypothesis import given
from hypothesis import strategies as st

from distrai.network.schedule import Schedule

ALL = frozenset(range(100))


def schedule(missing: list[int], failures_max: int = 3, duplicate_after_s: float = 2.0) -> Schedule[str]:
    return Schedule(missing, random.Random(1), failures_max, duplicate_after_s)


def test_every_chunk_is_asked_for_once_in_random_order() -> None:
    plan = schedule(list(range(50)))
    taken = [plan.take("ab"[turn % 2], ALL, 0.0) for turn in range(50)]
    assert sorted(index for index in taken if index is not None) == list(range(50))
    assert taken != sorted(index for index in taken if index is not None)
    assert plan.take("a", ALL, 0.0) is None


def test_only_chunks_that_a_holder_has() -> None:
    plan = schedule([1, 2, 3])
    assert plan.take("a", {2}, 0.0) == 2
    assert plan.take("a", {2}, 0.0) is None
    assert not plan.useful({7}) and plan.useful({3, 7})


def test_a_late_chunk_is_asked_of_one_other_and_the_loser_is_named() -> None:
    plan = schedule([4])
    assert plan.take("slow", ALL, 0.0) == 4
    assert plan.take("fast", ALL, 1.9) is None
    assert plan.take("slow", ALL, 9.0) is None
    assert plan.take("fast", ALL, 2.0) == 4
    assert plan.take("third", ALL, 9.0) is None
    assert plan.stored("fast", 4) == ["slow"]
    assert plan.complete
    plan.release("slow", 4)
    assert plan.take("slow", ALL, 99.0) is None


def test_a_released_chunk_goes_to_another() -> None:
    plan = schedule([4])
    plan.take("a", ALL, 0.0)
    plan.release("a", 4)
    assert plan.take("b", ALL, 0.0) == 4


def test_failures_in_a_row_use_up_the_budget_and_a_success_restores_it() -> None:
    plan = schedule([1, 2, 3], failures_max=2)
    index = plan.take("a", ALL, 0.0)
    assert index is not None and not plan.failed("a", index)
    index = plan.take("a", ALL, 0.0)
    assert index is not None
    plan.stored("a", index)
    for last in (False, True):
        index = plan.take("a", ALL, 0.0)
        assert index is not None and plan.failed("a", index) is last
    assert plan.take("a", ALL, 0.0) is None
    assert plan.take("b", ALL, 0.0) is not None


@given(st.integers(1, 30), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("ofr")), max_size=200))
def test_no_chunk_is_ever_lost(count: int, script: list[tuple[str, str]]) -> None:
    plan = schedule(list(range(count)), failures_max=10**6, duplicate_after_s=1.0)
    for now, (holder, fate) in enumerate(script):
        index = plan.take(holder, ALL, now / 2)
        if index is None:
            continue
        assert index in plan.missing
        if fate == "o":
            plan.stored(holder, index)
        elif fate == "f":
            plan.failed(holder, index)
        else:
            plan.release(holder, index)
    for now in range(1000, 1000 + 2 * count):
        index = plan.take("z", ALL, now)
        if index is not None:
            plan.stored("z", index)
    assert plan.complete
