"""The training record of ``distrai jobs``: where it is kept, what it claims, and closing one that is open."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from distrai.cli.output import tell
from distrai.cli.wallet import AnyWallet

if TYPE_CHECKING:
    from distrai.jobs.records.ledgers import OtherLedger, OwnLedger
    from distrai.jobs.records.recording import Recording

Flag = Annotated[bool, Parameter(negative=())]


@Parameter(name="*")
@dataclass(frozen=True)
class LedgerOptions:
    """Which ledger a record is on."""

    rpc: str = ""
    "A node of a chain for the record; a chain of this user's own if not given."
    deployment: Path | None = None
    "With --rpc: the file of the contracts there, as `distrai ledger deploy` wrote it."

    def chosen(self, wallet: AnyWallet | None) -> "OwnLedger | OtherLedger":
        """The ledger; a wallet's password is asked for once at most."""
        from distrai.jobs.records.ledgers import choose_ledger

        named = None if wallet is None else cache(wallet.chosen().open)
        return choose_ledger(self.rpc, self.deployment, named, cache(AnyWallet().chosen().open))


@Parameter(name="*")
@dataclass(frozen=True)
class RecordOptions(LedgerOptions):
    """Where the training record is kept, who signs it, and what becomes of the model."""

    no_record: Flag = False
    "Keep no training record, and leave the model in the job's folder."
    theme: str = ""
    "What the training is about, for the record; the template's kind if not given."
    gpu: str = ""
    "The GPU that the record names; the one that is found here if not given."
    provider: str = ""
    "Whose machine it is, for the record; local if not given."
    price_hour: str = ""
    "Dollars for a GPU and hour, for the record, like 2.50; 0 if not given."
    store: str = ""
    "Where the finished model is saved, a folder or a URL; the user's folder of models if not given."
    encrypt: Flag = False
    "Save the model encrypted to the key of the sender (see `distrai models decrypt`)."
    publish: str = ""
    "OWNER/NAME on the Hugging Face Hub: push the finished model there before its record is closed."
    public: Flag = False
    "With --publish: let everybody see it."
    token_file: Path | None = None
    "With --publish: a file whose first word is the token; else $HF_TOKEN, else `hf auth login`."
    keep_open: Flag = False
    "Leave the record of a finished model open, for `distrai models push` or `distrai jobs close`."

    def recording(self, wallet: AnyWallet | None) -> "Recording | None":
        """Who keeps the record; None if nobody does. A token and a repository are tried before anything runs."""
        from distrai.jobs.models.publishing import Publishing
        from distrai.jobs.records.claims import Claims
        from distrai.jobs.records.recording import Recording
        from distrai.jobs.running.session import Unclear

        ledger = self.chosen(wallet)
        claims = Claims.read(self.gpu, self.provider, self.price_hour)
        if self.no_record and (self.publish or self.encrypt or self.keep_open):
            raise Unclear(
                "--publish, --encrypt and --keep-open need the training record: leave out --no-record"
            )
        if (self.public or self.token_file) and not self.publish:
            raise Unclear("--public and --token-file go with --publish OWNER/NAME")
        publishing = Publishing(self.publish, self.public, self.token_file) if self.publish else None
        if publishing is not None:
            publishing.check()
        if self.no_record:
            return None
        return Recording(ledger, self.theme, self.store, claims, publishing, self.keep_open, self.encrypt)


def close(
    job: str, /, *, record: RecordOptions | None = None, wallet: AnyWallet | None = None, json: Flag = False
) -> int:
    """Close the training record of a job for good: of one that was kept open, or that failed and is given up.

    Parameters
    ----------
    job
        The job: its id, how that begins, or its folder.
    json
        Print events as JSON lines and one object at the end.
    """
    from distrai.jobs.running.session import Unclear
    from distrai.jobs.running.store import find_job

    witness = (record or RecordOptions()).recording(wallet)
    if witness is None:
        raise Unclear("`distrai jobs close` closes a training record: leave out --no-record")
    folder = find_job(job)
    with folder.lock():
        state = folder.write(witness.closed(folder, folder.read(), _report(as_json=json)))
    assert state.record is not None, "it was closed"
    number, manifest = state.record["number"], state.record["manifest"]
    named = "names no model" if not int(manifest, 16) else f"names the manifest {manifest}"
    told = {"ok": True, "job_id": state.job_id, "record": state.record}
    tell(told, f"training record {number} is closed; it {named}", as_json=json)
    return 0


def _report(*, as_json: bool) -> Callable[[dict[str, Any]], None]:
    from distrai.jobs.text import event_text, printable
    from distrai.runs.display import JsonLines

    lines = JsonLines(sys.stdout)
    return lines.report if as_json else lambda event: print(printable(event_text(event)), flush=True)
