"""Where the contracts of a chain are: the file of a deployment, finished or not. Written whole or not at all."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distrai.ledger.settings import BadSettings, DeploymentSettings, parse_address
from distrai.protocol.primitives import Address
from distrai.protocol.recipe import Contracts

_VERSION = 1
_ROLES = {
    "registry": "RunRegistry",
    "token": "Token",
    "stakes": "StakeManager",
    "rewards": "RewardsDistributor",
    "records": "TrainingRecords",
}


class BadDeploymentFile(ValueError):
    """A file that names no deployment; the message says what to do."""


class DeploymentDiffers(BadDeploymentFile):
    """The file is of another chain, of another account or with other settings."""


@dataclass(frozen=True)
class Deployment:
    """The contracts of a chain. ``block``: the newest block before the first of them, where reading events begins.

    ``settings`` None: how they were set up is not known, and roles and windows cannot be checked.
    """

    chain_id: int
    registry: Address
    token: Address
    stakes: Address
    rewards: Address
    records: Address
    decimals: int
    block: int
    settings: DeploymentSettings | None = None

    @classmethod
    def named_by(cls, contracts: Contracts, chain_id: int, registry: Address, block: int = 0) -> Self:
        """The contracts that a resolved recipe names; ``block`` zero reads events from the first block on."""
        of = contracts
        return cls(chain_id, registry, of.token, of.stakes, of.rewards, of.records, of.decimals, block)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a finished deployment. Raises BadDeploymentFile, or FileNotFoundError."""
        content = _read(path)
        if "unfinished" in content:
            raise BadDeploymentFile(
                f"{path} is of a deployment that was interrupted: give the same deploy command again"
            )
        try:
            addresses = {role: parse_address(content["contracts"][role]) for role in _ROLES}
            settings = content.get("settings")
            return cls(
                int(content["chain_id"]),
                **addresses,
                decimals=int(content["decimals"]),
                block=int(content["block"]),
                settings=None if settings is None else DeploymentSettings.from_table(settings),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadDeploymentFile(
                f"{path} names no deployment ({error}): take it from where it was made"
            ) from None

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; folders above it are made."""
        contracts = {role: _hex(getattr(self, role)) for role in _ROLES}
        content: dict[str, Any] = {"version": _VERSION, "chain_id": self.chain_id, "block": self.block}
        content |= {"decimals": self.decimals, "contracts": contracts}
        _write(path, content | ({} if self.settings is None else {"settings": self.settings.to_table()}))


@dataclass(frozen=True)
class Planned:
    """Where a contract is, or will be once the transaction with this nonce is mined."""

    address: Address
    nonce: int


class Progress:
    """A deployment under way; ``deployment`` is set if it was finished before. Without a path nothing is kept."""

    def __init__(
        self, path: Path | None, chain_id: int, deployer: Address, settings: DeploymentSettings
    ) -> None:
        self._path, self.chain_id, self._deployer, self._settings = path, chain_id, deployer, settings
        self._planned: dict[str, Planned] = {}
        self.block: int | None = None
        self.deployment: Deployment | None = None

    @classmethod
    def begin(
        cls, path: Path | None, chain_id: int, deployer: Address, settings: DeploymentSettings
    ) -> "Progress":
        """Go on with what the file says. Raises DeploymentDiffers or BadDeploymentFile."""
        progress = cls(path, chain_id, deployer, settings)
        if path is None or not path.exists():
            return progress
        content = _read(path)
        same = (content.get("chain_id"), content.get("settings")) == (chain_id, settings.to_table())
        if not same:
            raise DeploymentDiffers(f"{path} is of another chain or with other settings: choose another file")
        if "unfinished" not in content:
            progress.deployment = Deployment.read(path)
            return progress
        try:
            if parse_address(content["unfinished"]["deployer"]) != deployer:
                raise DeploymentDiffers(f"{path} was begun with another wallet: go on with that one")
            progress._planned = _plans(content["unfinished"]["contracts"])
            progress.block = content["unfinished"]["block"]
        except (KeyError, TypeError, BadSettings) as error:
            raise BadDeploymentFile(f"{path} is damaged ({error}): remove it, and deploy anew") from None
        return progress

    def planned(self, contract: str) -> Planned | None:
        """Where a contract is planned to be."""
        return self._planned.get(contract)

    def plan(self, contract: str, place: Planned) -> None:
        """Keep where a contract will be."""
        self._planned[contract] = place
        self._save()

    def set_block(self, block: int) -> None:
        """Keep where reading events will begin."""
        self.block = block
        self._save()

    def finish(self, deployment: Deployment) -> None:
        """All is there and checked."""
        self.deployment = deployment
        if self._path is not None:
            deployment.write(self._path)

    def _save(self) -> None:
        if self._path is None:
            return
        contracts = {
            name: {"address": _hex(at.address), "nonce": at.nonce} for name, at in self._planned.items()
        }
        unfinished = {"deployer": _hex(self._deployer), "block": self.block, "contracts": contracts}
        content = {"version": _VERSION, "chain_id": self.chain_id, "settings": self._settings.to_table()}
        _write(self._path, content | {"unfinished": unfinished})


def _plans(contracts: Mapping[str, Any]) -> dict[str, Planned]:
    return {name: Planned(parse_address(at["address"]), at["nonce"]) for name, at in contracts.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise BadDeploymentFile(f"{path} is no deployment of this program: choose another file")
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
