"""Opening a run on a ledger, once: whoever was interrupted on the way goes on with what the ledger has."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.ledger.client import LedgerClient
from distrai.ledger.coins import CoinClient
from distrai.ledger.deployment import LOCAL, Deployment, deploy
from distrai.ledger.interface import Limits, Opening
from distrai.ledger.keys import NodeKey
from distrai.ledger.settings import NEW_TOKEN_DECIMALS, NewToken
from distrai.ledger.token import TokenClient
from distrai.network.store import BlobStore
from distrai.peer.link import Link
from distrai.protocol.amounts import format_amount
from distrai.protocol.primitives import Address
from distrai.protocol.recipe import Recipe, RecipeError, ResolvedRecipe, Rewards
from distrai.runs.chain import Chain, check_chain, contracts_of
from distrai.runs.folder import RunFolder, RunInfo, make_home, write_json
from distrai.runs.gas_supply import check_opener
from distrai.runs.paying import check_tokens
from distrai.runs.resolving import advice, resolve

Report = Callable[[dict[str, Any]], None]
"""Takes what happens, one event at a time; ``event`` says what it is."""
NOT_FINAL = (
    "rewards.finality_blocks is 0: on a chain that may take blocks back, what was earned is then settled and paid by "
    "blocks that may go. Set it to what the chain needs (12 on most)"
)


@dataclass(frozen=True)
class Opener:
    """Who opens a run: the folder, the node that it talks to, its key. ``chain`` None: the folder's own."""

    folder: RunFolder
    url: str
    chain_id: int
    owner: NodeKey
    report: Report
    chain: Chain | None = None
    deployment: Deployment | None = None
    """The contracts on ``chain``."""

    @classmethod
    async def on(cls, chain: Chain, folder: RunFolder, owner: NodeKey, report: Report) -> "Opener":
        """The opener of a run on a chain that is there. Raises WrongChain or LedgerUnreachable."""
        deployment = await check_chain(chain)
        return cls(folder, chain.rpc, deployment.chain_id, owner, report, chain, deployment)

    async def open(self, recipe: Recipe, base: Path) -> RunInfo:
        """Open a run of ``recipe``, whose paths start from ``base``.

        Raises RecipeError, a LedgerError or, on a chain that was there, NotEnoughGas or NotEnough.
        """
        if self.chain is not None:
            await self._check_gas(recipe.membership.peers)
            await self._check_tokens(recipe)
            if recipe.rewards is not None and not recipe.rewards.finality_blocks:
                self.report({"event": "advice", "why": NOT_FINAL})
        elif recipe.rewards is not None:
            _check_supply(recipe, recipe.rewards)
        for text in advice(recipe):
            self.report({"event": "advice", "why": text})
        self.report(
            {"event": "preparing", "what": "reading and cutting up the data, drawing the first parameters"}
        )
        registry, deployment = await self._contracts(recipe)
        contracts = None if deployment is None else contracts_of(recipe, deployment)
        make_home(self.folder.archive)
        blobs = BlobStore(self.folder.archive / "blobs")
        said: list[str] = []
        resolved = await asyncio.to_thread(resolve, recipe, base, blobs, contracts, said.append)
        for text in said:
            self.report({"event": "data", "what": text})
        client = await LedgerClient.connect(self.url, registry, self.chain_id, self.owner)
        try:
            run = await self._open_once(client, resolved)
            genesis = (await client.run_state(run)).head
        finally:
            await client.close()
        wallet = self.chain.wallet if self.chain is not None else None
        info = RunInfo(
            link=str(Link(self.url, self.chain_id, registry, run, genesis)),
            preset=recipe.algorithm.preset,
            peers=recipe.membership.peers,
            rounds=recipe.rounds.count,
            recipe_hash="0x" + resolved.blob.hash.hex(),
            name=recipe.name,
            external=self.chain is not None,
            wallet="" if wallet is None else str(wallet.path.absolute()),
        )
        self.folder.write(info)
        self.folder.opening.unlink(missing_ok=True)
        self.report({"event": "opened", **told(info)})
        return info

    async def _check_gas(self, peers: int) -> None:
        """See that the opener can pay gas, and that nothing which it sent before is on its way any more."""
        coins = await CoinClient.connect(self.url, self.chain_id, self.owner)
        try:
            await check_opener(coins, self.owner.address, peers)
            await coins.settle()
        finally:
            await coins.close()

    async def _check_tokens(self, recipe: Recipe) -> None:
        """See that the opener has what the pot and the seats of its peers take, before it sends anything."""
        if recipe.rewards is None or self.deployment is None:
            return
        decimals = self.deployment.decimals
        needed = recipe.rewards.escrow(decimals, recipe.rounds.count)
        if recipe.stake is not None:
            needed += recipe.membership.peers * recipe.stake.units(decimals)[0]
        token = await TokenClient.connect(self.url, self.deployment.token, self.chain_id, self.owner)
        try:
            await check_tokens(token, self.owner.address, needed, decimals)
        finally:
            await token.close()

    async def _contracts(self, recipe: Recipe) -> tuple[Address, Deployment | None]:
        """The registry, and all contracts where the run uses more than that."""
        path = self.folder.deployment
        if self.deployment is not None:
            self.deployment.write(path)
            return self.deployment.registry, self.deployment
        if recipe.rewards is None:
            return await LedgerClient.deploy_registry(self.url, self.chain_id, self.owner), None
        self.report({"event": "preparing", "what": "putting the contracts on the ledger"})
        made = await deploy(
            self.url, self.chain_id, self.owner, LOCAL, path=path
        )  # goes on with what is there
        return made.registry, made

    async def _open_once(self, client: LedgerClient, resolved: ResolvedRecipe) -> int:
        """The run's number. What is to be opened is written down before, with how many runs there were."""
        hash_ = resolved.blob.hash
        plan = {"registry": "0x" + client.domain.registry.hex(), "recipe_hash": "0x" + hash_.hex()}
        path, first = self.folder.opening, await client.run_count() + 1
        if path.exists():
            begun = json.loads(path.read_bytes())
            if {key: begun[key] for key in plan} == plan:
                for number in range(int(begun["first"]), first):
                    state = await client.run_state(number)
                    if (state.owner, state.recipe_hash) == (self.owner.address, hash_):
                        return number
        write_json(path, plan | {"first": first})
        return await client.open_run(_opening(resolved), _limits(resolved.recipe))


