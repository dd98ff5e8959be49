"""The training record of a job as its ledger has it now: what the ledger knows, apart from what was claimed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distrai.jobs.ledgers import BadLedger, OwnLedger
from distrai.jobs.recording import JobRecords
from distrai.jobs.store import JobState
from distrai.ledger.training_records import Record

_MICROS = 1_000_000


def record_on_ledger(state: JobState) -> dict[str, Any]:
    """Read the record of a job from the user's own chain. Raises BadLedger if it has none there."""
    told = state.record
    if told is None:
        raise BadLedger(f"the job {state.job_id} has no training record")
    folder = Path(str(told["ledger"]))
    if not (folder / "chain.sqlite").exists():
        raise BadLedger(
            f"the record of {state.job_id} is number {told['number']} on chain {told['chain_id']}, which is not here: "
            "read it with `distrai records --rpc URL --deployment FILE`"
        )

    async def read() -> Record:
        async with OwnLedger(folder).connected() as at:
            client = await JobRecords.connect(at.url, at.deployment.records, int(told["chain_id"]))
            try:
                return await client.get(int(told["number"]))
            finally:
                await client.close()

    return _told(asyncio.run(read()))


def _told(record: Record) -> dict[str, Any]:
    request, result, closed = record.request, record.result, bool(record.closed_at)
    return {
        "record": record.number,
        "ledger": {
            "sender": "0x" + record.sender.hex(),
            "requested_at": _time(record.requested_at),
            "closed_at": _time(record.closed_at) if closed else None,
            "stage": record.stage.name.lower(),
        },
        "claims": {
            "gpu": request.gpu,
            "provider": request.provider,
            "price_per_hour_usd": request.price_per_hour / _MICROS,
            "model": request.model,
            "parameters": request.parameters,
            "parameter_count": request.parameter_count,
            "theme": request.theme,
            "training_seconds": result.training_seconds if closed else None,
            "source": "0x" + request.source.hex(),
            "manifest": "0x" + result.manifest.hex() if closed else None,
        },
    }


def record_text(told: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"training record {told['record']}"]
    lines += [
        f"  {name.replace('_', ' ')}: {value}" for name, value in told["ledger"].items() if value is not None
    ]
    lines.append("  claimed by the sender:")
    lines += [
        f"    {name.replace('_', ' ')}: {value}"
        for name, value in told["claims"].items()
        if value is not None
    ]
    return "\n".join(lines)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
