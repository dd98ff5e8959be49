"""Hypothesis: few and always the same examples by default; HYPOTHESIS_PROFILE=nightly looks for new ones.

And one nursery for all tests with local runs: a second would import everything again.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from helpers.nursery import Nursery

SLOW = [HealthCheck.too_slow]  # the machine is shared: slowness says nothing about a test

settings.register_profile(
    "default", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW
)
settings.register_profile("nightly", max_examples=5000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def nursery() -> "Iterator[Nursery]":
    from helpers.nursery import Nursery

    made = Nursery()
    yield made
    made.close()
