"""Whether a model is whole, and the one that was recorded: for its owner, and for a third person with a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from distrai.jobs.models.naming import open_model
from distrai.jobs.models.sealed import told_within
from distrai.jobs.models.store import ForeignManifest, Saved, expect
from distrai.jobs.records.recorded import NoRecord

if TYPE_CHECKING:
    from distrai.jobs.records.recorded import Compared


class MissingLedger(ValueError):
    """A record is named, and not where it is."""


def verify_model(
    name: str,
    store: str = "",
    expected: str = "",
    record: int = 0,
    rpc: str = "",
    deployment: Path | None = None,
) -> dict[str, Any]:
    """What comparing a model with its manifest, an expected hash and a training record shows, as plain data.

    ``name`` is a model of the store, a folder with one, or a job's folder. Raises NoModel, BadManifest, StoreUnusable,
    MissingLedger, NoRecord, InUse or a LedgerError; a difference is no error, but told in ``wrong``.
    """
    chosen, saved = open_model(name, store)
    verdict = chosen.verify(saved)
    wrong = [f"{path} is missing" for path in verdict.missing] + [
        f"{path} was changed" for path in verdict.changed
    ]
    if expected:
        try:
            expect(saved, expected)
        except ForeignManifest as error:
            wrong.append(str(error))
    compared, note = None, ""
    try:
        compared = _compared(saved, record, rpc, deployment)
    except NoRecord as error:
        if record or rpc:
            raise
        note = str(error)  # the model names it itself: what is known of its files is told all the same
    wrong += compared.differences if compared else ()
    return {
        "ok": not wrong,
        "name": saved.name,
        "location": saved.location,
        "manifest": saved.manifest.hash,
        "files": len(saved.manifest.files),
        "wrong": wrong,
        "extra": list(verdict.extra),
        "expected": expected,
        "record": compared.record if compared else 0,
        "within": told_within(saved.manifest.origin),
        "note": note,
    }


def _compared(saved: Saved, record: int, rpc: str, deployment: Path | None) -> "Compared | None":
    """With the record that is named, else the one that the model names, on a ledger that can be read from here."""
    from distrai.jobs.records.recorded import compare_with_own, compare_with_record, own_ledger_of

    number = record or saved.manifest.origin.record
    if rpc and deployment is not None and number:
        return compare_with_record(saved, rpc, deployment, number)
    if rpc or deployment is not None:
        raise MissingLedger(
            "a ledger is --rpc URL and --deployment FILE; say --record too if the model names none"
        )
    own = own_ledger_of(saved) if number else None
    if own is None and record:
        raise MissingLedger(
            "the record is on no ledger of yours: give --rpc URL and --deployment FILE of its chain"
        )
    return compare_with_own(saved, own, number) if own is not None else None
