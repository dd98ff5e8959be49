"""LoRA by four peers against LoRA on one machine: ``python benchmarks/together_lora.py [--keep]``.

The base (``together_base.toml``, trained by a run on Python's standard library) is fine-tuned to say what a function
does, from its first line: examples of numpy and torch, which it has not seen (``recipes/docstrings.py``). Four peers do
it by ``distrai run recipes/lora.toml``, exchanging int8 updates of the adapter after every ten steps; then
``distrai replay``. One machine reads the very same samples in the same blocks, from the same initial adapter, in one
process without rounds or codec: once with all members' batches in each step (as many steps as a member takes), once
with a step for each member's batch (four times as many). Each with three learning rates; the best is chosen on the
tuning split, and only then is its held-out loss looked at. The run takes the rate that was best for one machine with
as many steps, and is not tuned.

Then the same with a base of 4 bits (QLoRA), and preferences (DPO: an answer, or its words in another order): before,
after, replayed. About 10 CPU minutes.
Finished runs are files below build/bench/together; a second start goes on where the first was stopped.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from transformers import AutoModelForCausalLM

from common import ROOT, destination, report_head, write_json
from distrai.algorithms.algorithm import Algorithm
from distrai.training.model import mark_trainable
from together_runs import (
    BASE,
    BASE_RECIPE,
    TOGETHER,
    Alone,
    Bench,
    Cut,
    base_model,
    extended,
    in_common,
    measured,
)

LORA, DPO = ROOT / "recipes" / "lora.toml", ROOT / "recipes" / "dpo.toml"
RATES = (2.5e-3, 5e-3, 1e-2)
"""To begin with; while the best is at an end, one more is tried there."""
MATCHED, SMALL = Cut("as-many-steps", 4), Cut("a-step-for-each-batch", 1)
DPO_RATE = 1e-3
HERE = "../build/bench/together"
"""As seen from the recipes."""


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    head, base = report_head(), base_model()
    write_examples()
    lora = compared()
    told = {
        "recipes": {path.name: path.read_text() for path in (BASE_RECIPE, LORA, DPO)},
        "base": base,
        "lora": lora,
        "qlora": in_common("qlora", LORA, [*lora["run"]["changes"], "model.adapter.quant=nf4"]),
        "dpo": preferred(lora["run"]["name"]),
    }
    to = destination("together_lora", options.keep)
    write_json(to, head | told)
    print_figures(told)
    print(f"numbers: {to}")


def write_examples() -> None:
    """Write the examples, unless they are there."""
    folder = TOGETHER / "docstrings"
    if not (folder / "preferences.jsonl").exists():
        command = [sys.executable, str(ROOT / "recipes" / "docstrings.py"), "--out", str(folder)]
        subprocess.run(command, check=True)


def changes(base: str, examples: str) -> list[str]:
    """What is different from the recipe: a base, a file of examples, and that all of a split is looked at."""
    return [
        f"model.path={HERE}/{base}/model",
        f'data.globs=["{HERE}/docstrings/{examples}.jsonl"]',
        "evaluation.samples_final=4096",
    ]


def compared() -> dict[str, Any]:
    """One machine, and four peers on the same samples."""
    bench = Bench("lora", LORA, changes("base", "chats"))
    grids = {cut.name: tuned(bench, cut, RATES) for cut in (MATCHED, SMALL)}
    ends = {name: bench.looked_at(best(grid)) for name, grid in grids.items()}
    one = min(ends.values(), key=tuning_loss_of)
    lr = ends[MATCHED.name].lr
    run = in_common(f"lora-{lr:g}", LORA, [*changes("base", "chats"), f"training.lr={lr:g}"])
    held_out = {name: end.held_out["loss"] for name, end in ends.items() if end.held_out is not None}
    return {
        "run": run,
        "one_machine": {name: [asdict(each) for each in grid] for name, grid in grids.items()},
        "held_out_of_best": held_out,
        "loss_before": bench.measure(bench.model(), "held_out")["loss"],
        "over_one_machine": {name: run["loss_end"] / loss for name, loss in held_out.items()},
        "over_best": run["loss_end"] / held_out[one.name],
        "update_bytes": payload_bytes(bench, adapter=True),
        "update_bytes_of_whole_model": payload_bytes(bench, adapter=False),
        "exchanged_tensors": [name for name, _ in bench.resolved.layout],
        "seed": bench.recipe.seed,
    }


def tuned(bench: Bench, cut: Cut, rates: Sequence[float]) -> list[Alone]:
    """Training alone with several rates, in their order."""
    losses = extended(rates, lambda lr: bench.alone(cut, lr).tuning_loss)
    return [bench.alone(cut, lr) for lr in losses]


def best(grid: list[Alone]) -> Alone:
    """By the tuning split."""
    return min(grid, key=tuning_loss_of)


def tuning_loss_of(each: Alone) -> float:
    """What settings are chosen by."""
    return each.tuning_loss


def payload_bytes(bench: Bench, *, adapter: bool) -> int:
    """Bytes of one member's update, with the recipe's codec."""
    if adapter:
        return sum(bench.plan.payload_sizes)
    whole: Any = AutoModelForCausalLM.from_pretrained(BASE)
    return sum(Algorithm(bench.plan.spec, mark_trainable(whole, ["*"])).payload_sizes)


def preferred(base: str) -> dict[str, Any]:
    """DPO on what LoRA made, with a rate that nobody tuned."""
    changed = [*changes(base, "preferences"), f"training.lr={DPO_RATE:g}"]
    run = in_common(f"dpo-{DPO_RATE:g}", DPO, changed)
    bench = Bench("dpo", DPO, changed)
    return {
        "run": run,
        "before": bench.measure(bench.model(), "held_out"),
        "after": measured(run["name"], "held_out"),
        "exchanged_tensors": [name for name, _ in bench.resolved.layout],
    }


def print_figures(told: dict[str, Any]) -> None:
    """The figures for people."""
    lora, dpo = told["lora"], told["dpo"]
    print(f"lora: {lora['loss_before']:.4f} before, {lora['run']['loss_end']:.4f} by four peers")
    for name, ratio in lora["over_one_machine"].items():
        print(f"  one machine, {name}: {lora['held_out_of_best'][name]:.4f}; the run's is {ratio:.4f} of it")
    print(f"  update: {lora['update_bytes']:,} bytes; whole model: {lora['update_bytes_of_whole_model']:,}")
    qlora = told["qlora"]
    print(f"qlora: {qlora['loss_start']:.4f} before, {qlora['loss_end']:.4f} after")
    print(f"dpo: {dpo['before']} before, {dpo['after']} after")


if __name__ == "__main__":
    main()
