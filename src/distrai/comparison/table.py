"""The table of a comparison, for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

Row = Mapping[str, Any]


def tables(told: Mapping[str, Any]) -> Group:
    """Two lines for each arm, the least loss first: its loss and bytes, and its simulated wall times.

    Arms that have no figures yet come last.
    """
    arms = sorted(told["arms"], key=_rank)
    losses = _table("arm", "lr", "outer", "bits/byte", "over ddp", "up", "fewer")
    for arm in arms:
        losses.add_row(*_losses(arm))
    parts: list[RenderableType] = [title(told), losses, notes(told)]
    links = list(dict.fromkeys(link for arm in arms for link in arm["wall_s"]))
    if links:
        walls = _table("arm", "down", *links)
        for arm in arms:
            times = [_duration(arm["wall_s"].get(link)) for link in links]
            walls.add_row(arm["name"], _size(arm["payload_down_per_peer"]), *times)
        parts += [
            "",
            "Payload down per peer; simulated wall time by link, and how much of it is computing.",
            walls,
        ]
    return Group(*parts)


def _table(*columns: str) -> Table:
    made = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for at, name in enumerate(columns):
        made.add_column(name, justify="right" if at else "left", no_wrap=True, overflow="fold")
    return made


def title(told: Mapping[str, Any]) -> str:
    """What is compared."""
    partial = "PARTIAL: not all runs are done. " if told["partial"] else ""
    seeds = ", ".join(map(str, told["seeds"]))
    return (
        f"{partial}{told['name']}: {told['params']:,} parameters, {told['tokens']:,} tokens for each arm, "
        f"{told['peers']} peers, seeds {seeds}"
    )


def notes(told: Mapping[str, Any]) -> str:
    """What the columns mean, and what did not go well."""
    lines = [
        "Held-out bits per byte, mean over seeds; over ddp: mean of the pairs (least..most);",
        "up: payload per peer; fewer: times fewer bytes than data-parallel.",
    ]
    for arm in told["arms"]:
        for seed, why in arm["diverged"].items():
            lines.append(f"{arm['name']} diverged with seed {seed}: {why}")
        if not arm["swept"]["done"]:
            lines.append(f"{arm['name']}: its learning rates are still being chosen")
        elif arm["swept"]["at_edge"]:
            lines.append(
                f"{arm['name']}: its learning rate is the last of a ladder; a better one may lie beyond"
            )
    return "\n".join(lines)


def _losses(arm: Row) -> list[str]:
    swept, excess, ratio = arm["swept"], arm["excess_over_ddp_percent"], arm["ratio_to_ddp"]
    over = f"{excess['mean']:+.2f}% ({excess['min']:+.1f}..{excess['max']:+.1f})" if excess else "-"
    bits = arm["bits_per_byte_mean"]
    return [
        arm["name"],
        f"{swept['lr']:g}",
        "-" if swept["outer_lr"] is None else f"{swept['outer_lr']:g}",
        "-" if bits is None else f"{bits:.4f}",
        "diverged" if arm["diverged"] else over,
        _size(arm["payload_up_per_peer"]),
        "-" if ratio is None else f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x",
    ]


def _rank(arm: Row) -> tuple[bool, float]:
    bits = arm["bits_per_byte_mean"]
    return bits is None, bits or 0.0


def _duration(wall: Mapping[str, float] | None) -> str:
    if wall is None:
        return "-"
    seconds = wall["s"]
    shown = f"{seconds:.1f} s"
    if seconds >= 120:
        shown = f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.1f} min"
    return f"{shown} ({wall['utilisation']:.0%})"


def _size(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1e6:,.2f} MB" if count >= 10_000 else f"{count} B"
