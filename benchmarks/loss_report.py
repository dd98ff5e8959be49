"""What the runs of the benchmark of loss against payload amount to: ratios within each seed, and their spread."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Finals = Mapping[str, Sequence[Mapping[str, Any]]]
"""The final runs of every arm, in the order of the seeds."""


def paired_excess(losses: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """By how many per cent losses are above a reference of the same seeds: each pair, mean, extremes, deviation."""
    each = [100 * (loss / base - 1) for loss, base in zip(losses, reference, strict=True)]
    return {
        "mean": round(statistics.fmean(each), 3),
        "min": round(min(each), 3),
        "max": round(max(each), 3),
        "stdev": round(statistics.stdev(each), 3) if len(each) > 1 else None,
        "each": [round(item, 3) for item in each],
    }


def summary(finals: Finals, rates: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """One row for each arm. Arms with a run that diverged have no ratios."""
    losses = {name: [run["bits_per_byte"] for run in runs] for name, runs in finals.items()}
    return [
        {
            "arm": name,
            "lr": rates[name][0],
            "outer_lr": rates[name][1] if name != "ddp" else None,
            "held_out_bits_per_byte": [None if item is None else round(item, 5) for item in losses[name]],
            "mean": None if None in losses[name] else round(statistics.fmean(losses[name]), 5),
            "payload_bytes_per_peer": runs[0]["payload_bytes_per_peer"],
            "payload_times_smaller_than_ddp": round(
                finals["ddp"][0]["payload_bytes_per_peer"] / max(1, runs[0]["payload_bytes_per_peer"]), 1
            ),
            "excess_over_ddp_percent": _excess(losses, name, "ddp"),
            "excess_over_diloco_percent": _excess(losses, name, "diloco"),
        }
        for name, runs in finals.items()
    ]


def _excess(losses: Mapping[str, list[float | None]], name: str, reference: str) -> dict[str, Any] | None:
    values = [item for item in losses[name] if item is not None]
    base = [item for item in losses[reference] if item is not None]
    return paired_excess(values, base) if len(values) == len(base) else None


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        f"{'arm':16} {'lr':>7} {'outer':>6} {'bits/byte':>10} {'over ddp':>21} {'MB a peer':>10} {'less':>7}"
    ]
    for row in rows:
        over = row["excess_over_ddp_percent"]
        spread = f"{over['mean']:+.2f} % ({over['min']:+.1f}..{over['max']:+.1f})" if over else "diverged"
        outer = "-" if row["outer_lr"] is None else f"{row['outer_lr']:g}"
        mean = "-" if row["mean"] is None else f"{row['mean']:.4f}"
        lines.append(
            f"{row['arm']:16} {row['lr']:>7g} {outer:>6} {mean:>10} {spread:>21} "
            f"{row['payload_bytes_per_peer'] / 1e6:>10.2f} {row['payload_times_smaller_than_ddp']:>6}x"
        )
    return "\n".join(lines)
