"""Looking at a job from outside while it runs, and asking it to stop. No lock is taken."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distrai.jobs.running.attempt import Attempt
from distrai.jobs.running.store import JobFolder

LOOK_S = 0.2


def is_running(job: JobFolder) -> bool:
    """Whether its script is at work, whoever started it."""
    return Attempt(job, job.read().attempt).is_alive()


def events_of(job: JobFolder, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Every event; with ``follow`` also those to come, until the job has ended."""
    for line in _lines(job, job.events, follow=follow):
        try:
            yield dict(json.loads(line))
        except ValueError:
            continue


def printed_by(job: JobFolder, *, follow: bool) -> Iterator[str]:
    """Every line that the script printed."""
    for line in _lines(job, job.log, follow=follow):
        yield line.decode(errors="replace").rstrip("\r\n")


def stop(job: JobFolder, *, at_once: bool) -> bool:
    """Ask a job to stop, or end it; False if it does not run."""
    if not is_running(job):
        return False
    if at_once:
        Attempt(job, job.read().attempt).end_now()
    else:
        job.ask_to_stop()
    return True


def _lines(job: JobFolder, path: Path, *, follow: bool) -> Iterator[bytes]:
    """Whole lines of a file that grows."""
    offset = 0
    while True:
        ended = not follow or job.read().has_ended or not is_running(job)
        if path.exists():
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n") and not ended:
                        break
                    offset += len(line)
                    yield line
        if ended:
            return
        time.sleep(LOOK_S)
