"""The contract of training records as a job's ledger has it, for one step at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple
from typing import Any

from distrai.jobs.records.ledgers import BadLedger, Connection, OtherLedger, OwnLedger
from distrai.jobs.records.waiting import said_while_waiting
from distrai.ledger.rpc import Patience
from distrai.ledger.training_records import RecordsClient, Request
from distrai.protocol.primitives import Hash

_LOOK_BACK = 50


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


@asynccontextmanager
async def connected(
    ledger: OwnLedger | OtherLedger, told: dict[str, Any] | None = None, patience: Patience | None = None
) -> AsyncIterator[tuple[JobRecords, Connection]]:
    """The contract there; ``told``: where a record is, which must be this one. Raises BadLedger or a LedgerError."""
    async with ledger.connected() as at:
        made = at.deployment
        here = made.chain_id, "0x" + made.records.hex()
        if told is not None and (told["chain_id"], told["contract"]) != here:
            raise BadLedger(
                f"the record of this job is at {told['contract']} on chain {told['chain_id']}: name that chain "
                "again with --rpc and --deployment"
            )
        with said_while_waiting("the node of the training record"):
            records = await JobRecords.connect(at.url, made.records, made.chain_id, at.key, patience=patience)
        try:
            yield records, at
        finally:
            await records.close()
