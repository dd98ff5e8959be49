"""One deployed registry for all tests, on each of two chains; every test gets it as it was just after deployment.

Every test is run on py-evm, of which the embedded chain is made, and on anvil, which `make` installs.
DISTRAI_CHAIN=embedded (or anvil) runs them on that one only.
"""

import os
from collections.abc import Iterator
from functools import cache

import pytest

from contracts.support.anvil import Anvil
from contracts.support.evm import Contract, Evm
from contracts.support.money import Contracts, Economy, deploy_all
from contracts.support.players import World
from distrai.ledger.abi import load_artifact

CHAINS = os.environ.get("DISTRAI_CHAIN", "embedded,anvil").split(",")
DEPLOYER = b"\xdd" * 20


@pytest.fixture(scope="session")
def chains() -> Iterator[dict[str, Evm | Anvil]]:
    """The chains that were needed so far: starting one for each file of tests would take most of the time."""
    started: dict[str, Evm | Anvil] = {}
    yield started
    for chain in started.values():
        if isinstance(chain, Anvil):
            chain.close()


@pytest.fixture(scope="session", params=CHAINS)
def chain(request: pytest.FixtureRequest, chains: dict[str, Evm | Anvil]) -> Evm | Anvil:
    name = request.param
    if name not in chains:
        chains[name] = {"embedded": Evm, "anvil": Anvil}[name]()
    return chains[name]


@cache
def _registry_on(chain: Evm) -> Contract:
    artifact = load_artifact("RunRegistry")
    return Contract(chain, artifact.abi, artifact.bytecode, DEPLOYER)


@cache
def _everything_on(chain: Evm) -> Contracts:
    artifact = load_artifact("RunRegistry")
    return deploy_all(chain, Contract(chain, artifact.abi, artifact.bytecode, DEPLOYER))


@pytest.fixture(scope="session")
def deployed(chain: Evm) -> tuple[Evm, Contract]:
    return chain, _registry_on(chain)


@pytest.fixture
def world(deployed: tuple[Evm, Contract]) -> Iterator[World]:
    evm, registry = deployed
    point = evm.snapshot()
    yield World(evm, registry)
    evm.revert(point)


@pytest.fixture(scope="session")
def deployed_all(deployed: tuple[Evm, Contract]) -> Contracts:
    evm, _ = deployed
    return _everything_on(evm)


@pytest.fixture
def economy(deployed_all: Contracts) -> Iterator[Economy]:
    evm = deployed_all.evm
    point = evm.snapshot()
    yield Economy(deployed_all, World(evm, deployed_all.registry))
    evm.revert(point)
