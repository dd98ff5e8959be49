"""What a training script uses to talk to DisTrAI: ``import distrai_job as job``. It is copied beside every script.

Nothing but the standard library. A script in another language does the same by hand: it reads the JSON file
``DISTRAI_PARAMS``, writes into the folder ``DISTRAI_OUT``, appends lines of JSON to the file ``DISTRAI_EVENTS`` (or
prints them after ``::distrai ``), stops soon after a file ``STOP`` appears in that folder, and ends with exit code 0.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

_NOISE = ("_runtime", "_per_second", "_preparation_time")
"""What trainers log of themselves."""


def params() -> dict[str, Any]:
    """The validated values of the form."""
    return dict(json.loads(Path(os.environ["DISTRAI_PARAMS"]).read_bytes()))


def out() -> Path:
    """The folder for everything that is to stay."""
    return Path(os.environ["DISTRAI_OUT"])


def rows(part: str, limit: int = 0) -> Iterator[dict[str, Any]]:
    """The examples to learn from (``train``), or those only for judging (``heldout``); at most so many, 0 for all."""
    folder = Path(os.environ.get("DISTRAI_DATA") or params()["data"])
    path = folder / f"{part}.jsonl"
    if not path.is_file():
        raise SystemExit(f"{folder} holds no {part}.jsonl: `distrai jobs data` prepares data")
    with path.open(encoding="utf-8") as lines:
        yield from islice(map(json.loads, lines), limit or None)


def newest_checkpoint(folder: str = "checkpoints") -> str | None:
    """The newest whole checkpoint of a transformers ``Trainer`` in a folder of ``out()``: its state is written last."""
    whole = [
        path.parent for path in (out() / folder).glob("checkpoint-*/trainer_state.json") if _is_whole(path)
    ]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def attempt() -> int:
    """1 at first; more after something crashed: then go on from the newest checkpoint in ``out()``."""
    return int(os.environ.get("DISTRAI_ATTEMPT", "1"))


def should_stop() -> bool:
    """Whether somebody asked the job to stop: save what there is, and end."""
    return (out() / "STOP").exists()


def metric(
    values: dict[str, Any] | None = None, step: int | None = None, total: int | None = None, **more: Any
) -> None:
    """Report numbers, like ``metric(loss=1.2, step=5, total=15)``. What is no number is left out."""
    numbers = {
        name: _number(value) for name, value in {**(values or {}), **more}.items() if _is_number(value)
    }
    event: dict[str, Any] = {"type": "metric", "values": numbers}
    _tell(event | {name: at for name, at in (("step", step), ("total", total)) if at is not None})


def status(text: str) -> None:
    """Say what the job is doing now."""
    _tell({"type": "status", "text": str(text)})


def log(text: str, level: str = "info") -> None:
    """Say something worth keeping; ``level`` is info, warning or error."""
    _tell({"type": "log", "level": level, "text": str(text)})


def artifact(path: str | os.PathLike[str], kind: str = "file") -> None:
    """Name a file or folder inside ``out()`` as a result: model, adapter, data, report or file."""
    full = out() / path
    if not full.exists():
        raise FileNotFoundError(f"there is no artifact at {full}")
    _tell({"type": "artifact", "path": os.fspath(path), "kind": kind})


def callback() -> Any:
    """A callback for a transformers ``Trainer``: reports what it logs, and saves and ends when STOP appears."""
    from transformers import TrainerCallback  # only scripts that train with it have it

    class Reporter(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """Tells the job's events."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            told = {name: value for name, value in (logs or {}).items() if not name.endswith(_NOISE)}
            metric(told, step=state.global_step, total=state.max_steps or None)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> Any:
            if should_stop():
                control.should_save = control.should_training_stop = True
            return control

    return Reporter()


def _is_whole(path: Path) -> bool:
    """Whether a file is JSON, which one that a full disk cut off is not."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or hasattr(value, "item")


def _number(value: Any) -> float | int | None:
    """A plain number; None for one that JSON cannot tell (a loss that is NaN)."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, int) or math.isfinite(value) else None


def _tell(event: dict[str, Any]) -> None:
    line = json.dumps(event, ensure_ascii=False, allow_nan=False)
    path = os.environ.get("DISTRAI_EVENTS", "")
    try:
        with open(path, "ab", buffering=0) as file:  # noqa: PTH123  # one write: lines of two processes never mix
            file.write(line.encode() + b"\n")
    except OSError:  # no such file where the script runs alone; or the disk is full, which stops no training
        print("::distrai " + line, file=sys.stderr if path else sys.stdout, flush=True)
