"""What a comparison amounts to: one entry for each arm, as plain data."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from distrai.comparison.campaign import Campaign
from distrai.comparison.cells import sweep_steps
from distrai.comparison.links import wall_of
from distrai.comparison.plan import Arm
from distrai.training.baseline import GRADIENT_BYTES

Found = Mapping[str, Any]


def report(campaign: Campaign, parameters: int) -> dict[str, Any]:
    """The figures of all arms that are compared, as far as they are known; ``partial`` if some are missing."""
    comparison = campaign.comparison
    reference, step_s = _reference(campaign), _step_s(campaign)
    return {
        "name": comparison.name,
        "tokens": comparison.tokens,
        "params": parameters,
        "corpus_hash": campaign.figures.corpus_hash,
        "partial": bool(campaign.missing()),
        "peers": comparison.peers,
        "seeds": list(campaign.seeds),
        "step_s": step_s,
        "arms": [_arm(campaign, arm, reference, parameters, step_s) for arm in campaign.arms],
    }


def paired_excess(losses: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """By how many per cent losses are above a reference of the same seeds: mean and extremes of the pairs."""
    each = [100 * (loss / base - 1) for loss, base in zip(losses, reference, strict=True)]
    return {
        "mean": round(statistics.fmean(each), 3),
        "min": round(min(each), 3),
        "max": round(max(each), 3),
        "pairs": len(each),
    }


def _reference(campaign: Campaign) -> dict[int, float]:
    """Bits per byte of data-parallel training by seed, as far as they are known (of all arms, not only the chosen)."""
    arm = next((arm for arm in campaign.comparison.arms if arm.averages_gradients), None)
    if arm is None:
        return {}
    finals = _finals(campaign, arm)
    return {
        seed: found["bits_per_byte"] for seed, found in finals.items() if found["bits_per_byte"] is not None
    }


def _finals(campaign: Campaign, arm: Arm) -> dict[int, Found]:
    found: dict[int, Found] = {}
    for seed in campaign.seeds:
        cell = campaign.final_cell(arm, seed)
        known = None if cell is None else campaign.result(cell)
        if known is not None:
            found[seed] = known
    return found


def _arm(
    campaign: Campaign, arm: Arm, reference: Mapping[int, float], parameters: int, step_s: float
) -> dict[str, Any]:
    comparison, finals = campaign.comparison, _finals(campaign, arm)
    good = {seed: found for seed, found in finals.items() if found["bits_per_byte"] is not None}
    whole = bool(good) and len(good) == len(finals)
    losses = [found["loss"] for found in good.values()]
    up = _mean_bytes(good, "payload_up", comparison.peers)
    pairs = [seed for seed in good if seed in reference]
    per_byte = [found["bits_per_byte"] for found in good.values()]
    baseline = GRADIENT_BYTES * parameters * comparison.steps(arm)
    return {
        "name": arm.name,
        "preset": arm.spec.preset,
        "seeds": list(finals),
        "loss_mean": round(statistics.fmean(losses), 6) if whole else None,
        "loss_spread": round(max(losses) - min(losses), 6) if whole else None,
        "bits_per_byte_mean": round(statistics.fmean(per_byte), 6) if whole else None,
        "bits_per_byte": [_rounded(found["bits_per_byte"]) for found in finals.values()],
        "excess_over_ddp_percent": paired_excess(
            [good[seed]["bits_per_byte"] for seed in pairs], [reference[seed] for seed in pairs]
        )
        if pairs and whole
        else None,
        "payload_up_per_peer": up,
        "payload_down_per_peer": _mean_bytes(good, "payload_down", comparison.peers),
        "ratio_to_ddp": round(baseline / up, 2) if up else None,
        "swept": _swept(campaign, arm),
        "diverged": {str(seed): found["why"] for seed, found in finals.items() if seed not in good},
        "inner_state": arm.spec.inner_state,
        "inner_steps": arm.spec.inner_steps,
        "tokens": _mean(good, "tokens"),
        "steps_dropped": _mean(good, "steps_dropped"),
        "cpu_s": _mean(good, "cpu_s"),
        "wall_s": _walls(campaign, arm, good, step_s),
        "curve": _curve(list(good.values())),
    }


def _step_s(campaign: Campaign) -> float:
    """Seconds of an inner step here: the median over all runs, so that who else was busy favours no arm."""
    found = [
        run["step_s"] for arm in campaign.arms for run in _finals(campaign, arm).values() if run["step_s"]
    ]
    return round(statistics.median(found), 6) if found else 0.0


def _swept(campaign: Campaign, arm: Arm) -> dict[str, Any]:
    """The rates that were chosen, and every run that they were chosen by."""
    owner = campaign.comparison.arm(arm.rates_of) if arm.rates_of else arm
    rates = campaign.rates(arm)
    steps = sweep_steps(campaign.comparison, owner)
    runs = [
        {"lr": found["lr"], "outer_lr": found["outer_lr"], "bits_per_byte": _rounded(found["bits_per_byte"])}
        for found in campaign.known.values()
        if found["arm"] == owner.name and found["settings"]["split"] == "tuning"
    ]
    return {
        "lr": rates.lr,
        "outer_lr": None if owner.averages_gradients else rates.outer_lr,
        "done": not rates.wanted,
        "at_edge": rates.at_edge,
        "rates_of": arm.rates_of or None,
        "steps": steps,
        "seed": campaign.comparison.sweep.seed,
        "runs": sorted(runs, key=lambda run: (run["lr"], run["outer_lr"])),
    }


def _walls(campaign: Campaign, arm: Arm, good: Mapping[int, Found], step_s: float) -> dict[str, Any]:
    """Simulated seconds by link, with the share of them in which the slowest peer computes."""
    if not good:
        return {}
    comparison, seed = campaign.comparison, next(iter(good))
    cell = campaign.final_cell(arm, seed)
    assert cell is not None
    rounds = cell.rounds(comparison.peers)
    walls = {}
    for link in comparison.links:
        wall = wall_of(cell, rounds, good[seed]["round_bytes"], link, step_s)
        walls[link.name] = {"s": round(wall.total_s, 2), "utilisation": round(wall.utilisation, 4)}
    return walls


def _curve(runs: Sequence[Found]) -> list[dict[str, Any]]:
    """Mean over the seeds of the loss on the tuning split, against tokens and payload."""
    points = zip(*(run["curve"] for run in runs), strict=False) if runs else ()
    return [
        {
            "tokens": each[0]["tokens"],
            "payload_up_per_peer": each[0]["payload_up_per_peer"],
            "bits_per_byte": round(statistics.fmean([point["bits_per_byte"] for point in each]), 5),
        }
        for each in points
    ]


def _mean(found: Mapping[int, Found], key: str) -> float | None:
    return round(statistics.fmean([item[key] for item in found.values()]), 2) if found else None


def _mean_bytes(found: Mapping[int, Found], key: str, peers: int) -> int | None:
    return round(statistics.fmean([item[key] for item in found.values()]) / peers) if found else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
