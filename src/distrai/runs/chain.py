"""The chain that a run is on: one of its own, or one that is there already."""

from dataclasses import dataclass
from pathlib import Path

from distrai.ledger.deployment import Deployment, check
from distrai.ledger.errors import WrongChain
from distrai.ledger.keys import NodeKey, create_key, load_key
from distrai.protocol.recipe import Contracts, Recipe
from distrai.runs.folder import RunFolder
from distrai.runs.wallet import Wallet


class CannotUseChain(ValueError):
    """What was said about a chain does not go together; the message says what to do."""


@dataclass(frozen=True)
class Chain:
    """A chain that is there: the URL of a node, the contracts on it, and the wallet of who opens runs.

    ``deployment`` None: the one that the run's folder remembers. ``wallet`` None: the key in the run's folder.
    """

    rpc: str
    deployment: Deployment | None = None
    wallet: Wallet | None = None


def choose_chain(rpc: str, deployment: Path | None, wallet: Wallet | None, folder: RunFolder) -> Chain | None:
    """The chain that was asked for; None for one of the run's own, or for what a run in ``folder`` remembers.

    Raises CannotUseChain or what reading the deployment raises.
    """
    known = folder.read() if folder.exists() else None
    if known is not None and not known.external and (rpc or wallet is not None):
        raise CannotUseChain(
            f"the run in {folder.path} is on a chain of its own: resume it without --rpc and --wallet"
        )
    if not rpc:
        if known is not None and deployment is None:
            return None if wallet is None else Chain(folder.link().rpc, None, wallet)
        if deployment is not None or wallet is not None:
            raise CannotUseChain(
                "--deployment and --wallet are for a chain that is there: name its node with --rpc URL"
            )
        return None
    if not rpc.startswith(("http://", "https://")):
        raise CannotUseChain(f"--rpc {rpc[:80]!r} is no URL of a node: it begins with http:// or https://")
    if known is not None:
        return Chain(rpc, None, wallet)
    if deployment is None:
        raise CannotUseChain(
            "--rpc needs --deployment FILE, which says where the contracts are: `distrai ledger deploy` writes it"
        )
    return Chain(rpc, Deployment.read(deployment), wallet)


async def check_chain(chain: Chain) -> Deployment:
    """The contracts of a chain, if all is well with them. Raises WrongChain or LedgerUnreachable."""
    deployment = chain.deployment
    assert deployment is not None, "whoever opens a run has a deployment"
    if wrong := await check(chain.rpc, deployment):
        raise WrongChain(f"the contracts at {chain.rpc} are not those of the deployment: {'; '.join(wrong)}")
    return deployment


def contracts_of(recipe: Recipe, deployment: Deployment) -> Contracts | None:
    """The contracts that a run of this recipe uses beside its registry; None if it uses no money."""
    if recipe.rewards is None:
        return None
    return Contracts(
        token=deployment.token,
        stakes=deployment.stakes,
        rewards=deployment.rewards,
        records=deployment.records,
        decimals=deployment.decimals,
    )


def open_owner(folder: RunFolder, wallet: Wallet | None = None) -> NodeKey:
    """The key of who opens the run: of the wallet that is given or that the run remembers, else the folder's own.

    Raises a KeyFileError or WalletError.
    """
    if wallet is None and folder.exists() and (remembered := folder.read().wallet):
        wallet = Wallet(Path(remembered))
    if wallet is not None:
        return wallet.open()
    path = folder.owner_key
    return load_key(path) if path.exists() else create_key(path)
