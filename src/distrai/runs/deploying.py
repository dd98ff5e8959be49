"""``distrai ledger deploy``: all contracts on a chain, checked, and written down where runs find them."""

import asyncio
from pathlib import Path
from typing import Any

from distrai.ledger.deployment import (
    PRODUCTION,
    Deployment,
    DeploymentSettings,
    NewToken,
    WrongDeployment,
    check,
    deploy,
)
from distrai.ledger.rpc import Patience, Rpc, read_quantity
from distrai.ledger.settings import BURN, NOBODY
from distrai.protocol.amounts import format_amount
from distrai.runs.telling import duration as short_duration
from distrai.runs.wallet import Wallet, show_address

_CONTRACTS = {
    "registry": "RunRegistry",
    "token": "Token",
    "stakes": "StakeManager",
    "rewards": "RewardsDistributor",
    "records": "TrainingRecords",
}


def deploy_contracts(url: str, settings_path: Path | None, out: Path, wallet: Wallet) -> dict[str, Any]:
    """Deploy, or go on where that was interrupted; what was made and what was checked, as plain data.

    Raises BadSettings, DeploymentDiffers, a KeyFileError or a LedgerError.
    """
    settings = PRODUCTION if settings_path is None else DeploymentSettings.from_toml(settings_path)
    settings.check()

    async def run() -> dict[str, Any]:
        chain_id = await chain_id_of(url)
        path = out / f"{chain_id}.json"
        key = wallet.open()
        told = {"chain_id": chain_id, "rpc": url, "deployer": show_address(key.address), "file": str(path)}
        try:
            made = await deploy(url, chain_id, key, settings, path=path)
            findings = await check(url, made)  # also of what was there
        except WrongDeployment as error:
            findings = list(error.findings)
        if findings:
            return {"ok": False, **told, "findings": findings, "contracts": {}, "checks": []}
        contracts = {role: show_address(getattr(made, role)) for role in _CONTRACTS}
        return {"ok": True, **told, "findings": [], "contracts": contracts, "checks": _checks(made, settings)}

    return asyncio.run(run())


async def chain_id_of(url: str) -> int:
    """Which chain a node serves. Raises LedgerUnreachable or BadAnswer."""
    rpc = Rpc([url], Patience(call_s=5.0))
    try:
        return read_quantity(await rpc.call("eth_chainId"))
    finally:
        await rpc.close()


def deployment_text(told: dict[str, Any]) -> str:
    """The same for people."""
    if not told["ok"]:
        lines = [f"  WRONG  {finding}" for finding in told["findings"]]
        return "\n".join([f"What is on chain {told['chain_id']} is not what the settings say:", *lines])
    lines = [f"  {_CONTRACTS[role]:<19}{address}" for role, address in told["contracts"].items()]
    checks = [f"  ok  {check}" for check in told["checks"]]
    where = told["file"]
    return "\n".join(
        [
            f"Deployed on chain {told['chain_id']} by {told['deployer']}:",
            *lines,
            "Checked there:",
            *checks,
            f"The addresses are in {where}.",
            f"Next: `distrai run RECIPE --rpc {told['rpc']} --deployment {where} --wallet FILE`",
        ]
    )


def _checks(made: Deployment, settings: DeploymentSettings) -> list[str]:
    """What ``check`` has compared with the chain."""
    windows = settings.windows
    guardian, treasury, token = settings.guardian, settings.treasury, settings.token
    burnt = "burnt: nobody has the key" if treasury == BURN else "treasury"
    who = "nobody: no epoch can be killed" if guardian == NOBODY else show_address(guardian)
    new = isinstance(token, NewToken)
    minted = (
        f"{format_amount(token.supply, made.decimals)} {token.symbol}, "
        if isinstance(token, NewToken)
        else ""
    )
    return [
        "the code of every contract is the one of this program, made with the values of these settings",
        "distributor, stakes and records use this registry; distributor and stakes use this token",
        f"token: {minted}{made.decimals} decimals{'' if new else ', an ERC-20 that was there'}",
        f"guardian of distributor and stakes: {who}; offered to nobody; nothing is paused",
        f"slashed tokens go to {show_address(treasury)} ({burnt})",
        f"an epoch can be claimed {duration(windows.activation_seconds)} after it landed",
        f"of these, audits have {duration(windows.audit_seconds)} and disputes {duration(windows.dispute_seconds)}",
        f"a closed pot is settled within {duration(windows.settle_seconds)}",
        f"faults can be reported for {duration(windows.slash_seconds)}",
        f"a stake comes back {duration(windows.unbond_seconds)} after it was asked for",
        f"a run is dead after {duration(windows.dead_seconds)} without a head",
    ]


def duration(seconds: int) -> str:
    """Windows are whole days on most chains."""
    return f"{seconds // 86_400} days" if seconds and seconds % 86_400 == 0 else short_duration(seconds)
