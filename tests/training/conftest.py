"""Tiny models and corpora as fixtures."""

import pytest
import torch

from distrai.training.data.corpus import corpus_from_documents
from distrai.training.data.dataset import Dataset
from distrai.training.model import build_model
from distrai.training.spec import InnerSpec
from distrai.training.tokenizer import ByteTokenizer
from training.tiny import CONTEXT, Store, documents, model_section, section


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def corpus(store):
    return corpus_from_documents(documents(), section(shard_bytes=4096), ByteTokenizer(), store.write)


@pytest.fixture
def train(corpus, store):
    return Dataset(corpus.manifest, "train", CONTEXT, 256, store.read)


@pytest.fixture
def held_out(corpus, store):
    return Dataset(corpus.manifest, "held_out", CONTEXT, 256, store.read)


@pytest.fixture
def model():
    return build_model(model_section(), seed=1)


@pytest.fixture
def spec():
    return InnerSpec(
        rounds=4, inner_steps=4, batch=2, context=CONTEXT, lr=1e-2, precision="fp32", inner_state="kept"
    )
