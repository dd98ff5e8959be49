import dataclasses

import pytest

from distrai.algorithms import PRESETS, Algorithm, Layout, resolve_preset, warnings

LAYOUT = Layout.from_pairs([("x", (4096, 64))])


def test_every_preset_resolves_to_itself():
    for name, spec in PRESETS.items():
        assert resolve_preset(name, {}) == spec
        assert spec.preset == name


def test_reference_settings():
    sparse = PRESETS["sparseloco"]
    assert (sparse.codec_options["k"], sparse.error_feedback, sparse.inner_steps, sparse.public_start) == (
        64,
        0.95,
        30,
        False,
    )
    prime = PRESETS["prime"]
    assert (prime.codec, prime.outer, prime.outer_lr, prime.outer_momentum, prime.public_start) == (
        "int8",
        "nesterov",
        0.7,
        0.9,
        True,
    )
    assert [name for name, spec in PRESETS.items() if not spec.network] == ["ddp"]


def test_bits_per_parameter_are_those_of_the_literature():
    def bits(name, **changes):
        return 8 * Algorithm(resolve_preset(name, changes), LAYOUT).update_size / LAYOUT.numel

    assert bits("diloco") == 32
    assert bits("prime") == pytest.approx(8, rel=0.005)
    assert bits("sparseloco") == pytest.approx(0.219, rel=0.005)
    assert bits("sparseloco", codec_options={"k": 256}) == pytest.approx(0.875, rel=0.002)


def test_overrides_change_only_what_they_name():
    spec = resolve_preset("sparseloco", {"codec_options": {"k": 256}, "outer_lr": 1})
    assert dict(spec.codec_options) == {"k": 256, "value_bits": 2}
    assert isinstance(spec.outer_lr, float)
    assert (
        dataclasses.replace(spec, codec_options=PRESETS["sparseloco"].codec_options) == PRESETS["sparseloco"]
    )
    changed = resolve_preset("sparseloco", {"codec": "int8", "error_feedback": 0})
    assert dict(changed.codec_options) == {"range_sigmas": 6}


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("dilocco", {}, "did you mean 'diloco'"),
        ("diloco", {"outer_learning_rate": 1.0}, "outer_learning_rate: not a key"),
        ("diloco", {"outer_Ir": 1.0}, "did you mean 'outer_lr'"),
        ("diloco", {"network": False}, "network: not a key"),
        ("diloco", {"codec": "int9"}, "did you mean 'int8'"),
        ("diloco", {"outer": "adam"}, "known are sgd, nesterov"),
        ("diloco", {"inner_state": "average"}, "did you mean 'averaged'"),
        ("diloco", {"inner_steps": 0}, "inner_steps: 0"),
        ("diloco", {"inner_steps": 1.5}, "whole number"),
        ("diloco", {"inner_steps": True}, "whole number"),
        ("diloco", {"outer_lr": "1"}, "is not a number"),
        ("diloco", {"outer_lr": float("nan")}, "outer_lr: nan"),
        ("diloco", {"outer_lr": 0}, "outer_lr: 0"),
        ("diloco", {"outer_momentum": 1.0}, "below 1"),
        ("diloco", {"codec": 8}, "is not a string"),
        ("diloco", {"codec_options": 3}, "is not a table"),
        ("diloco", {"codec_options": {"k": 3}}, "fp32 has no options"),
        ("sparseloco", {"codec_options": {"K": 3}}, "did you mean 'k'"),
        ("sparseloco", {"codec_options": {"k": 0}}, "k: 0 is not 1..4096"),
        ("sparseloco", {"codec_options": {"k": 4097}}, "4097"),
        ("sparseloco", {"codec_options": {"k": True}}, "True"),
        ("sparseloco", {"codec_options": {"value_bits": 4}}, "4 is not 2 or 32"),
        ("sparseloco", {"aggregate": "coordinate-median"}, "degenerate on sparse"),
        ("diloco", {"aggregate": "trimmed-mean"}, "not built"),
        ("diloco", {"outer_momentum": 0}, "plain SGD"),
        ("prime", {"error_feedback": 0.9}, "dense codec"),
        ("ddp", {"inner_steps": 10}, "every step"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_with_a_suggestion(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        resolve_preset(name, overrides)


def test_warnings_speak_of_momentum_in_short_rounds_and_short_runs():
    def momentum(spec, rounds):
        return [w for w in warnings(spec, rounds) if "outer_momentum" in w]

    assert momentum(resolve_preset("diloco", {"inner_steps": 19}), 100)
    assert momentum(resolve_preset("diloco", {}), 29)
    assert not momentum(resolve_preset("diloco", {"inner_steps": 20}), 30)
    assert not momentum(resolve_preset("diloco", {"outer_momentum": 0.5, "inner_steps": 5}), 5)
    assert not warnings(resolve_preset("diloco", {"outer": "sgd", "outer_momentum": 0.0}), 5)


def test_warnings_speak_of_private_and_costly_inner_states():
    def text(**changes):
        return " ".join(warnings(resolve_preset("sparseloco", changes), 100))

    assert "audited" in text()
    assert "reset" in text(inner_state="reset")
    assert "2.03" in text(inner_state="averaged")
    assert "loses for good" in text(error_feedback=0.0)


def test_layouts_refuse_what_cannot_be_exchanged():
    for pairs, message in (
        ([], "no tensor"),
        ([("a", (1,)), ("a", (2,))], "same name"),
        ([("a", (0,))], "no element"),
    ):
        with pytest.raises(ValueError, match=message):
            Layout.from_pairs(pairs)
    assert Layout.from_pairs(LAYOUT.to_pairs()) == LAYOUT
    assert Layout.from_pairs([("a", (2, 3)), ("b", ())]).offsets == (0, 6)
