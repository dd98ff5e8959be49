"""What the benchmarks of runs in common rest on: the same samples alone as in a run, and examples that are apart."""

import json
import sys
from pathlib import Path

import pytest

from distrai.protocol.assignment import DataOrder
from distrai.protocol.primitives import Hash
from distrai.training.spec import InnerSpec
from together_runs import Cut, extended, reader

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
import docstrings

INNER = InnerSpec(rounds=3, inner_steps=5, batch=2, context=8, lr=1.0)
MEMBERS = 4


@pytest.mark.parametrize("together", [1, 2, 4])
def test_one_machine_reads_in_every_round_what_the_members_read(together):
    order = DataOrder(1000, Hash(bytes(32)))
    samples_of = reader(order, INNER, MEMBERS, Cut("x", together))
    size = MEMBERS * INNER.round_samples
    for number in (1, 2, 3):
        steps = range(1, INNER.inner_steps * MEMBERS // together + 1)
        read = [each for step in steps for peer in range(together) for each in samples_of(number, step, peer)]
        assert sorted(read) == sorted(order.sample_at((number - 1) * size + at) for at in range(size))
        first = [samples_of(number, 1, peer) for peer in range(together)]
        assert first[0] == [order.sample_at((number - 1) * size + at) for at in range(2)]


@pytest.mark.parametrize(
    ("best", "tried"), [(2, [1, 2, 4]), (8, [1, 2, 4, 8, 16]), (0.5, [0.25, 0.5, 1, 2, 4])]
)
def test_rates_are_added_while_the_best_is_at_an_end(best, tried):
    assert list(extended([1, 2, 4], lambda rate: abs(rate - best))) == tried


def test_examples_are_apart_and_fit(tmp_path):
    source = '''
def mean(values):
    """Return the mean of all values. It may be empty.

    More about it.
    """
def mean(values):
    """Another one of the same name."""
class Box:
    def twice(self, x):
        """Return the mean of all values."""
    def same(self): "Same Same Same Same"
    def short(self): "Short."
    def odd(self): "lower case is no sentence here"
'''
    found = docstrings.distinct(docstrings.examples_in(source, "a/b.py"))
    assert [(each.question, each.answer) for each in found] == [
        ("def mean(values)", "Return the mean of all values."),
        ("def same(self)", "Same Same Same Same"),
    ]
    docstrings.write(tmp_path, found)
    chats = [json.loads(line) for line in (tmp_path / "chats.jsonl").read_text().splitlines()]
    assert [message["content"] for message in chats[0]["messages"]] == [found[0].question, found[0].answer]
    (pair,) = [json.loads(line) for line in (tmp_path / "preferences.jsonl").read_text().splitlines()]
    better, worse = (pair[f"{kind}preferred_output"][0]["content"] for kind in ("", "non_"))
    assert better != worse
    assert sorted(better.split()) == sorted(worse.split())
    assert "Return the mean" in (tmp_path / "texts" / "a.b.txt").read_text()
