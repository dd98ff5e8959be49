"""The training record of a job: opened before its script starts, a stage with a hash for each step, closed at the end.

When the script is done its model is saved under the sender's address, and the hash of the model's manifest closes the
record. Every step is taken once, whoever begins it again.

The contract closes a record for good, and its stages only rise. So a job that failed or was stopped reaches the stage
"trained" with the zero hash (nothing came of it so far), and stays open for another attempt, which closes it, or for
``closed``. PUBLISHED comes before the end or not at all.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distrai.jobs.models.keeping import keep_model
from distrai.jobs.models.publishing import Publishing, evidence_of
from distrai.jobs.models.store import Saved
from distrai.jobs.records.claims import Claims, request_of
from distrai.jobs.records.client import JobRecords, connected
from distrai.jobs.records.ledgers import OtherLedger, OwnLedger
from distrai.jobs.running.store import JobFolder, JobState
from distrai.ledger.errors import LedgerError
from distrai.ledger.locks import InUse
from distrai.ledger.rpc import Patience
from distrai.ledger.training_records import Result, Stage
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import ZERO_HASH, Hash

if TYPE_CHECKING:
    from distrai.jobs.hub.push import Pushed

Tell = Callable[[dict[str, Any]], None]
_MARK = "record-opening"
UNFINISHED = "unfinished"
"""How the stage TRAINED with the zero hash is told."""

__all__ = ["UNFINISHED", "JobRecords", "NotClosed", "Recording"]


class NotClosed(ValueError):
    """A record cannot be closed now; the message says why."""


@dataclass(frozen=True)
class Recording:
    """Keeps the record of one job (see ``runner.Witness``).

    ``keep_open``: a finished model's record waits for `distrai models push`. ``encrypt``: the model is saved encrypted
    to the key of the sender.
    """

    ledger: OwnLedger | OtherLedger
    theme: str = ""
    store: str = ""
    claims: Claims = field(default_factory=Claims)
    publishing: Publishing | None = None
    keep_open: bool = False
    encrypt: bool = False
    patience: Patience | None = None

    def opened(self, job: JobFolder, state: JobState, tell: Tell) -> dict[str, Any]:
        """Ask for the training on the ledger, unless that was done."""
        if state.record is not None:
            return state.record
        return asyncio.run(self._open(job, state, tell))

    def started(self, job: JobFolder, state: JobState, tell: Tell) -> None:
        """The hash of the values is the evidence."""
        assert state.record is not None, "it was opened"
        if not state.record.get("closed"):
            evidence = Hash(hashlib.sha256(job.params.read_bytes()).digest())
            asyncio.run(self._reached(state.record, [(Stage.STARTED, evidence)], tell))

    def finished(self, job: JobFolder, state: JobState, tell: Tell) -> JobState:
        """Save the model, tell the stages, close the record; of a job that is not done, tell that."""
        if state.record is None or state.record.get("closed"):
            return state
        if state.status != "done":
            self._unfinished(state.record, tell)
            return state
        return self._finish(job, state, state.record, tell, keep_open=self.keep_open)

    def closed(self, job: JobFolder, state: JobState, tell: Tell) -> JobState:
        """Close the record of a job for good; with no manifest if the job is not done. Raises NotClosed."""
        if state.record is None:
            raise NotClosed(f"the job {state.job_id} has no training record")
        if not state.has_ended:
            raise NotClosed(f"the job {state.job_id} has not ended: stop it first, or let it go on")
        if state.record.get("closed"):
            return state
        if state.status == "done":
            return self._finish(job, state, state.record, tell, keep_open=False)
        self._unfinished(state.record, tell)
        return asyncio.run(self._close(state, state.record, ZERO_HASH, tell))

    def published(self, state: JobState, done: "Pushed", tell: Tell) -> JobState:
        """A model whose record was kept open was pushed: tell that, and close the record."""
        assert state.record is not None, "it was opened"
        manifest = Hash(bytes.fromhex(str(state.record["manifest"]).removeprefix("0x")))
        asyncio.run(self._reached(state.record, [(Stage.PUBLISHED, evidence_of(done))], tell))
        return asyncio.run(self._close(state, state.record, manifest, tell))

    async def _open(self, job: JobFolder, state: JobState, tell: Tell) -> dict[str, Any]:
        mark, machine = job.path / _MARK, self.claims.machine()
        async with connected(self.ledger, None, self.patience) as (records, at):
            number, transaction = await records.find(state.job_id) if mark.exists() else 0, ZERO_HASH
            if not number:
                mark.touch()
                request = request_of(job, state, self.theme, self.claims)
                number, transaction = await records.open_once(request)
        told = {
            "number": number,
            "chain_id": at.deployment.chain_id,
            "contract": _hex(at.deployment.records),
            "sender": _hex(at.key.address),
            "transaction": "" if transaction == ZERO_HASH else _hex(transaction),
            "ledger": self.ledger.where,
            "gpu": machine.name,
            "gpus": machine.gpus,
            "closed": False,
        }
        tell({"event": "record", "stage": "requested", "record": number, "chain_id": told["chain_id"]})
        return told

    def _unfinished(self, told: dict[str, Any], tell: Tell) -> None:
        """Say that nothing came of it so far. A ledger that does not answer must not hide why the job failed."""
        try:
            asyncio.run(self._reached(told, [(Stage.TRAINED, ZERO_HASH)], tell))
        except (LedgerError, InUse, OSError, ValueError) as error:
            why = str(error) if isinstance(error, ValueError | InUse) else type(error).__name__
            tell(
                {"event": "log", "level": "warning", "text": f"its training record could not be told: {why}"}
            )

    def _finish(
        self, job: JobFolder, state: JobState, told: dict[str, Any], tell: Tell, *, keep_open: bool
    ) -> JobState:
        made = Hash(hashlib.sha256(canonical_json({"artifacts": state.artifacts})).digest())
        owner = self.ledger.signer() if self.encrypt else None
        saved = keep_model(job, state, told, tell, self.store, owner)
        manifest = ZERO_HASH if saved is None else Hash(bytes.fromhex(saved.manifest.inner_hash))
        kept = made if saved is None else Hash(bytes.fromhex(saved.manifest.hash))
        stages = [(Stage.TRAINED, made), (Stage.SAVED, kept)]
        asyncio.run(self._reached(told, stages, tell))
        state = state.with_(
            record={**told, "manifest": _hex(manifest)}, saved="" if saved is None else saved.location
        )
        job.write(state)  # what was saved must be found again, whatever happens to the push
        if saved is not None and self.publishing is not None:
            asyncio.run(self._reached(told, [(Stage.PUBLISHED, self._push(saved, tell))], tell))
        elif saved is not None and keep_open:
            tell({"event": "record", "stage": "open, for `distrai models push`", "record": told["number"]})
            return state
        return asyncio.run(self._close(state, told, manifest, tell))

    def _push(self, saved: Saved, tell: Tell) -> Hash:
        assert self.publishing is not None, "it is asked for"
        done = self.publishing.push(self.store, saved)
        tell({"event": "published", "repo": done.repo, "commit": done.commit, "private": done.private})
        return evidence_of(done)

    async def _close(self, state: JobState, told: dict[str, Any], manifest: Hash, tell: Tell) -> JobState:
        number, seconds = int(told["number"]), round(state.seconds)
        result = Result(manifest, ZERO_HASH, seconds, seconds * int(told.get("gpus", 0)), 1)
        async with connected(self.ledger, told, self.patience) as (records, _):
            await records.close_record(number, result)
        tell({"event": "record", "stage": "closed", "record": number, "manifest": _hex(manifest)})
        return state.with_(record={**told, "closed": True, "manifest": _hex(manifest)})

    async def _reached(self, told: dict[str, Any], stages: list[tuple[Stage, Hash]], tell: Tell) -> None:
        """Those of these stages that were not reached yet."""
        number = int(told["number"])
        async with connected(self.ledger, told, self.patience) as (records, _):
            there = (await records.get(number)).stage
            for stage, evidence in stages:
                if there < stage and await records.reach(number, stage, evidence):
                    name = stage.name.lower()
                    shown = UNFINISHED if stage is Stage.TRAINED and evidence == ZERO_HASH else name
                    tell({"event": "record", "stage": shown, "record": number})


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
