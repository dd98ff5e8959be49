"""A hub on loopback with a model to push: what the tests of pushing and pulling share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from distrai.jobs.hub.push import Pushed, push_model
from distrai.jobs.hub.token import HubToken
from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.saving import save_model
from distrai.jobs.models.store import ModelStore, Saved
from helpers.fake_hub import FakeHub, fake_hub

REPO = "alice/tiny"
NAME = "0x" + "ab" * 20 + "/tiny"
NOT_OURS = "ignore:Use 'content=<:DeprecationWarning"
"""A warning of the hub's client about itself."""


@contextmanager
def reached_hub(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[FakeHub]:
    """A hub that is the one of this process; nothing else gives a token, and none leaks."""
    with fake_hub() as running:
        patch.setenv("HF_ENDPOINT", running.url)
        for name in ("HF_TOKEN", "DISTRAI_RENTED"):
            patch.delenv(name, raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "none"))
        yield running
        assert running.leaked() == []


def save_tiny(store: ModelStore, folder: Path) -> Saved:
    """A model with real weights."""
    folder.mkdir()
    save_file({"w": np.arange(5000, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return save_model(
        store, folder, NAME, Origin(kind="sft"), {"README.md": b"---\nlicense: mit\n---\n# tiny\n"}
    )


def given(value: str) -> HubToken:
    return HubToken(value, "a test")


def push(
    store: ModelStore,
    saved: Saved,
    token: str,
    repo: str = REPO,
    *,
    public: bool = False,
    rented: bool = False,
) -> Pushed:
    return push_model(store, saved, repo, given(token), public=public, rented=rented)
