"""An index that is in use, compared with the ledger that it is of."""

from pathlib import Path

from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import BadAnswer
from distrai.ledger.index import LedgerIndex, WrongIndex
from distrai.protocol.ledger_events import LedgerEvent


def compare_index(path: Path | None, deployment: Deployment, ledger: LedgerIndex) -> list[str]:
    """What the index at ``path`` lacks or has too much of, as far as it has read; ``ledger`` was just read anew."""
    if path is None:
        return []
    try:
        used = LedgerIndex.open(path, deployment)
    except WrongIndex as error:
        return [str(error)]
    try:
        reached = min(used.newest_block, ledger.newest_block)
        told = [event for event in used.events() if event.at.block_number <= reached]
    except BadAnswer as error:
        return [f"{path.name}: {error}"]
    finally:
        used.close()
    there = [event for event in ledger.events() if event.at.block_number <= reached]
    known, real = set(told), set(there)
    advice = f"remove {path.name}, and it is made anew"
    lacks = [event for event in there if event not in known]
    extra = [event for event in told if event not in real]
    return [
        *(f"{path.name} lacks {_place(event)}, which the ledger has: {advice}" for event in lacks),
        *(f"{path.name} has {_place(event)}, which the ledger has not: {advice}" for event in extra),
    ]


def _place(event: LedgerEvent) -> str:
    return f"{type(event).__name__} of block {event.at.block_number} (log {event.at.log_index})"
