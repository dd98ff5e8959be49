"""Tiny models and corpora: everything here takes milliseconds once transformers is imported."""

import numpy as np

from distrai.protocol.blobs import blob_ref
from distrai.protocol.recipe import DataSection, ModelSection
from distrai.training.data.documents import Document
from distrai.training.data.layouts import PADDING, UNSCORED

CONTEXT = 16

GRANITE = {
    "model_type": "granite",
    "vocab_size": 256,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 256,
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": CONTEXT,
}


class Store(dict):
    """A blob store in memory."""

    def write(self, data):
        blob = blob_ref(data)
        self[blob] = data
        return blob

    def read(self, blob):
        return self[blob]


def section(**changes):
    return DataSection(
        **({"source": "files", "globs": ("*",), "context": CONTEXT, "license": "MIT"} | changes)
    )


def model_section(config=None, **changes):
    return ModelSection(**({"source": "config", "config": config or GRANITE, "license": "MIT"} | changes))


def documents(train=4000, tuning=400, held_out=400):
    sizes = {"train": train, "tuning": tuning, "held_out": held_out}
    return [Document(split, split, _code(split, size)) for split, size in sizes.items()]


def _code(name, size):
    line = f"def {name}(a, b):\n    return a + b\n\n\nclass Thing:\n    pass\n"
    return (line * (size // len(line) + 1))[:size]


def row_of(asked, said, seed=0):
    """A row: so many entries that are only read, so many that are scored, and padding."""
    draw = np.random.default_rng(seed)
    row = np.full(CONTEXT + 1, PADDING, np.int64)
    row[:asked] = draw.integers(0, 256, asked) | UNSCORED
    row[asked : asked + said] = draw.integers(0, 256, said)[: CONTEXT + 1 - asked]
    return row


def pairs_of(asked, chosen, rejected, seed=0):
    """Two rows with one question."""
    one, other = row_of(asked, chosen, seed), row_of(asked, rejected, seed)
    other[asked : asked + rejected] ^= 1
    return np.concatenate([one, other])
