"""Training records as a table, and as files for other programs. What a sender claims is marked in all of them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from distrai.jobs.records.told import stage_text
from distrai.peer.store import write_atomically
from distrai.runs.telling import duration, printable

CLAIMED = "*"
_SHORT = 28
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a cell begins that a spreadsheet would run."""


class BadExport(ValueError):
    """Records are not written to a file of this kind."""


def records_text(told: dict[str, Any], export: Path | None = None) -> str:
    """The table."""
    if note := told.get("note"):
        return str(note)
    s = "" if told["count"] == 1 else "s"
    where = f"{told['count']} training record{s} at {told['contract']} on chain {told['chain_id']}"
    if not told["records"]:
        return (
            f"{where}: none of them is what was asked for"
            if told["count"]
            else f"{where}: nobody opened one yet"
        )
    rows = [_HEADINGS, *(_row(record) for record in told["records"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    kept = [f"Written to {export}."] if export is not None else []
    note = f"{CLAIMED} is what the sender claims; all else is what the ledger knows itself. --json tells all of it."
    return "\n".join([f"{where}, {len(told['records'])} shown:", "", *lines, "", note, *kept])


_HEADINGS = (
    "No.",
    "Requested (UTC)",
    "Stage",
    "Run",
    "Sender",
    "On the ledger",
    f"Training{CLAIMED}",
    f"Model{CLAIMED}",
    f"Parameters{CLAIMED}",
    f"Theme{CLAIMED}",
    f"GPU{CLAIMED}",
    f"Provider{CLAIMED}",
    f"$/hour{CLAIMED}",
)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    known, claims = record["ledger"], record["claims"]
    return (
        str(record["record"]),
        known["requested_at"][:19].replace("T", " "),
        stage_text(record),
        "job" if known["run"] is None else str(known["run"]),
        f"{known['sender'][:8]}…{known['sender'][-4:]}",
        "open" if known["seconds"] is None else duration(known["seconds"]),
        "" if claims["training_seconds"] is None else duration(claims["training_seconds"]),
        _cut(claims["model"]),
        f"{claims['parameter_count']:,}",
        _cut(claims["theme"]),
        _cut(claims["gpu"]),
        _cut(claims["provider"]),
        claims["price_per_hour_usd"],
    )


def _cut(text: str) -> str:
    """A text of somebody else, short and without what would drive a terminal."""
    shown = printable(text).replace("\n", " ").replace("\t", " ")
    return shown if len(shown) <= _SHORT else shown[: _SHORT - 1] + "…"


def export_records(told: dict[str, Any], path: Path) -> None:
    """Write them to a file that is new or replaced. Raises BadExport for one that is neither .json nor .csv."""
    match path.suffix.lower():
        case ".json":
            text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        case ".csv":
            text = _csv(told)
        case other:
            raise BadExport(f"--export writes .json and .csv, not {other or 'a file without an ending'!r}")
    write_atomically(path, text.encode())


def _csv(told: dict[str, Any]) -> str:
    """One line a record; the names of what is claimed begin with ``claimed_``."""
    lines = [
        {"chain_id": told["chain_id"], "record": record["record"]}
        | record["ledger"]
        | {f"claimed_{name}": value for name, value in record["claims"].items()}
        for record in told["records"]
    ]
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]))
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
