"""Golden vectors: does this device compute consensus arithmetic as every other does?

Each preset of the network encodes the updates of seven members, made from integers, and applies them. A hash
over every byte that comes out is compared with the committed one. Run it at start; where it fails, aggregate
on the CPU and say so. If a change of code makes it fail, old runs can no longer be replayed: that is a new
version of a codec, not a new golden value.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from distrai.algorithms.algorithm import Algorithm, Encoded, Entry
from distrai.algorithms.layout import Layout
from distrai.algorithms.moments import Moments
from distrai.algorithms.presets import resolve_preset
from distrai.algorithms.spec import CHECKS

LAYOUT = Layout.from_pairs(
    (("0.matrix", (70, 130)), ("0.vector", (5000,)), ("1.factor", (8, 600)), ("1.bias", (3,)))
)
MEMBERS = 7
TINY = 2.0**-122
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "fp32": ("diloco", {"inner_state": "kept"}),
    "int8": ("prime", {}),
    "topk": ("sparseloco", {}),
    "topk-dense": ("sparseloco", {"codec_options": {"k": 256, "value_bits": 32}, "inner_state": "averaged"}),
    "public": ("sparseloco", {"codec_options": {"k": 256}, "inner_state": "public"}),
    "streaming": ("streaming-diloco", {}),
    "demo": ("demo", {}),
    "distro": ("distro", {}),
    "async": ("async-diloco", {}),
    "sparta": ("sparta", {}),
    "bf16": ("fedavg", {"codec": "bf16"}),
    "int4": ("prime", {"codec": "int4"}),
    "topk-signs": ("sparseloco", {"codec_options": {"k": 64, "value_bits": 1}}),
    "int8-cut": ("prime", {}),
}
CUTTING = ("int8-cut",)
"""Cases of version 2 of the checks; the others are as they were before it."""
GOLDEN: Mapping[str, str] = {
    "fp32": "cd6778ca7d22540317fedb29bad4212f898230d7731631faaf286fc8d84c9ca3",
    "int8": "c3502e2dfe129563739fd47a4f7383ed9a9580b87c3a177dc50f15324a13b3b6",
    "topk": "4ebf0069c536f1e73f2e8b7dd13c0cc747fc8aa8410c7a2c4770137ef6934e2f",
    "topk-dense": "0752f086bed6f059c70ed5f455b7d315fe23319d8609f031fad4bcbb4db03850",
    "public": "78ab5ccb7c95a04ccbc2cbeeb6f576e587d84cabc281705bdf6eaa02f83a7ed6",
    "streaming": "b632e16003356c4169a69d257d102c2709466ecad6ba4d97cfaea955d120f263",
    "demo": "8cb8bd2c3246132eee9a1cdcab1f40fe52675b6005385a1256bbe1a6176d805e",
    "distro": "8b7f6fa724a5984f9a7461d1a41f5f73d9d1c133004040d713e3e7787d9c72a3",
    "async": "bbdf62f093a46412c66e28ae42f634f376f084cf6a64cd60bbd994340658c814",
    "sparta": "f485693aec52392730fea528647fddf52edbe0fcf23120097db0d0e25b758ee4",
    "bf16": "c8f1467db40763d50aa324911f8184fa265c8c40240330370ca91e95c0e5b61b",
    "int4": "f918704963578a3c6bd7d5943b756072188dfe932e44aafb1ae09c7315c72857",
    "topk-signs": "a3c7809087af522b6010e0b2420f5ffd36ddc29bb98cf959119e3304cf52ba66",
    "int8-cut": "1fbd0a377ed554a3ee1664c89bbb999dfbb508bc79304eab5ea31bf440d118cd",
}


def integers(seed: int, count: int) -> Tensor:
    """Well-mixed whole numbers in 0..2^31-1 (int64, CPU), the same for ever: no generator of a library is
    involved.
    """
    mixed = (torch.arange(count) + seed * 1_000_003) & 0x7FFFFFFF
    for factor in (0x2C1B3C6D, 0x297A2D39, 0x1B56C4E9):
        mixed = ((mixed ^ (mixed >> 15)) * factor) & 0x7FFFFFFF
    return mixed


def values(seed: int, count: int) -> Tensor:
    """fp32 below 1/2 of both signs over several magnitudes, with ties and with some zeros, also -0.0."""
    mixed = integers(seed, count)
    fraction = ((mixed & 0xFFFF) - 0x8000).to(torch.float32)
    power = (127 - 16 - ((mixed >> 16) & 7) << 23).to(torch.int32).view(torch.float32)
    return fraction * power * ((mixed >> 20) % 61 != 0).to(torch.float32)


def golden_hash(case: str, device: torch.device) -> str:
    """SHA-256 over all that a case produces on a device: payloads, error feedback, decoded tensors, states of
    two rounds.
    """
    preset, changes = CASES[case]
    checks = CHECKS if case in CUTTING else 1
    algorithm = Algorithm(resolve_preset(preset, changes, checks), LAYOUT, device)
    digest = hashlib.sha256()
    for part in _produced(algorithm):
        digest.update(part)
    return digest.hexdigest()


def device_agrees(device: torch.device | str) -> bool:
    """Whether every golden vector comes out right on this device; a device that cannot compute one does not
    agree.
    """
    try:
        return all(golden_hash(case, torch.device(device)) == GOLDEN[case] for case in CASES)
    except (RuntimeError, NotImplementedError):
        return False


def consensus_device(preferred: torch.device | str) -> torch.device:
    """The preferred device if it agrees, else the CPU. The caller tells the user when it is not the one
    preferred.
    """
    device = torch.device(preferred)
    return device if device.type == "cpu" or device_agrees(device) else torch.device("cpu")


def _produced(algorithm: Algorithm) -> Iterator[bytes]:
    state = algorithm.initial_state(_tensors(0))
    feedback: list[tuple[Tensor, ...] | None] = [None] * MEMBERS
    for number in (1, 2):
        entries = []
        for member in range(MEMBERS):
            encoded = _encoded(algorithm, number, member, feedback[member])
            feedback[member] = encoded.feedback(accepted=member != 1)
            yield encoded.payload
            yield from _bytes(feedback[member] or algorithm.decode(encoded.payload, number))
            age = member % (algorithm.spec.staleness + 1)
            entries.append(Entry(bytes([member]) * 32, 1000 + 100 * (member % 3), encoded.payload, age))
        state = algorithm.step(state, entries, number).state
        yield algorithm.state_bytes(state)
        if algorithm.spec.start == "replica":
            yield from _bytes(algorithm.merge(_tensors(number), state, number))


def _encoded(algorithm: Algorithm, number: int, member: int, feedback: tuple[Tensor, ...] | None) -> Encoded:
    """The update of a member for the round of this number."""
    seed = 10 * (MEMBERS * number + member)
    moments = Moments(tuple(_tensors(seed + 1)), tuple(x * x for x in _tensors(seed + 2)))
    delta = algorithm.fragment_at(number).part(_tensors(seed + 3))
    return algorithm.encode(delta, moments, feedback, number)


def _bytes(tensors: Sequence[Tensor]) -> Iterator[bytes]:
    for tensor in tensors:
        yield tensor.cpu().numpy().tobytes()


def _tensors(seed: int) -> list[Tensor]:
    """One tensor per entry of LAYOUT; those of the factor are about the smallest of fp32, many subnormal."""
    flat = values(seed, LAYOUT.numel)
    cut = torch.split(flat, [spec.numel for spec in LAYOUT.tensors])
    whole = zip(cut, LAYOUT.tensors, strict=True)
    return [(part * TINY if spec.name == "1.factor" else part).reshape(spec.shape) for part, spec in whole]
