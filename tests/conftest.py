"""Hypothesis: few and always the same examples by default; HYPOTHESIS_PROFILE=nightly looks for new ones."""

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow]  # the machine is shared: slowness says nothing about a test

settings.register_profile(
    "default", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW
)
settings.register_profile("nightly", max_examples=5000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
