"""Showing a run while it goes on: live on a terminal, as JSON lines elsewhere."""

import json
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from distrai.runs.progress import Progress
from distrai.runs.telling import TRUST, size

REFRESHES_PER_SECOND = 2.0
"""The peers need the processor more than the picture does."""


class Display(Protocol):
    """Takes events as they come, between entering and leaving."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def report(self, event: dict[str, Any]) -> None:
        """Something happened."""
        ...


class JsonLines:
    """One JSON object per event and line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def report(self, event: dict[str, Any]) -> None:
        """Write the event; who stops reading does not stop the run."""
        with suppress(BrokenPipeError):
            self._out.write(json.dumps(event, ensure_ascii=False) + "\n")
            self._out.flush()


class LiveDisplay:
    """A few lines at the bottom of the terminal, redrawn; notices scroll past above them."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress()
        self._told = 0
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("·"),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("round", total=None)
        self._console = console
        self._live = Live(
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            get_renderable=self.picture,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def report(self, event: dict[str, Any]) -> None:
        """Take an event; the next redrawing shows it."""
        now = self.progress
        now.take(event)
        total = now.rounds or None
        self._bar.update(self._task, total=total, completed=now.round)
        while self._told < len(now.notices):
            self._console.print(Text(now.notices[self._told], style="yellow"), soft_wrap=True)
            self._told += 1

    def picture(self) -> RenderableType:
        """What the terminal shows now."""
        now = self.progress
        lines: list[RenderableType] = [Text(title(now), style="bold")]
        if now.rounds:
            lines.append(self._bar)
        if now.round or now.train_bits is not None:
            lines += [Text(learning(now)), certificate(now)]
        if now.epochs:
            lines.append(Text(f"earnings settled until round {now.settled_round} (epoch {now.epochs})"))
        if now.refused:
            lines.append(Text(f"refused so far: {now.refused} messages (last: {now.last_refusal})"))
        return Group(*lines)


def title(now: Progress) -> str:
    """Which run, and what it is doing."""
    if not now.name:
        return now.doing
    return f"{now.name} · {now.preset} · {len(now.peers)} peers · {TRUST} · {now.doing}"


def learning(now: Progress) -> str:
    """How well it learns, how fast, and at what price in bytes."""
    parts = [
        f"loss in bits per byte: train {number(now.train_bits)}, held-out {number(now.held_out)}",
        f"{now.tokens_per_s:,.0f} tokens/s" if now.tokens_per_s else "",
        f"{size(now.sent_per_peer)} sent per peer",
    ]
    return " · ".join(part for part in parts if part)


def certificate(now: Progress) -> Text:
    """Who was in the newest certificate, a mark for each peer, and who agrees with its state root."""
    if not now.round:
        return Text("no certificate yet")
    marks = "".join("●" if present else "○" for _, present in now.marks())
    have, peers, one = now.agreement
    text = Text(f"certificate {now.round}: {marks} · ")
    if one:
        text.append(f"state root {now.root[:10]}… reported by {have} of {peers} peers")
    else:
        text.append("STATE ROOTS DIFFER", style="bold red")
    return text


def number(value: float | None) -> str:
    """A loss, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def display_for(console: Console, out: TextIO, *, json_lines: bool) -> JsonLines | LiveDisplay:
    """What suits where the output goes."""
    return JsonLines(out) if json_lines or not console.is_terminal else LiveDisplay(console)
