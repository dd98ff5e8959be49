"""One deployed registry for all tests; every test gets it as it was just after deployment.

DISTRAI_CHAIN=anvil runs the same tests on anvil instead of py-evm: ``make anvil`` installs it and does so.
"""

import os
from collections.abc import Iterator

import pytest

from contracts.support.anvil import Anvil
from contracts.support.evm import Contract, Evm
from contracts.support.money import Contracts, Economy, deploy_all
from contracts.support.players import World
from distrai.ledger.abi import load_artifact


@pytest.fixture(scope="session")
def chain() -> Iterator[Evm | Anvil]:
    if os.environ.get("DISTRAI_CHAIN") != "anvil":
        yield Evm()
        return
    anvil = Anvil()
    yield anvil
    anvil.close()


@pytest.fixture(scope="session")
def deployed(chain: Evm) -> tuple[Evm, Contract]:
    artifact = load_artifact("RunRegistry")
    return chain, Contract(chain, artifact.abi, artifact.bytecode, b"\xdd" * 20)


@pytest.fixture
def world(deployed: tuple[Evm, Contract]) -> Iterator[World]:
    evm, registry = deployed
    point = evm.snapshot()
    yield World(evm, registry)
    evm.revert(point)


@pytest.fixture(scope="session")
def deployed_all(deployed: tuple[Evm, Contract]) -> Contracts:
    evm, _ = deployed
    registry = load_artifact("RunRegistry")
    return deploy_all(evm, Contract(evm, registry.abi, registry.bytecode, b"\xdd" * 20))


@pytest.fixture
def economy(deployed_all: Contracts) -> Iterator[Economy]:
    evm = deployed_all.evm
    point = evm.snapshot()
    yield Economy(deployed_all, World(evm, deployed_all.registry))
    evm.revert(point)
