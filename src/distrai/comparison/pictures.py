"""Plots of a comparison: held-out loss against payload, and the tuning loss on the way there."""

import math
import shutil
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distrai.comparison.table import title

UNIT = 1e6
HEIGHT = 22
_MARKERS = "ov^s<>Dph*X"


def draw(told: Mapping[str, Any], width: int = 0) -> str:
    """A plot for the terminal: held-out bits per byte against megabytes that a peer sends."""
    import plotext  # type: ignore[import-untyped]  # it has no types

    arms = _finished(told)
    if not arms:
        return "nothing to plot yet"
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(width or shutil.get_terminal_size().columns, 120), HEIGHT)
    letters = dict(zip(string.ascii_letters, arms, strict=False))
    for letter, arm in letters.items():
        plotext.scatter([math.log10(_megabytes(arm))], [arm["bits_per_byte_mean"]], marker=letter)
    sent = [math.log10(_megabytes(arm)) for arm in arms]
    low, high = math.floor(min(sent)), math.floor(max(sent)) + 1
    plotext.xlim(low, high)
    plotext.xticks(range(low, high + 1), [f"{10.0**at:g}" for at in range(low, high + 1)])
    plotext.title("held-out bits per byte against payload up, MB a peer" + " (PARTIAL)" * told["partial"])
    names = "  ".join(f"{letter} {arm['name']}" for letter, arm in letters.items())
    return f"{plotext.uncolorize(plotext.build())}\n{names}"


def write_png(told: Mapping[str, Any], path: Path) -> Path:
    """The same as a PNG, with the curves on the tuning split beside it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title(told))
    ends, curves = figure.subplots(1, 2)
    for at, arm in enumerate(_finished(told)):
        marker, colour = _MARKERS[at % len(_MARKERS)], f"C{at % 10}"
        ends.scatter(
            _megabytes(arm), arm["bits_per_byte_mean"], marker=marker, color=colour, label=arm["name"]
        )
        low, high = min(_known(arm)), max(_known(arm))
        ends.vlines(_megabytes(arm), low, high, color=colour)
        points = [point for point in arm["curve"] if point["payload_up_per_peer"] > 0]
        sent = [point["payload_up_per_peer"] / UNIT for point in points]
        losses = [point["bits_per_byte"] for point in points]
        curves.plot(sent, losses, marker=marker, markersize=4, color=colour, label=arm["name"])
    for axes, says in (
        (ends, "held-out, at the end; lines: all seeds"),
        (curves, "tuning split, on the way"),
    ):
        axes.set_xscale("log")
        axes.set(xlabel="payload up, MB a peer", ylabel="bits per byte", title=says)
        axes.grid(visible=True, which="major", alpha=0.3)
    if _finished(told):
        ends.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.print_png(path)  # type: ignore[no-untyped-call]  # matplotlib has types for most, not for this
    return path


def _finished(told: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The arms that have a loss and have sent something."""
    arms = [
        arm for arm in told["arms"] if arm["bits_per_byte_mean"] is not None and arm["payload_up_per_peer"]
    ]
    return sorted(arms, key=lambda arm: float(arm["bits_per_byte_mean"]))


def _megabytes(arm: Mapping[str, Any]) -> float:
    return float(arm["payload_up_per_peer"] / UNIT)


def _known(arm: Mapping[str, Any]) -> list[float]:
    return [value for value in arm["bits_per_byte"] if value is not None]
