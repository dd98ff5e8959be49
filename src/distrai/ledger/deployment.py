"""Deploying the contracts of a chain, and the file that says where they are: ``deployments/<chain id>.json``.

The file is written before each transaction, with the address that it will make, and again after it: whoever was
interrupted goes on with the same command, and nothing that the file names is deployed twice.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rlp  # type: ignore[import-untyped]

from distrai.ledger.abi import all_errors, load_artifact
from distrai.ledger.code import has_code_of
from distrai.ledger.deployment_check import check
from distrai.ledger.deployment_file import BadDeploymentFile, Deployment, DeploymentDiffers, Planned, Progress
from distrai.ledger.errors import LedgerRefused, NotMined
from distrai.ledger.keys import NodeKey
from distrai.ledger.rpc import Patience, Rpc, read_bytes, read_quantity
from distrai.ledger.sender import Sender
from distrai.ledger.settings import (
    LOCAL,
    NOBODY,
    PRODUCTION,
    BadSettings,
    DeploymentSettings,
    NewToken,
    Windows,
)
from distrai.ledger.token import TokenClient
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address

__all__ = [
    "LOCAL",
    "PRODUCTION",
    "BadDeploymentFile",
    "BadSettings",
    "Deployment",
    "DeploymentDiffers",
    "DeploymentSettings",
    "NewToken",
    "Windows",
    "WrongDeployment",
    "check",
    "deploy",
]

_LOOK_S = 0.2


class WrongDeployment(ValueError):
    """What was deployed is not what the settings say; ``findings`` name everything that differs."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


async def deploy(
    url: str,
    chain_id: int,
    key: NodeKey,
    settings: DeploymentSettings,
    patience: Patience | None = None,
    path: Path | None = None,
    second_url: str | None = None,
) -> Deployment:
    """Put registry, token, distributor, stake manager and records on a chain, and check all of it.

    With ``path`` it goes on where an interrupted deployment stopped, and gives back what a finished one made. Raises
    BadSettings, BadDeploymentFile (of another chain or with other settings), WrongDeployment or a LedgerError.
    """
    settings.check()
    progress = Progress.begin(path, chain_id, key.address, settings)
    if progress.deployment is not None:
        return progress.deployment
    patience = patience or Patience()
    rpc = Rpc([url] if second_url is None else [url, second_url], patience)
    rpc.chain_id = chain_id
    try:
        deployment = await _Deployer(rpc, key, patience, progress, settings).all()
    finally:
        await rpc.close()
    if findings := await check(url, deployment, patience, second_url):
        raise WrongDeployment(findings)
    progress.finish(deployment)
    return deployment


@dataclass
class _Deployer:
    """One contract after the other, each with the addresses of those before."""

    rpc: Rpc
    key: NodeKey
    patience: Patience
    progress: Progress
    settings: DeploymentSettings
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        self.sender = Sender(self.rpc, all_errors(), self.patience.call_s, self.patience.spend_wei)

    async def all(self) -> Deployment:
        """All contracts. Raises BadSettings for a guardian or a token that cannot be used."""
        await self._check_guardian()
        if self.progress.block is None:
            self.progress.set_block(read_quantity(await self.rpc.call("eth_blockNumber")))
        token, decimals = await self._token()
        registry = await self._place("RunRegistry")
        windows, guardian = self.settings.windows, self.settings.guardian
        pays = (windows.audit_seconds, windows.dispute_seconds, windows.activation_seconds)
        waits = (windows.settle_seconds, windows.dead_seconds)
        rewards = await self._place("RewardsDistributor", (registry, token, guardian, *pays, *waits))
        roles = (registry, token, rewards, self.settings.treasury, guardian)
        lasts = (windows.unbond_seconds, windows.slash_seconds, windows.dead_seconds)
        stakes = await self._place("StakeManager", (*roles, *lasts))
        records = await self._place("TrainingRecords", registry)
        block = self.progress.block or 0
        return Deployment(
            self.progress.chain_id, registry, token, stakes, rewards, records, decimals, block, self.settings
        )

    async def _check_guardian(self) -> None:
        guardian = self.settings.guardian
        if guardian == NOBODY or self.settings.guardian_may_be_key:
            return
        if not await self._code(guardian):
            raise BadSettings(
                f"the guardian 0x{guardian.hex()} is no contract on this chain: name a multisig, or nobody"
            )

    async def _token(self) -> tuple[Address, int]:
        """The token's address and decimals."""
        token = self.settings.token
        address = (
            await self._place("Token", token.name, token.symbol, self.key.address, token.supply)
            if isinstance(token, NewToken)
            else token
        )
        client = TokenClient(self.rpc, self.sender, address, self.progress.chain_id, None)
        if not await self._code(address):
            raise BadSettings(f"there is no token at 0x{address.hex()} on this chain: check the address")
        try:
            return address, await client.decimals()
        except LedgerRefused:
            raise BadSettings(f"0x{address.hex()} is no ERC-20 with decimals: name another token") from None

    async def _place(self, name: str, *arguments: object) -> Address:
        """The address of a contract, deployed now unless the file names one that is there."""
        planned = self.progress.planned(name)
        if planned is not None and await self._is_there(name, planned):
            return planned.address
        nonce = read_quantity(
            await self.rpc.call("eth_getTransactionCount", _hex(self.key.address), "pending")
        )
        self.progress.plan(name, Planned(_address(self.key.address, nonce), nonce))
        creation = load_artifact(name).creation(*arguments)
        receipt = await self.sender.send(self.key, None, creation, once=True)
        assert receipt.contract is not None, "a transaction without a receiver makes a contract"
        self.progress.plan(name, Planned(receipt.contract, nonce))
        return receipt.contract

    async def _is_there(self, name: str, planned: Planned) -> bool:
        """Whether a planned contract was made; a transaction that is on its way is waited for."""
        end = time.monotonic() + self.patience.call_s
        while not (code := await self._code(planned.address)):
            latest, pending = [
                read_quantity(await self.rpc.call("eth_getTransactionCount", _hex(self.key.address), until))
                for until in ("latest", "pending")
            ]
            if latest > planned.nonce or pending <= planned.nonce:
                return bool(code := await self._code(planned.address)) and has_code_of(name, code)
            if time.monotonic() >= end:
                raise NotMined(f"the deployment of {name} is not mined yet: wait, and do this again")
            await asyncio.sleep(_LOOK_S)
        return has_code_of(name, code)

    async def _code(self, address: Address) -> bytes:
        return read_bytes(await self.rpc.call("eth_getCode", _hex(address), "latest"))


def _address(creator: Address, nonce: int) -> Address:
    """Where a contract that ``creator`` makes with this nonce will be."""
    return Address(keccak(rlp.encode([creator, nonce]))[12:])


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
