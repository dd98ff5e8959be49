import os
import subprocess
import sys

import pytest
import torch

from distrai.algorithms import PRESETS, arithmetic, resolve_preset, selftest
from distrai.algorithms.codecs import CODECS

SCRIPT = """
import sys
import torch
from distrai.algorithms import selftest
torch.set_num_threads(int(sys.argv[1]))
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), selftest.device_agrees("cpu"))
"""


def test_this_cpu_agrees_with_the_golden_vectors():
    assert selftest.device_agrees("cpu")
    assert selftest.consensus_device("cpu") == torch.device("cpu")


def test_every_network_preset_and_every_codec_has_a_golden_vector():
    resolved = [resolve_preset(preset, changes) for preset, changes in selftest.CASES.values()]
    wanted = {(spec.codec, spec.outer) for spec in PRESETS.values() if spec.network}
    assert wanted <= {(spec.codec, spec.outer) for spec in resolved} | {("fp32", "sgd")}
    assert {spec.codec for spec in resolved} == set(CODECS)
    assert {spec.inner_state for spec in resolved} >= {"kept", "averaged", "public"}
    assert set(selftest.GOLDEN) == set(selftest.CASES)


def test_the_same_bits_at_every_level_of_instructions_and_number_of_threads():
    """The levels run at once: most of their time is starting torch. A level this CPU lacks falls back to one it has."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, threads],
            env=os.environ | {"ATEN_CPU_CAPABILITY": level, "OMP_WAIT_POLICY": "passive"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for level, threads in (("default", "1"), ("avx2", "2"), ("avx512", "1"))
    ]
    answers = [process.communicate(timeout=300)[0].split() for process in running]
    assert answers[0][0] == "DEFAULT"
    assert [answer[1:] for answer in answers] == [["1", "True"], ["2", "True"], ["1", "True"]]


def test_a_device_that_flushes_subnormal_numbers_does_not_agree():
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush")
    try:
        assert not selftest.device_agrees("cpu")
    finally:
        torch.set_flush_denormal(False)
    assert selftest.device_agrees("cpu")


def test_one_wrong_bit_anywhere_is_noticed(monkeypatch):
    exact = arithmetic.clip_factor
    monkeypatch.setattr(
        arithmetic, "clip_factor", lambda squared, ceiling: exact(squared, ceiling) * (1 + 2**-20)
    )
    assert not selftest.device_agrees("cpu")


def test_a_device_that_cannot_compute_is_replaced_by_the_cpu(monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(selftest, "golden_hash", broken)
    assert selftest.consensus_device("cuda") == torch.device("cpu")


@pytest.mark.cuda
def test_the_gpu_agrees():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert selftest.device_agrees("cuda")


def test_golden_inputs_hold_what_is_hard():
    x = selftest.values(1, 20_000)
    assert int((x == 0).sum()) > 50
    assert bool(torch.signbit(x[x == 0]).any()), "-0.0 among them"
    tiny = selftest._tensors(1)[2]
    assert int(((tiny != 0) & (tiny.abs() < 2.0**-126)).sum()) > 100
    assert x.unique().numel() > 1000
