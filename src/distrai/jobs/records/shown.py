"""The training record of a job as its ledger has it now."""

import asyncio
from pathlib import Path
from typing import Any

from distrai.jobs.records.ledgers import BadLedger, OwnLedger
from distrai.jobs.records.told import history_of
from distrai.jobs.running.store import JobState
from distrai.ledger.training_records import RecordsClient


def record_on_ledger(state: JobState) -> dict[str, Any]:
    """Read the record of a job, with its stages, from the user's own chain. Raises BadLedger if it has none there."""
    told = state.record
    if told is None:
        raise BadLedger(f"the job {state.job_id} has no training record")
    folder = Path(str(told["ledger"]))
    if not (folder / "chain.sqlite").exists():
        raise BadLedger(
            f"the record of {state.job_id} is number {told['number']} on chain {told['chain_id']}, which is not here: "
            f"read it with `distrai records show {told['number']} --rpc URL --deployment FILE`"
        )

    async def read() -> dict[str, Any]:
        async with OwnLedger(folder).connected() as at:
            made = at.deployment
            client = await RecordsClient.connect(at.url, made.records, int(told["chain_id"]))
            try:
                return await history_of(client, at.url, made.block, int(told["number"]))
            finally:
                await client.close()

    return asyncio.run(read())
