"""Running a job: its script in a process of its own, its events checked as they come, its results hashed at the end.

The script has a supervisor (``supervisor.py``) that does not end with us. So whoever runs a job again after a crash
finds it at work and goes on following it, or finds how it ended, or starts the next attempt, which goes on from
checkpoints.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from distrai.jobs.data.prechecks import prepare_job_data
from distrai.jobs.files import needs_room
from distrai.jobs.forms.header import read_header, script_hash
from distrai.jobs.running.attempt import Attempt, Ending, interruptions, why_failed
from distrai.jobs.running.confinement import script_environment
from distrai.jobs.running.environments import Environments
from distrai.jobs.running.events import BadEvent, Metric, RawLines, end_last_line, plain, read_event
from distrai.jobs.running.results import JobResult, collect
from distrai.jobs.running.sandbox import confine
from distrai.jobs.running.store import JobFolder, JobState, OtherJob, now

EVENTS_MAX = 1_000_000
METRICS_MAX = 1000
"""Names of measures that are kept of a job; those of its events all are."""
LOOK_S = 0.1
_KEEP_S = 1.0
"""How often what is known of a job is written while it runs."""

Report = Callable[[dict[str, Any]], None]


class Witness(Protocol):
    """Who writes down how a job was made, beside the job itself: the training record on a ledger."""

    def opened(self, job: JobFolder, state: JobState, tell: Report) -> dict[str, Any] | None:
        """The job begins; where its record is. Asked again, it is the same record."""
        ...

    def started(self, job: JobFolder, state: JobState, tell: Report) -> None:
        """The script is about to start."""
        ...

    def finished(self, job: JobFolder, state: JobState, tell: Report) -> JobState:
        """The script has ended, done or not, and its results are hashed; the state with what came of that."""
        ...


@dataclass
class JobRun:
    """One job, run or gone on with, by one process at a time. ``report`` takes every event."""

    job: JobFolder
    report: Report
    environments: Environments = field(default_factory=Environments)
    witness: Witness | None = None
    look_s: float = LOOK_S
    _state: JobState = field(init=False)
    _kept_at: float = 0.0
    _events: int = 0

    def run(self) -> JobResult:
        """Run the job to its end, or go on with it.

        Raises NoJob, OtherJob, InUse, BadData, BadSource, CannotPrepare, BadVariable, DiskFull. Ctrl-C asks the script
        to save and end; a second one ends it at once.
        """
        self.job.read()
        with self.job.lock(), needs_room(self.job.path, f"`distrai jobs run {self.job.path}` goes on"):
            self._state = self.job.read()
            if self._state.status != "done":
                self._finish(self._gone_on() or self._followed(self._begun()))
            if self.witness is not None and self._state.has_ended:
                self._keep(self.witness.finished(self.job, self._state, self._tell))
        return JobResult.of(self.job, self._state)

    def _gone_on(self) -> Ending | None:
        """How the newest attempt ended that is still at work, or ended while nobody looked; None if the next is due.

        One that failed while nobody looked (as where our own disk was full) is told, and tried again.
        """
        attempt = Attempt(self.job, self._state.attempt)
        if self._state.status != "running" or not attempt.was_started():
            return None
        self._tell({"event": "state", "status": "following", "attempt": attempt.number})
        was_alive = attempt.is_alive()
        ending = self._followed(attempt)
        if ending.reason == "lost":
            return None
        if ending.reason == "exit" and ending.code and not was_alive:
            self._finish(ending)
            return None
        return ending

    def _begun(self) -> Attempt:
        """The next attempt. What keeps it from starting is kept as the reason."""
        try:
            return self._next_attempt()
        except BaseException as error:
            why = f"it could not be started ({type(error).__name__})"  # others may name a node with its password
            if isinstance(error, ValueError):
                why = str(error)
            status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(OSError):
                self._keep(self._state.with_(status=status, why=why, ended_at=now()))
            raise

    def _next_attempt(self) -> Attempt:
        state = self._state
        number = max(1, state.attempt)
        while Attempt(self.job, number).was_started():
            number += 1
        self._keep(state.with_(status="preparing", why="", ended_at=""))
        data = prepare_job_data(state.kind, self.job.values(), self.job.path / "data", self._say)
        command = self._command()
        variables = self._environment(number, data)
        if self.witness is not None:
            self._keep(self._state.with_(record=self.witness.opened(self.job, self._state, self._tell)))
        self.job.stop_file.unlink(missing_ok=True)
        if self.witness is not None:
            self.witness.started(self.job, self._state, self._tell)
        attempt = Attempt(self.job, number)
        confined = confine(self.job, self._state, command, variables, self._tell)
        self._keep(self._state.with_(status="running", attempt=number))  # first: a crash must not hide it
        attempt.start(confined, variables, state.limits, self.job.out if state.script else Path(state.base))
        self._tell({"event": "state", "status": "running", "attempt": number})
        return attempt

    def _command(self) -> list[str]:
        """What is started. The environment is made here if there is none."""
        state = self._state
        if not state.script:
            return list(state.command)
        data = (self.job.script / state.script).read_bytes()
        if script_hash(data) != state.script_hash:
            raise OtherJob(
                f"{self.job.script / state.script} was changed since the job began: run it as a new job"
            )
        header = read_header(data, state.script)
        found = self.environments.prepare(header, self._say)
        self._keep(state.with_(environment=found.key))
        return [str(found.python), str(self.job.script / state.script)]

    def _environment(self, number: int, data: Path | None) -> dict[str, str]:
        home = self.job.path / "home"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        own = {
            "DISTRAI_JOB_ID": self._state.job_id,
            "DISTRAI_PARAMS": str(self.job.params),
            "DISTRAI_OUT": str(self.job.out),
            "DISTRAI_EVENTS": str(self.job.raw),
            "DISTRAI_ATTEMPT": str(number),
            "PYTHONPATH": str(self.job.script),
            **({} if data is None else {"DISTRAI_DATA": str(data)}),
        }
        return script_environment(home, own, self._state.passed)

    def _followed(self, attempt: Attempt) -> Ending:
        """Take every event until the attempt has ended. The first Ctrl-C asks it to stop, the next one ends it."""
        lines, handled = RawLines(self.job.raw, self._offset()), 0
        with interruptions() as pressed:
            while True:
                alive = attempt.is_alive()
                for line in lines.new():
                    self._take(line, lines.offset)
                if not alive:
                    return attempt.ending()
                if len(pressed) > handled:
                    self._interrupt(attempt, at_once=handled > 0)
                    handled += 1
                    continue
                time.sleep(self.look_s)

    def _interrupt(self, attempt: Attempt, *, at_once: bool) -> None:
        if at_once:
            attempt.end_now()
            return
        self.job.ask_to_stop()
        self._tell({"event": "status", "text": "asked to stop: saving (Ctrl-C again ends it at once)"})

    def _offset(self) -> int:
        """How far the script's own events were read before; a line that a crash cut off is ended."""
        offset = 0
        end_last_line(self.job.events)
        for event in self.job.read_events():
            offset = max(offset, int(event.get("offset", 0)))
            self._events += 1
            if event.get("event") == "metric":  # known already, but perhaps not kept, if we were killed
                self._measured(event["values"], event.get("step"))
        return offset

    def _take(self, line: bytes, offset: int) -> None:
        if self._events >= EVENTS_MAX:
            return
        self._events += 1
        try:
            event = read_event(line)
        except BadEvent as error:
            self._tell({"event": "refused", "why": str(error), "offset": offset})
            return
        told = plain(event)
        self._tell({"event": told.pop("type"), **told, "attempt": self._state.attempt, "offset": offset})
        if isinstance(event, Metric):
            self._measured(event.values, event.step)
            if time.monotonic() - self._kept_at > _KEEP_S:
                self._keep(self._state)

    def _measured(self, values: dict[str, float | None], step: int | None) -> None:
        metrics = dict(self._state.metrics)
        for name, value in values.items():
            if name in metrics or len(metrics) < METRICS_MAX:
                metrics[name] = value
        self._state = self._state.with_(metrics=metrics, step=self._state.step if step is None else step)

    def _finish(self, ending: Ending) -> None:
        state, results = self._state, collect(self.job, self._state.attempt)
        for refused in results.refused:
            self._tell({"event": "refused", "why": refused})
        status, why = self._verdict(ending, results.refused)
        state = state.with_(
            status=status,
            why=why,
            seconds=round(state.seconds + ending.seconds, 3),
            ended_at=now(),
            artifacts=results.artifacts,
            model=results.model,
        )
        self._keep(state)
        told = {"event": "state", "status": status, "attempt": state.attempt, "seconds": ending.seconds}
        self._tell(told | ({"why": why} if why else {}))

    def _verdict(self, ending: Ending, refused: list[str]) -> tuple[str, str]:
        """The status of the job, and why it is that."""
        clean = ending.code == 0 and ending.reason != "lost"
        if ending.reason == "timeout":
            return "stopped" if clean else "failed", why_failed(ending, self._state.limits)
        if ending.reason == "stopped" or (clean and self.job.stop_file.exists()):
            return "stopped", "" if clean else "it did not save within the time that it was given"
        if clean and not refused:
            return "done", ""
        return "failed", refused[0] if clean else why_failed(ending, self._state.limits)

    def _keep(self, state: JobState) -> None:
        self._state = self.job.write(state)
        self._kept_at = time.monotonic()

    def _say(self, text: str) -> None:
        self._tell({"event": "status", "text": text})

    def _tell(self, event: dict[str, Any]) -> None:
        self.report(self.job.keep_event(event))
