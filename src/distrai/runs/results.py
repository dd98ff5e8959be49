"""After the last round: held-out loss, the exported model, the payout, the summary."""

import asyncio
from dataclasses import replace

from distrai.ledger.keys import NodeKey
from distrai.protocol.blobs import blob_ref
from distrai.runs.anchor import ledger_state
from distrai.runs.archive import NothingPublished
from distrai.runs.chain import open_owner
from distrai.runs.exporting import export
from distrai.runs.folder import RunFolder, write_json
from distrai.runs.local import Report
from distrai.runs.measuring import measure, measured
from distrai.runs.opened import OpenedRun
from distrai.runs.payday import INTERRUPTED, NOT_FINISHED, Payday, pay
from distrai.runs.recording import publish_manifest, result_of
from distrai.runs.summary import Facts, Summary, summarise


def finish(folder: RunFolder, device: str, report: Report, owner: NodeKey | None = None) -> Summary:
    """Measure, export, pay out and summarise a run that has done its rounds.

    ``owner``: the opener's key, if it is at hand. Raises NoRun, NothingPublished, LedgerError. Interrupted (Ctrl-C)
    while it pays, it says how far that has come.
    """
    facts = Facts.gather(folder, asyncio.run(ledger_state(folder)))
    final = measured(folder)
    if final is None:
        report({"event": "measuring", "what": "held-out loss before the first and after the last round"})
        run = OpenedRun.open(folder, device)
        final = measure(run)
        report({"event": "exporting", "what": f"the model, to {folder.model}"})
        final = replace(final, model_path=str(folder.model))
        summary = summarise(facts, final)
        export(run, summary, folder.model)
        if facts.resolved.contracts is not None:
            publish_manifest(folder)
            summary = replace(summary, money={"done": False})
        write_json(folder.summary, summary.to_json())
    summary = summarise(facts, final, _paid(folder, facts, report, owner))
    write_json(folder.summary, summary.to_json())
    return summary


def partial(folder: RunFolder, owner: NodeKey | None = None) -> Summary | None:
    """Summarise a run that was stopped, and write that down; None if it never came to its start."""
    try:
        facts = Facts.gather(folder, asyncio.run(ledger_state(folder)))
    except NothingPublished:
        return None
    if not facts.ledger.started:
        return None
    summary = summarise(facts, None, _seen(folder, facts, owner, NOT_FINISHED))
    write_json(folder.summary, summary.to_json())
    return summary


def _paid(folder: RunFolder, facts: Facts, report: Report, owner: NodeKey | None) -> Payday | None:
    """What came of paying out; None for a run without money."""
    if facts.resolved.contracts is None:
        return None
    key = owner or open_owner(folder)
    result = result_of(folder, facts.logs, facts.ledger.round, blob_ref(folder.manifest.read_bytes()).hash)
    try:
        return asyncio.run(pay(folder, key, report, result))
    except KeyboardInterrupt:
        return _seen(folder, facts, key, INTERRUPTED)


def _seen(folder: RunFolder, facts: Facts, owner: NodeKey | None, why: str) -> Payday | None:
    """What members of a run that goes on later have until now."""
    if facts.resolved.contracts is None or owner is None:
        return None
    return asyncio.run(pay(folder, owner, lambda _: None, None, undone=why))
