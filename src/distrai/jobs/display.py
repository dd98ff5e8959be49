"""Showing a job while it runs: a bar and its newest numbers on a terminal."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from distrai.jobs.text import event_text, printable

REFRESHES_PER_SECOND = 2.0
_NUMBERS_MAX = 4


class JobDisplay:
    """One line that is redrawn; what is worth keeping scrolls past above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._doing, self._numbers = "starting", ""
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            refresh_per_second=REFRESHES_PER_SECOND,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def report(self, event: dict[str, Any]) -> None:
        """Take an event."""
        match event["event"]:
            case "metric":
                values = list(event["values"].items())[:_NUMBERS_MAX]
                self._numbers = " ".join(f"{name} {value:.4g}" for name, value in values if value is not None)
                self._bar.update(self._task, completed=event.get("step"), total=event.get("total"))
            case "status":
                self._doing = printable(str(event["text"])).replace("\n", " ")[:80]
            case "state":
                self._doing = str(event["status"])
            case "log" | "refused" | "record" | "saved" | "evaluation":
                loud = event["event"] == "refused" or event.get("level", "info") != "info"
                style = "yellow" if loud else ""
                self._console.print(Text(event_text(event), style=style), soft_wrap=True)
        self._bar.update(self._task, description=printable(f"{self._doing} {self._numbers}".strip()))
