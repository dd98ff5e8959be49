import dataclasses

import pytest

from distrai.algorithms import PRESETS, Algorithm, Layout, resolve_preset, warnings

LAYOUT = Layout.from_pairs([("x", (4096, 64))])


def test_every_preset_resolves_to_itself():
    for name, spec in PRESETS.items():
        assert resolve_preset(name, {}) == spec
        assert spec.preset == name


def reference(name, *keys):
    return tuple(getattr(PRESETS[name], key) for key in keys)


def test_reference_settings():
    assert dict(PRESETS["sparseloco"].codec_options) == {"k": 64, "value_bits": 2}
    assert reference("sparseloco", "error_feedback", "inner_steps", "public_start") == (0.95, 30, False)
    outer = ("codec", "outer", "outer_lr", "outer_momentum")
    assert reference("prime", *outer, "public_start") == ("int8", "nesterov", 0.7, 0.9, True)
    assert reference("streaming-diloco", *outer, "merge_alpha") == ("fp4", "nesterov", 0.4, 0.9, 0.5)
    assert reference("async-diloco", *outer, "quorum") == ("fp32", "delayed-nesterov", 0.07, 0.9, 1)
    assert reference("noloco", *outer, "topology") == ("fp32", "noloco", 0.7, 0.5, "pairs")
    assert reference("fedavg", *outer, "aggregate") == ("fp32", "sgd", 1.0, 0.0, "token-weighted-mean")
    for name in ("demo", "distro"):
        assert reference(name, "codec", "outer", "inner_optimiser", "inner_steps") == (
            "dct",
            "sign",
            "sgd",
            1,
        )
        assert reference(name, "error_feedback", "outer_schedule") == (0.999, "training")
    assert [name for name, spec in PRESETS.items() if not spec.network] == ["ddp", "noloco"]
    assert [name for name, spec in PRESETS.items() if not spec.global_state] == ["noloco"]
    public = [name for name, spec in PRESETS.items() if spec.public_start]
    assert public == ["diloco", "prime", "fedavg", "demo", "distro"]


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
        ("diloco", {"outer": "adam"}, "known are sgd, nesterov, sign"),
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
        ("sparseloco", {"codec_options": {"value_bits": 4}}, "4 is not .*2 or 32"),
        ("sparseloco", {"aggregate": "coordinate-median"}, "degenerate on sparse"),
        ("sparseloco", {"aggregate": "trimmed-mean"}, "degenerate on sparse"),
        ("demo", {"aggregate": "centred-clip"}, "degenerate on sparse"),
        ("diloco", {"aggregate": "coordinate-mean"}, "did you mean 'coordinate-median'"),
        ("diloco", {"topology": "ring"}, "topology: no 'ring'"),
        ("diloco", {"fragments": 0}, "fragments: 0 is not within 1..1024"),
        ("diloco", {"staleness": 8}, "staleness: 8 is not within 0..7"),
        ("diloco", {"quorum": -1}, "quorum: -1"),
        ("diloco", {"merge_alpha": 1.5}, "merge_alpha: 1.5 is not within 0..1"),
        ("diloco", {"outer_weight_decay": 1.0}, "below 1"),
        ("diloco", {"outer": "sign"}, "outer_momentum: 0.9 with outer .sign."),
        ("fedavg", {"outer": "delayed-nesterov"}, "plain SGD"),
        ("diloco", {"outer_delay": 2}, "only .delayed-nesterov. waits"),
        ("diloco", {"outer_lr": 20.0, "outer_weight_decay": 0.1}, "outer_weight_decay: times outer_lr"),
        ("diloco", {"overlap": 100}, "overlap: 100 steps ahead do not fit into a round of inner_steps = 100"),
        ("sparta", {"overlap": 1}, "do not fit"),
        ("diloco", {"merge_alpha": 0.5}, "start .global. never does"),
        ("diloco", {"start": "replica"}, "inner_state: a replica goes on with its own moments"),
        ("streaming-diloco", {"codec": "topk", "error_feedback": 0.9}, "send it twice"),
        ("sparta", {"error_feedback": 0.9}, "send it twice"),
        ("demo", {"inner_state": "averaged"}, "sgd has no moments"),
        ("diloco", {"inner_state": "public", "inner_optimiser": "muon"}, "the moments of Adam"),
        ("diloco", {"inner_state": "public", "fragments": 2}, "has only a part of it"),
        ("async-diloco", {"fragments": 2}, "fragments: does not go with staleness 4"),
        ("async-diloco", {"overlap": 5}, "overlap: does not go with staleness 4"),
        ("async-diloco", {"start": "replica"}, "start: does not go with staleness 4"),
        ("async-diloco", {"codec": "mask"}, "codec: does not go with staleness 4"),
        ("diloco", {"topology": "pairs"}, "only go together"),
        ("diloco", {"topology": "pairs", "outer": "noloco"}, "no state in common that a certificate"),
        ("noloco", {"topology": "all"}, "only go together"),
        ("noloco", {"inner_state": "averaged"}, "needs a state that all have in common"),
        ("noloco", {"staleness": 1}, "lives inside one process"),
        ("ddp", {"quorum": 2}, "lives inside one process"),
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


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sparseloco", {}, "audited"),
        ("sparseloco", {"inner_state": "reset"}, "reset"),
        ("sparseloco", {"inner_state": "averaged"}, "2.03"),
        ("sparseloco", {"error_feedback": 0.0}, "loses for good"),
        ("prime", {"inner_state": "public"}, "beside a dense codec"),
        ("fedavg", {"outer": "sign"}, "moves every parameter by outer_lr"),
        ("prime", {"fragments": 2}, "throws away what it trained"),
        ("streaming-diloco", {"fragments": 3}, "100 rounds are no multiple of 3 fragments"),
        ("streaming-diloco", {}, "carries private parameters"),
        ("lo-fi", {}, "from scratch it fails"),
        ("fedavg", {"quorum": 2}, "throws away the work of whoever is later"),
        ("async-diloco", {"inner_state": "averaged"}, "of the few whom it lists"),
        ("async-diloco", {"aggregate": "mean"}, "unequal work equal weight"),
    ],
)
def test_warnings_say_what_is_likely_to_disappoint(name, changes, message):
    assert message in " ".join(warnings(resolve_preset(name, changes), 100))


def test_warnings_leave_sound_choices_alone():
    for name in ("fedavg", "demo", "distro"):
        assert warnings(PRESETS[name], 99) == []
    assert len(warnings(PRESETS["sparta"], 100)) == 1
    assert len(warnings(PRESETS["async-diloco"], 100)) == 1


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
