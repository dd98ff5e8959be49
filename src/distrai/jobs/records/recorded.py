"""A finished model beside its training record: what the ledger was told, and whether this is that model."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from distrai.jobs.models.store import Saved
from distrai.jobs.records.ledgers import OwnLedger
from distrai.jobs.records.waiting import READING, said_while_waiting
from distrai.ledger.deployment import Deployment
from distrai.ledger.errors import LedgerRefused
from distrai.ledger.training_records import Record, RecordsClient, Stage

OWN_WAIT_S = 5.0


class NoRecord(ValueError):
    """The ledger has no such record, or it is not closed."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a record says, and in what the model differs from it; nothing: it is the model of the record."""

    record: int
    sender: str
    manifest: str
    script_hash: str
    differences: tuple[str, ...]


def compare_with_record(saved: Saved, rpc: str, deployment: Path, number: int) -> Compared:
    """Compare a model with a closed training record. Raises NoRecord, BadDeploymentFile or a LedgerError."""
    return compare(saved, asyncio.run(_read(rpc, Deployment.read(deployment), number)))


def own_ledger_of(saved: Saved) -> OwnLedger | None:
    """This user's own ledger, if it is the chain that a model says its record is on."""
    own = OwnLedger(wait_s=OWN_WAIT_S)
    try:
        made = Deployment.read(own.deployment)
    except (OSError, ValueError):
        return None
    return own if made.chain_id == saved.manifest.origin.chain_id else None


def compare_with_own(saved: Saved, ledger: OwnLedger, number: int) -> Compared:
    """Compare a model with a closed record of this user's own ledger. Raises NoRecord, InUse or a LedgerError."""

    async def read() -> Record:
        async with ledger.connected() as at:
            return await _read(at.url, at.deployment, number)

    return compare(saved, asyncio.run(read()))


def compare(saved: Saved, record: Record) -> Compared:
    """Compare a model with a record. Raises NoRecord if it is not closed."""
    if record.stage is not Stage.CLOSED:
        raise NoRecord(
            f"training record {record.number} is not closed yet ({record.stage.name.lower()}): it names no model"
        )
    origin, manifest, source = (
        saved.manifest.origin,
        record.result.manifest.hex(),
        record.request.source.hex(),
    )
    sender = "0x" + record.sender.hex()
    differences = []
    if saved.manifest.inner_hash != manifest:
        differences.append(
            f"the record's manifest is {manifest}, and the model's is {saved.manifest.inner_hash}"
        )
    if origin.address and origin.address.lower() != sender:
        differences.append(f"the record is by {sender}, and the model says {origin.address}")
    if origin.script_hash and origin.script_hash.removeprefix("0x") != source:
        differences.append(f"the record's script is {source}, and the model says {origin.script_hash}")
    return Compared(record.number, sender, manifest, source, tuple(differences))


async def _read(rpc: str, deployment: Deployment, number: int) -> Record:
    with said_while_waiting("the node of the ledger"):
        client = await RecordsClient.connect(rpc, deployment.records, deployment.chain_id, patience=READING)
    try:
        return await client.get(number)
    except LedgerRefused as error:
        raise NoRecord(f"the ledger has no training record {number}: {error}") from None
    finally:
        await client.close()
