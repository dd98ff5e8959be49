"""Handing the guardian's role of a deployment to somebody else, or to nobody. Every step can be repeated.

Two steps, since a mistyped address could never give the role back: the guardian offers, and the other accepts. The role
of both contracts goes together, and what ``check`` compares with is the settings of the deployment that comes back.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from distrai.ledger.contract import Guarded
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.keys import NodeKey
from distrai.ledger.pots import PotsClient
from distrai.ledger.rpc import Patience
from distrai.ledger.settings import NOBODY
from distrai.ledger.stakes import StakesClient
from distrai.protocol.primitives import Address


async def offer_guardian(
    url: str, deployment: Deployment, key: NodeKey, to: Address, patience: Patience | None = None
) -> None:
    """Offer the role to an account, as the guardian. Raises LedgerRefused (NotGuardian)."""
    async with _guarded(url, deployment, key, patience) as contracts:
        for contract in contracts:
            if await contract.guardian() != to and await contract.offered() != to:
                await contract.offer_guardian(to)


async def accept_guardian(
    url: str, deployment: Deployment, key: NodeKey, patience: Patience | None = None
) -> Deployment:
    """Take the role that was offered to the key; gives the deployment to write. Raises LedgerRefused (NotOffered)."""
    async with _guarded(url, deployment, key, patience) as contracts:
        for contract in contracts:
            if await contract.guardian() != key.address:
                await contract.accept_guardian()
    return _with_guardian(deployment, key.address)


async def renounce_guardian(
    url: str, deployment: Deployment, key: NodeKey, patience: Patience | None = None
) -> Deployment:
    """Give the role up for ever, as the guardian; gives the deployment to write. Raises LedgerRefused (NotGuardian)."""
    async with _guarded(url, deployment, key, patience) as contracts:
        for contract in contracts:
            if await contract.guardian() != NOBODY:
                await contract.renounce_guardian()
    return _with_guardian(deployment, NOBODY)


def _with_guardian(deployment: Deployment, guardian: Address) -> Deployment:
    if deployment.settings is None:
        return deployment
    return replace(deployment, settings=replace(deployment.settings, guardian=guardian))


@asynccontextmanager
async def _guarded(
    url: str, deployment: Deployment, key: NodeKey, patience: Patience | None
) -> AsyncIterator[tuple[Guarded, Guarded]]:
    of = deployment
    pots = await PotsClient.connect(url, of.rewards, of.chain_id, key, patience=patience)
    try:
        stakes = await StakesClient.connect(url, of.stakes, of.chain_id, key, patience=patience)
        try:
            yield pots, stakes
        finally:
            await stakes.close()
    finally:
        await pots.close()
