"""The nursery of the tests with real processes."""

from collections.abc import Iterator

import pytest

from helpers.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()
