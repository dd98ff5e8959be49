"""The training record of a job: opened before its script starts, a stage with a hash for each step, closed at the end.

When the script is done its model is saved under the sender's address, and the hash of the model's manifest closes the
record. Every step is taken once, whoever begins it again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from typing import Any

from distrai.jobs.claims import hardware, request_of
from distrai.jobs.keeping import keep_model
from distrai.jobs.ledgers import BadLedger, Connection, OtherLedger, OwnLedger
from distrai.jobs.store import JobFolder, JobState
from distrai.ledger.rpc import Patience
from distrai.ledger.training_records import RecordsClient, Request, Result, Stage
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import ZERO_HASH, Hash

Tell = Callable[[dict[str, Any]], None]
_LOOK_BACK = 50
_MARK = "record-opening"


class JobRecords(RecordsClient):
    """Training records, with the transaction that opened one."""

    async def open_once(self, request: Request) -> tuple[int, Hash]:
        """Open a record; its number, and the transaction."""
        receipt = await self._send("open", astuple(request), once=True)
        return int(self._said(receipt, "RecordOpened", "record")), receipt.transaction

    async def find(self, job_id: str) -> int:
        """The number of our newest record of a job; 0 if there is none among the newest ones."""
        count = await self.count()
        for number in range(count, max(0, count - _LOOK_BACK), -1):
            record = await self.get(number)
            if record.sender == self.sender_address and f'"job":"{job_id}"' in record.request.parameters:
                return number
        return 0


@dataclass(frozen=True)
class Recording:
    """Keeps the record of one job (see ``runner.Witness``)."""

    ledger: OwnLedger | OtherLedger
    theme: str = ""
    store: str = ""
    patience: Patience | None = None

    def opened(self, job: JobFolder, state: JobState, tell: Tell) -> dict[str, Any]:
        """Ask for the training on the ledger, unless that was done."""
        if state.record is not None:
            return state.record
        return asyncio.run(self._open(job, state, tell))

    def started(self, job: JobFolder, state: JobState, tell: Tell) -> None:
        """The hash of the values is the evidence."""
        asyncio.run(self._start(job, state, tell))

    def finished(self, job: JobFolder, state: JobState, tell: Tell) -> JobState:
        """Save the model, tell the stages, close the record."""
        if state.record is None or state.record.get("closed"):
            return state
        return asyncio.run(self._finish(job, state, state.record, tell))

    async def _open(self, job: JobFolder, state: JobState, tell: Tell) -> dict[str, Any]:
        mark = job.path / _MARK
        async with self._records() as (records, at):
            number, transaction = await records.find(state.job_id) if mark.exists() else 0, ZERO_HASH
            if not number:
                mark.touch()
                number, transaction = await records.open_once(request_of(job, state, self.theme))
        told = {
            "number": number,
            "chain_id": at.deployment.chain_id,
            "contract": _hex(at.deployment.records),
            "sender": _hex(at.key.address),
            "transaction": "" if transaction == ZERO_HASH else _hex(transaction),
            "ledger": self.ledger.where,
            "closed": False,
        }
        tell({"event": "record", "stage": "requested", "record": number, "chain_id": told["chain_id"]})
        return told

    async def _start(self, job: JobFolder, state: JobState, tell: Tell) -> None:
        assert state.record is not None, "it was opened"
        evidence = hashlib.sha256(job.params.read_bytes()).digest()
        async with self._records(state.record) as (records, _):
            await self._reach(records, int(state.record["number"]), Stage.STARTED, Hash(evidence), tell)

    async def _finish(self, job: JobFolder, state: JobState, told: dict[str, Any], tell: Tell) -> JobState:
        number, seconds = int(told["number"]), round(state.seconds)
        made = Hash(hashlib.sha256(canonical_json({"artifacts": state.artifacts})).digest())
        saved = keep_model(job, state, told, tell, self.store)
        manifest = ZERO_HASH if saved is None else Hash(bytes.fromhex(saved.manifest.hash))
        gpu_seconds = 0 if hardware().startswith("no GPU") else seconds
        async with self._records(told) as (records, _):
            await self._reach(records, number, Stage.TRAINED, made, tell)
            await self._reach(records, number, Stage.SAVED, made if saved is None else manifest, tell)
            await records.close_record(number, Result(manifest, ZERO_HASH, seconds, gpu_seconds, 1))
        tell({"event": "record", "stage": "closed", "record": number, "manifest": _hex(manifest)})
        closed = {**told, "closed": True, "manifest": _hex(manifest)}
        return state.with_(record=closed, saved="" if saved is None else saved.location)

    async def _reach(
        self, records: JobRecords, number: int, stage: Stage, evidence: Hash, tell: Tell
    ) -> None:
        if (await records.get(number)).stage < stage and await records.reach(number, stage, evidence):
            tell({"event": "record", "stage": stage.name.lower(), "record": number})

    @asynccontextmanager
    async def _records(
        self, told: dict[str, Any] | None = None
    ) -> AsyncIterator[tuple[JobRecords, Connection]]:
        async with self.ledger.connected() as at:
            made = at.deployment
            if told is not None and (told["chain_id"], told["contract"]) != (
                made.chain_id,
                _hex(made.records),
            ):
                raise BadLedger(
                    f"the record of this job is at {told['contract']} on chain {told['chain_id']}: name that chain "
                    "again with --rpc and --deployment"
                )
            records = await JobRecords.connect(
                at.url, made.records, made.chain_id, at.key, patience=self.patience
            )
            try:
                yield records, at
            finally:
                await records.close()


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