def _check_supply(recipe: Recipe, rewards: Rewards) -> None:
    """Raise RecipeError if the token of a run's own chain has too few for the pot: before anything is opened."""
    token = LOCAL.token
    assert isinstance(token, NewToken)
    needed = rewards.escrow(NEW_TOKEN_DECIMALS, recipe.rounds.count)
    if needed > token.supply:
        raise RecipeError(
            "rewards.cap",
            f"its pot takes up to {format_amount(needed, NEW_TOKEN_DECIMALS)} tokens, and there are "
            f"{format_amount(token.supply, NEW_TOKEN_DECIMALS)}",
            "lower rewards.cap, rewards.max_members, rewards.funded_rounds or rounds.count",
        )


def told(info: RunInfo) -> dict[str, Any]:
    """What events say of a run."""
    return {
        "link": info.link,
        "preset": info.preset,
        "peers": info.peers,
        "rounds": info.rounds,
        "name": info.name,
    }


def _opening(resolved: ResolvedRecipe) -> Opening:
    return Opening(
        recipe_hash=resolved.blob.hash,
        state_root=resolved.initial_root,
        data_hash=resolved.corpus.hash,
        tokenizer_hash=resolved.tokenizer_hash,
    )


def _limits(recipe: Recipe) -> Limits:
    members = recipe.membership
    return Limits(
        min_seats=members.min_seats,
        max_seats=members.max_seats,
        stall_seconds=recipe.rounds.stall_seconds,
        roll_call_min=members.roll_call_min,
        open_admission=members.admission == "open",
    )
