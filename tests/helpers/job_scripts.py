"""Small training scripts, and jobs made of them."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distrai.jobs.forms.library import Template
from distrai.jobs.running.creating import Wanted, create
from distrai.jobs.running.runner import JobResult, JobRun
from distrai.jobs.running.store import JobFolder, Limits

HEADER = """\
# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.distrai]
# title = "A toy"
# kind = "toy"
# [tool.distrai.parameters]
# learning_rate = {type = "float", default = 1e-3, min = 0, max = 1, help = "how fast"}
# steps = {type = "int", default = 30, min = 1}
# quant = {type = "str", default = "none", choices = ["none", "nf4"]}
# merge = {type = "bool", default = true}
# data = {type = "path", default = ""}
# [tool.distrai.presets.smoke]
# steps = 3
# ///
"""
LOOK_S = 0.01
TRAINS = """
import json, struct
header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
(job.out() / "model").mkdir(exist_ok=True)
(job.out() / "model" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
(job.out() / "model" / "config.json").write_text("{}")
job.metric(held_out_loss_before=2.0, held_out_loss_after=1.0)
job.artifact("model", kind="model")
"""
"""A script that makes the smallest model."""


def script(body: str, header: str = HEADER) -> bytes:
    """A script with a header."""
    return f"{header}import distrai_job as job\n{textwrap.dedent(body)}\n".encode()


def new_job(
    folder: Path,
    body: str,
    given: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    passed: Sequence[str] = (),
) -> JobFolder:
    """A job of a script that was accepted."""
    template = Template("toy", script(body), folder.parent / "toy.py")
    wanted = Wanted.of_template(template, "", given or {}, folder.parent, limits or Limits(), passed)
    return create(wanted, folder)


def run_job(job: JobFolder, events: list[dict[str, Any]] | None = None) -> JobResult:
    """Run it to its end."""
    told = [] if events is None else events
    return JobRun(job, told.append, look_s=LOOK_S).run()


def has_ended(pid: int) -> bool:
    """Whether a process is gone, soon; the system may take a moment to collect it."""
    stat_file = Path(f"/proc/{pid}/stat")
    for _ in range(1000):
        try:
            if stat_file.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        os.sched_yield()
    return False
