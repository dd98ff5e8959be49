"""A training record as plain data and as text: what the ledger knows itself, apart from what its sender claims."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from distrai.ledger.abi import load_artifact
from distrai.ledger.errors import BadAnswer, LedgerRefused
from distrai.ledger.log_source import LogSource
from distrai.ledger.training_records import Record, RecordsClient, Stage
from distrai.protocol.primitives import ZERO_HASH, Hash

_MICROS = 1_000_000
_TOPICS = 64
"""Records in one question to a node."""
_TRAINED = Stage.TRAINED.name.lower()
_OPENED, _REACHED, _CLOSED = "RecordOpened", "StageReached", "RecordClosed"


class NoSuchRecord(ValueError):
    """A ledger has no record of this number."""


def told_of(record: Record, *, unfinished: bool = False) -> dict[str, Any]:
    """A record as plain data; what is not known yet is None. ``unfinished``: an attempt ended with nothing made."""
    from eth_utils.address import to_checksum_address

    request, result, closed = record.request, record.result, bool(record.closed_at)
    return {
        "record": record.number,
        "ledger": {
            "sender": str(to_checksum_address(record.sender)),
            "requested_at": _iso(record.requested_at),
            "closed_at": _iso(record.closed_at) if closed else None,
            "seconds": record.closed_at - record.requested_at if closed else None,
            "stage": record.stage.name.lower(),
            "unfinished": unfinished,
            "run": record.run or None,
            "round": record.round if closed and record.run else None,
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
            "training_seconds": result.training_seconds if closed else None,
            "gpu_seconds": result.gpu_seconds if closed else None,
            "peers": result.peers if closed else None,
            "source": _hash(request.source),
            "manifest": _hash(result.manifest),
            "table": _hash(result.table),
        },
    }


async def history_of(client: RecordsClient, url: str, first_block: int, number: int) -> dict[str, Any]:
    """A record with its stages, each with hash, block, time and transaction, from the events since ``first_block``.

    Raises NoSuchRecord or a LedgerError.
    """
    try:
        told = told_of(await client.get(number))
    except LedgerRefused:
        count = await client.count()
        raise NoSuchRecord(f"there is no training record {number} on that ledger: it has {count}") from None
    source = await LogSource.connect(url, client.chain_id)
    try:
        told["stages"] = await _stages(source, client, first_block, number)
    finally:
        await source.close()
    newest = told["stages"][-1] if told["stages"] else {"stage": "", "hash": None}
    told["ledger"]["unfinished"] = newest["stage"] == _TRAINED and newest["hash"] is None
    return told | {"chain_id": client.chain_id, "contract": "0x" + client.address.hex()}


async def unfinished_of(
    client: RecordsClient, url: str, first_block: int, records: Sequence[Record]
) -> set[int]:
    """Numbers of those that are at "trained" with the zero hash: what was tried failed or was stopped."""
    numbers = [record.number for record in records if record.stage is Stage.TRAINED]
    if not numbers:
        return set()
    abi = load_artifact("TrainingRecords").abi
    topics = [_hex(number.to_bytes(32, "big")) for number in numbers]
    queries = [
        {"address": _hex(client.address), "topics": [[_hex(abi.topic(_REACHED))], topics[at : at + _TOPICS]]}
        for at in range(0, len(topics), _TOPICS)
    ]
    source = await LogSource.connect(url, client.chain_id)
    try:
        logs = await source.logs(queries, first_block, (await source.newest()).number)
    finally:
        await source.close()
    said = [event.arguments for log in logs if (event := abi.decode_log(log.topics, log.data)) is not None]
    return {
        int(one["record"])
        for one in said
        if one["stage"] == Stage.TRAINED and Hash(one["evidence"]) == ZERO_HASH
    }


def stage_text(told: dict[str, Any]) -> str:
    """Where a record stands, for people: also that nothing came of it."""
    known = told["ledger"]
    if known["unfinished"]:
        return "unfinished"
    if known["stage"] == "closed" and known["run"] is None and told["claims"]["manifest"] is None:
        return "closed, no model"
    return str(known["stage"])


async def _stages(source: LogSource, client: RecordsClient, first: int, number: int) -> list[dict[str, Any]]:
    abi = load_artifact("TrainingRecords").abi
    names = [_hex(abi.topic(name)) for name in (_OPENED, _REACHED, _CLOSED)]
    query = {"address": _hex(client.address), "topics": [names, _hex(number.to_bytes(32, "big"))]}
    logs = await source.logs([query], first, (await source.newest()).number)
    times = {
        block.number: block.time
        for block in await source.blocks(sorted({log.at.block_number for log in logs}))
    }
    found = []
    for log in logs:
        said = abi.decode_log(log.topics, log.data)
        if said is None or log.at.block_number not in times:
            raise BadAnswer("the node gives an event of a training record that is none")
        stage, evidence = _stage(said.name, said.arguments)
        found.append(
            {
                "stage": stage.name.lower(),
                "hash": _hash(evidence),
                "block": log.at.block_number,
                "at": _iso(times[log.at.block_number]),
                "transaction": _hex(log.transaction),
            }
        )
    return found


def _stage(name: str, said: Any) -> tuple[Stage, Hash]:
    """Which stage an event tells, and the hash that shows it: script or recipe, evidence, the model's manifest."""
    if name == _OPENED:
        return Stage.REQUESTED, Hash(said["source"])
    if name == _CLOSED:
        return Stage.CLOSED, Hash(said["result"][0])
    return Stage(said["stage"]), Hash(said["evidence"])


def record_text(told: dict[str, Any]) -> str:
    """A record for people: the nine things that a record tells, its hashes, and its stages."""
    known, claims = told["ledger"], told["claims"]
    lines = [f"training record {told['record']} of contract {told['contract']} on chain {told['chain_id']}"]
    known = {**known, "stage": stage_text(told)}
    lines += _fields(known, ("requested_at", "sender", "stage", "closed_at", "run", "round", "state_root"))
    lines.append("  claimed by the sender, and checked by nobody:")
    price = f"{claims['price_per_hour_usd']} US dollars for a GPU and hour"
    shown = {**claims, "price": price, "time_training": _seconds(claims["training_seconds"])}
    names = ("gpu", "provider", "price", "model", "parameters", "parameter_count", "theme", "time_training")
    lines += _fields(shown, (*names, "gpu_seconds", "peers", "source", "manifest", "table"), "    ")
    lines.append("  stages (hash, block, time):")
    for step in told["stages"]:
        shows = step["hash"] or _NOTHING.get(step["stage"], "no hash")
        lines.append(f"    {step['stage']:<9}  {shows}  block {step['block']}  {step['at']}")
    return "\n".join(lines)


_NOTHING = {
    "trained": "(zero) an attempt failed or was stopped: nothing came of it then",
    "closed": "(zero) no model came of it",
}


def _fields(of: dict[str, Any], names: tuple[str, ...], indent: str = "  ") -> list[str]:
    return [f"{indent}{name.replace('_', ' ')}: {of[name]}" for name in names if of[name] is not None]


def _seconds(seconds: int | None) -> str | None:
    return None if seconds is None else f"{seconds} s"


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _dollars(millionths: int) -> str:
    whole, rest = divmod(millionths, _MICROS)
    fraction = f"{rest:06}".rstrip("0")
    return f"{whole}.{fraction:0<2}"


def _hash(value: Hash) -> str | None:
    return None if value == ZERO_HASH else _hex(value)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
