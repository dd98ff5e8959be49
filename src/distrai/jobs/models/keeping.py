"""The finished model of a job into the store of models, under the address of who had it trained, with its card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distrai.jobs.estimates.counting import count_parameters
from distrai.jobs.models.card import JobCard, RecordedOn
from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.portable import base_hash, hash_of
from distrai.jobs.models.saving import NothingToSave, save_model
from distrai.jobs.models.sealed import save_sealed
from distrai.jobs.models.store import ModelStore, Saved
from distrai.jobs.records.claims import base_of, shown_name, told_values
from distrai.jobs.running.artifacts import file_sha256
from distrai.jobs.running.store import JobFolder, JobState
from distrai.ledger.keys import NodeKey

_BEFORE, _AFTER = "_before", "_after"


def keep_model(
    job: JobFolder,
    state: JobState,
    record: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
    store: str = "",
    owner: NodeKey | None = None,
) -> Saved | None:
    """Save the model of a job that is done; None if it made none. With an ``owner`` it is encrypted to that key.

    Raises ModelExists, StoreFull, StoreUnusable.
    """
    if not state.model:
        return None
    values = job.values()
    origin = _origin(job, state, values, record)
    card = _card(job, state, values, origin, record)
    name = f"{str(record['sender']).lower()}/{state.job_id}"
    chosen, added = ModelStore.at(store), {"README.md": card.encode(), **_evaluation(job)}
    try:
        saved = (
            save_model(chosen, job.out / state.model, name, origin, added)
            if owner is None
            else save_sealed(chosen, job.out / state.model, name, origin, owner, added)
        )
    except NothingToSave as error:
        report({"event": "log", "level": "warning", "text": f"no model was saved: {error}"})
        return None
    report(
        {"event": "saved", "model": saved.name, "location": saved.location, "manifest": saved.manifest.hash}
    )
    return saved


def _origin(job: JobFolder, state: JobState, values: dict[str, Any], record: dict[str, Any]) -> Origin:
    """What the model was made from; of data that was prepared for the job, the hash over its examples."""
    from distrai.jobs.data.prepared import data_of

    data, prepared = str(values.get("data", "")), data_of(job)
    return Origin(
        kind=state.kind,
        base_model=shown_name(base_of(values)),
        base_hash=base_hash(values),
        data=prepared.name if prepared else shown_name(data),
        data_hash=prepared.hash if prepared else data_hash(Path(data)) if data else "",
        script=state.name,
        script_hash=state.script_hash,
        address=str(record["sender"]),
        job=state.job_id,
        record=int(record["number"]),
        chain_id=int(record["chain_id"]),
    )


def _evaluation(job: JobFolder) -> dict[str, bytes]:
    """What lm-evaluation-harness measured, as a file of the model."""
    from distrai.jobs.evaluation import report_of

    report = report_of(job)
    return {"evaluation.json": report} if report else {}


def data_hash(path: Path) -> str:
    """SHA-256 of a file of data; of the names and hashes of its files for a folder; empty for what is elsewhere."""
    if path.is_file():
        return file_sha256(path)
    if not path.is_absolute() or not path.is_dir():
        return ""
    return hash_of(
        (item.relative_to(path).as_posix(), item) for item in sorted(path.rglob("*")) if item.is_file()
    )


def _card(
    job: JobFolder, state: JobState, values: dict[str, Any], origin: Origin, record: dict[str, Any]
) -> str:
    """The model card, with what was measured on the held-out part before and after."""
    measured = {name: value for name, value in state.metrics.items() if value is not None}
    recorded = RecordedOn(
        chain_id=int(record["chain_id"]),
        contract=str(record["contract"]),
        record=int(record["number"]),
        transaction=str(record["transaction"]),
        sender=str(record["sender"]),
    )
    return JobCard(
        name=state.job_id,
        kind=state.kind,
        base_model=origin.base_model,
        base_hash=origin.base_hash,
        data=origin.data,
        data_hash=origin.data_hash,
        script=origin.script,
        script_hash=origin.script_hash,
        parameters=told_values(values),
        parameter_count=count_parameters(job.out / state.model),
        tokens=int(measured.get("tokens", 0)),
        seconds=state.seconds,
        hardware=str(record.get("gpu", "")),
        before=_measures(measured, _BEFORE),
        after=_measures(measured, _AFTER),
        recorded=recorded,
    ).to_markdown()


def _measures(measured: dict[str, float], end: str) -> dict[str, float]:
    """Metrics whose names end like this, without that end."""
    return {name.removesuffix(end): value for name, value in measured.items() if name.endswith(end)}
