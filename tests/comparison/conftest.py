"""A comparison so small that a run takes a fraction of a second."""

import copy

import pytest
import torch

from distrai.comparison.plan import parse_comparison

CONTEXT, PEERS = 16, 4
TOKENS = PEERS * 2 * CONTEXT  # of one step of everybody
MODEL = {
    "source": "config",
    "license": "MIT",
    "config": {
        "model_type": "granite",
        "vocab_size": 256,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
    },
}
FILE = {
    "name": "tiny",
    "tokens": 12 * TOKENS,
    "peers": PEERS,
    "seeds": [1, 2],
    "model": MODEL,
    "data": {"source": "files", "globs": ["*.txt"], "context": CONTEXT, "license": "MIT"},
    "training": {"batch": 2, "lr": 6e-3, "precision": "fp32"},
    "sweep": {"inner": [3e-3, 6e-3], "outer": [1.0], "extend": 0},
    "evaluation": {"curve_points": 2, "curve_samples": 8, "tuning_samples": 16, "held_out_samples": 16},
    "links": [{"name": "home", "up_mbit": 20, "down_mbit": 100, "latency_ms": 30, "step_s": 0.1}],
    "arms": [
        {"name": "ddp", "preset": "ddp"},
        {"name": "diloco", "preset": "diloco", "algorithm": {"inner_steps": 4}},
        {"name": "sparse", "preset": "sparseloco", "algorithm": {"inner_steps": 3}},
    ],
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder of texts to train on."""
    folder = tmp_path_factory.mktemp("texts")
    for at in range(40):
        words = [f"def name_{at}_{line}(a, b):\n    return a * {line} + b - {at}\n" for line in range(20)]
        (folder / f"{at}.txt").write_text("\n".join(words))
    return folder


@pytest.fixture
def plan(texts):
    """Makes a comparison: the keys given replace those of FILE."""

    def make(**changes):
        return parse_comparison(copy.deepcopy(FILE) | changes, {}, texts)

    return make


@pytest.fixture
def arm(plan):
    """Makes an arm: a preset and what differs from it."""

    def make(preset, algorithm=None, **keys):
        one = {"name": "it", "preset": preset, "algorithm": algorithm or {}, **keys}
        return plan(arms=[one]).arms[0]

    return make
