"""Whatever combination is not refused works: it encodes, checks, steps and has the bytes it promised."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.oracle import moments, tensors
from distrai.algorithms import PRESETS, Algorithm, Entry, Layout, resolve_preset
from distrai.algorithms.aggregate import RULES
from distrai.algorithms.codecs import CODECS
from distrai.algorithms.outer import KINDS
from distrai.algorithms.spec import INNER_OPTIMISERS, INNER_STATES, KEYS, STARTS

TINY = Layout.from_pairs(
    [("embed", (70, 66)), ("layers.0.w", (5, 300)), ("layers.1.w", (5, 300)), ("norm", (40,)), ("one", ())]
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "codec": st.sampled_from(sorted(CODECS)),
        "aggregate": st.sampled_from(sorted(RULES)),
        "outer": st.sampled_from(sorted(KINDS)),
        "outer_momentum": st.sampled_from([0.0, 0.5]),
        "outer_weight_decay": st.sampled_from([0.0, 0.1]),
        "outer_schedule": st.sampled_from(["constant", "training"]),
        "error_feedback": st.sampled_from([0.0, 0.9]),
        "inner_state": st.sampled_from(INNER_STATES),
        "inner_optimiser": st.sampled_from(INNER_OPTIMISERS),
        "start": st.sampled_from(STARTS),
        "merge_alpha": st.sampled_from([0.0, 0.5, 1.0]),
        "fragments": st.sampled_from([1, 2]),
        "overlap": st.sampled_from([0, 3]),
        "staleness": st.sampled_from([0, 2]),
    },
)


def takes_two_rounds(spec):
    algo = Algorithm(spec, TINY, rate=lambda round_number: 1 / round_number)
    state, feedback = algo.initial_state(tensors(0, TINY)), [None, None]
    for number in (1, 2):
        listed = []
        for member in (0, 1):
            seed = 10 * number + member
            delta = algo.delta(state.params, tensors(seed, TINY), round=number)
            encoded = algo.encode(delta, moments(seed, TINY), feedback[member], round=number)
            feedback[member] = encoded.feedback(accepted=member == number - 1)
            assert len(encoded.payload) == algo.payload_size_at(number)
            algo.check(encoded.payload, 1e6, round=number)
            age = member * min(spec.staleness, number - 1)
            listed.append(Entry(bytes([member]) * 32, 10 + member, encoded.payload, age))
        result = algo.step(state, listed, round=number)
        assert result.reasons == ("", "")
        state = result.state
        data = algo.state_bytes(state)
        assert len(data) == algo.state_size
        assert algo.state_bytes(algo.state_from_bytes(data)) == data
        for got, tensor in zip(algo.merge(tensors(9, TINY), state, round=number), TINY.tensors, strict=True):
            assert tuple(got.shape) == tensor.shape
            assert bool(torch.isfinite(got).all())


def resolved_or_refused(preset, changes):
    """The spec, or the text of the refusal."""
    try:
        return resolve_preset(preset, changes)
    except ValueError as error:
        return str(error)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), CHANGES)
def test_what_is_not_refused_works(preset, changes):
    found = resolved_or_refused(preset, changes)
    if isinstance(found, str):
        key = found.partition(":")[0].partition(".")[0]
        assert key in KEYS or found.startswith(preset)
    elif found.global_state:
        takes_two_rounds(found)


@pytest.mark.parametrize("preset", [name for name, spec in PRESETS.items() if spec.network])
def test_every_preset_of_the_network_takes_two_rounds(preset):
    takes_two_rounds(resolve_preset(preset, {}))
