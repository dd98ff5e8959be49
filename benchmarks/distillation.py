"""What a teacher gives a student that many peers train: ``python benchmarks/distillation.py [--seeds 1,2,3] [--keep]``.

Every run is a real one: ``distrai run`` with four peers, then ``distrai replay``. The teacher (``together_base.toml``)
has four times the parameters of the student (``together_student.toml``) and has read six times as many tokens. For
each seed the student is trained twice, with the teacher and without, from the same initial parameters; what is
compared is the held-out loss on text, not the loss that is minimised.

The learning rate is chosen on the tuning split, with a seed of its own, for the student *without* a teacher: that one
has the better rate if there is a difference. Nothing about the teacher is tuned. About 20 CPU minutes.
Finished runs are files below build/bench/together; a second start goes on where the first was stopped.
"""

import argparse
from statistics import fmean, stdev
from typing import Any

from common import ROOT, destination, report_head, write_json
from distrai.runs.comparing import parse_seeds
from together_runs import BASE_RECIPE, base_model, extended, in_common, measured

STUDENT = ROOT / "benchmarks" / "together_student.toml"
TEACHER = "../build/bench/together/base/model"
RATES = (3e-3, 6e-3, 1.2e-2)
"""To begin with; if the best is at an end, one more is tried there."""
WEIGHT = 0.5
"""Of the teacher in the loss: what a recipe has that does not say it. Not tuned, nor is the temperature of 2."""
TUNING_SEED = 101
"""None of those that are reported."""
HELD_OUT_SAMPLES = 1024
"""Of 128 bytes, evenly spaced: about a fifth of what is held out."""


def trained(seed: int, lr: float, weight: float | None) -> dict[str, Any]:
    """A run of the student; ``weight`` None: without the teacher."""
    name = f"student-{seed}-{lr:g}" + ("" if weight is None else f"-taught-{weight:g}")
    changes = [f"seed={seed}", f"training.lr={lr:g}"]
    if seed != TUNING_SEED:
        changes.append(f"evaluation.samples_final={HELD_OUT_SAMPLES}")
    if weight is not None:
        table = f'{{path = "{TEACHER}", license = "Apache-2.0", weight = {weight}}}'
        changes += ['training.objective="distill"', f"teacher={table}"]
    return in_common(name, STUDENT, changes)


def chosen() -> dict[str, Any]:
    """The learning rate, and the tuning losses (bits per byte) by which it was chosen."""
    rates = extended(RATES, lambda lr: tuning_loss(trained(TUNING_SEED, lr, None)), more=1)
    return {
        "seed": TUNING_SEED,
        "rates": [{"lr": each, "bits_per_byte": loss} for each, loss in rates.items()],
        "lr": min(rates, key=rates.__getitem__),
        "weight": WEIGHT,
    }


def tuning_loss(run: dict[str, Any]) -> float:
    """Bits per byte on the tuning split."""
    found: float = measured(run["name"], "tuning")["bits_per_byte"]
    return found


def pair(seed: int, lr: float, weight: float) -> dict[str, Any]:
    """Both runs of a seed, and what the teacher changed."""
    without, taught = trained(seed, lr, None), trained(seed, lr, weight)
    gain = taught["bits_per_byte_end"] - without["bits_per_byte_end"]
    return {
        "seed": seed,
        "without": without,
        "with_teacher": taught,
        "same_start": without["bits_per_byte_start"] == taught["bits_per_byte_start"],
        "difference": gain,
        "difference_percent": 100 * gain / without["bits_per_byte_end"],
        "replayed": without["replay"]["ok"] and taught["replay"]["ok"],
    }


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    head, teacher, settings = report_head(), base_model(), chosen()
    pairs = [pair(seed, settings["lr"], settings["weight"]) for seed in parse_seeds(options.seeds)]
    student = pairs[0]["without"]
    percent = [each["difference_percent"] for each in pairs]
    told = {
        "recipes": {path.name: path.read_text() for path in (BASE_RECIPE, STUDENT)},
        "teacher": teacher,
        "teacher_over_student": {
            "parameters": teacher["params"] / student["params"],
            "tokens": teacher["tokens"] / student["tokens"],
        },
        "tuning": settings,
        "seeds": len(pairs),
        "pairs": pairs,
        "difference_percent": {
            "mean": fmean(percent),
            "min": min(percent),
            "max": max(percent),
            "standard_deviation": stdev(percent) if len(percent) > 1 else None,
        },
    }
    to = destination("distillation", options.keep)
    write_json(to, head | told)
    for each in pairs:
        ends = [each[arm]["bits_per_byte_end"] for arm in ("without", "with_teacher")]
        print(
            f"seed {each['seed']}: {ends[0]:.4f} without, {ends[1]:.4f} with, {each['difference_percent']:+.2f} %"
        )
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()
