"""The training records of a ledger, read and filtered: what the ledger knows apart from what senders claim."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distrai.ledger.deployment import Deployment
from distrai.ledger.training_records import Record, RecordsClient
from distrai.protocol.primitives import ZERO_HASH, Address, Hash
from distrai.runs.money import open_money
from distrai.runs.wallet import parse_address, show_address

_AT_ONCE = 16
_MICROS = 1_000_000


class BadFilter(ValueError):
    """What is looked for cannot be read; the message says how to write it."""


@dataclass(frozen=True)
class Wanted:
    """Which records are asked for; what is empty, None or 0 filters nothing. ``since`` is ledger time."""

    theme: str = ""
    model: str = ""
    sender: Address | None = None
    since: int = 0
    run: int = 0

    @classmethod
    def read(cls, theme: str, model: str, sender: str, since: str, run: int) -> "Wanted":
        """From what a user types. Raises BadAddress or BadFilter."""
        return cls(theme, model, parse_address(sender) if sender else None, _time(since) if since else 0, run)

    def fits(self, record: Record) -> bool:
        """Whether a record is one of them."""
        request = record.request
        return (
            self.theme.lower() in request.theme.lower()
            and self.model.lower() in request.model.lower()
            and (self.sender is None or self.sender == record.sender)
            and record.requested_at >= self.since
            and (not self.run or self.run == record.run)
        )


def _time(text: str) -> int:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise BadFilter(
            f"--since {text[:40]!r} is no time: write 2026-11-21 or 2026-11-21T18:00 (UTC)"
        ) from None
    return int((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp())


def records_of(what: str, url: str, deployment: Path | None, wanted: Wanted) -> dict[str, Any]:
    """The records that are asked for, as plain data. Raises BadFilter, NoMoney or a LedgerError."""

    async def run() -> dict[str, Any]:
        async with _client(what, url, deployment) as client:
            count = await client.count()
            found: list[Record] = []
            for first in range(1, count + 1, _AT_ONCE):
                numbers = range(first, min(first + _AT_ONCE, count + 1))
                found += await asyncio.gather(*(client.get(number) for number in numbers))
            shown = [_told(record) for record in found if wanted.fits(record)]
            return {
                "ok": True,
                "chain_id": client.chain_id,
                "contract": show_address(client.address),
                "count": count,
                "records": shown,
            }

    return asyncio.run(run())


@asynccontextmanager
async def _client(what: str, url: str, deployment: Path | None) -> AsyncIterator[RecordsClient]:
    if what and (url or deployment):
        raise BadFilter("give a run, or --rpc and --deployment, and not both")
    if what:
        async with open_money(what) as money:
            at = money.contracts.records
            client = await RecordsClient.connect(money.url, at, money.link.chain_id)
            try:
                yield client
            finally:
                await client.close()
        return
    if not url or deployment is None:
        raise BadFilter("give a run (its folder or link), or --rpc URL with --deployment FILE")
    made = Deployment.read(deployment)
    client = await RecordsClient.connect(url, made.records, made.chain_id)
    try:
        yield client
    finally:
        await client.close()


def _told(record: Record) -> dict[str, Any]:
    request, result = record.request, record.result
    return {
        "record": record.number,
        "ledger": {
            "sender": show_address(record.sender),
            "requested_at": _iso(record.requested_at),
            "closed_at": _iso(record.closed_at) if record.closed_at else None,
            "seconds": record.closed_at - record.requested_at if record.closed_at else None,
            "stage": record.stage.name.lower(),
            "run": record.run or None,
            "round": record.round if record.closed_at else None,
            "state_root": _hash(record.state_root),
        },
        "claims": {
            "model": request.model,
            "theme": request.theme,
            "gpu": request.gpu,
            "provider": request.provider,
            "price_per_hour_usd": _dollars(request.price_per_hour),
            "parameter_count": request.parameter_count,
            "parameters": request.parameters,
            "training_seconds": result.training_seconds if record.closed_at else None,
            "gpu_seconds": result.gpu_seconds if record.closed_at else None,
            "peers": result.peers if record.closed_at else None,
            "source": _hash(request.source),
            "manifest": _hash(result.manifest),
            "table": _hash(result.table),
        },
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _dollars(millionths: int) -> str:
    whole, rest = divmod(millionths, _MICROS)
    fraction = f"{rest:06}".rstrip("0")
    return f"{whole}.{fraction:0<2}"


def _hash(value: Hash) -> str | None:
    return None if value == ZERO_HASH else "0x" + value.hex()
