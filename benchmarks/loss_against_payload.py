"""Held-out loss against payload: ``python benchmarks/loss_against_payload.py [--quick] [--keep]``.

``distrai compare`` of what stands in ``loss_against_payload.toml``: data-parallel with a tuned learning rate, diloco,
prime, and sparseloco at two densities, on equal tokens and equal data, from equal parameters. Finished runs are files
below build/bench; a second start goes on where the first was stopped.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from common import BENCH, destination, report_head, write_json
from distrai.comparison.report import paired_excess
from distrai.comparison.table import tables
from distrai.runs.comparing import begin, load_comparison, run_comparison

RECIPE = Path(__file__).with_suffix(".toml")
QUICK = ("tokens=61440", "seeds=[1]", "sweep.inner=[6e-3]", "sweep.outer=[1.0]", "sweep.extend=0")
REFERENCES = ("ddp", "diloco")


def with_references(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a report, each with its name as ``arm`` and its excess over the references, seed by seed."""
    losses = {arm["name"]: arm["bits_per_byte"] for arm in arms}
    rows = []
    for arm in arms:
        row = {"arm": arm["name"], **arm}
        for reference in REFERENCES:
            known = None in losses[arm["name"]] or None in losses[reference]
            excess = None if known else paired_excess(losses[arm["name"]], losses[reference])
            row[f"excess_over_{reference}_percent"] = excess
        rows.append(row)
    return rows


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 steps and one seed: does it run at all?")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = "loss_against_payload_quick" if options.quick else "loss_against_payload"
    comparison = load_comparison(RECIPE, QUICK if options.quick else ())
    lab, campaign = begin(comparison, BENCH / name, (), (), "cpu")
    told = run_comparison(
        lab, campaign, 1, lambda cell, found: print(f"{cell.name}: {found['bits_per_byte']}", flush=True)
    )
    figures = {key: value for key, value in told.items() if key != "measured"}
    to = destination(name, options.keep and not options.quick)
    write_json(to, report_head() | figures | {"arms": with_references(told["arms"])})
    Console().print(tables(told))
    print(f"numbers: {to}")


if __name__ == "__main__":
    main()
