"""A comparison from files, and from its first run to its report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distrai.comparison.campaign import Campaign, Trainer
from distrai.comparison.cells import Cell, Figures, write_json
from distrai.comparison.head import report_head
from distrai.comparison.laboratory import Laboratory
from distrai.comparison.plan import Comparison, parse_comparison
from distrai.comparison.report import report
from distrai.protocol.recipe import RecipeError
from distrai.runs.recipes import read_toml, set_keys

OnCell = Callable[[Cell, dict[str, Any]], None]


def load_comparison(path: Path, changes: Sequence[str] = ()) -> Comparison:
    """Read and check a file for ``distrai compare``; ``changes`` are ``key=value``. Raises RecipeError."""
    mapping = set_keys(read_toml(path), changes)
    base = mapping.get("base", "")
    recipe: dict[str, Any] = {}
    folder = path.parent
    if isinstance(base, str) and base:
        found = path.parent / base
        try:
            recipe = read_toml(found)
        except RecipeError as error:
            raise RecipeError("base", f'"{base}": {error.problem}', error.suggestion) from None
        folder = found.parent
    return parse_comparison(mapping, recipe, folder.resolve())


def begin(
    comparison: Comparison, out: Path, only: Sequence[str], seeds: Sequence[int], device: str
) -> tuple[Laboratory, Campaign]:
    """Build what the runs share, and find what has been trained before.

    Raises RecipeError for arms that are unknown, and what building corpus and model raises.
    """
    arms = comparison.selected(only)
    lab = Laboratory(comparison, device)
    lab.check()
    figures = Figures(out, comparison, lab.corpus_hash, lab.device.type)
    return lab, Campaign(comparison, figures, arms, tuple(seeds) or comparison.seeds)


def run_comparison(lab: Laboratory, campaign: Campaign, jobs: int, on_cell: OnCell) -> dict[str, Any]:
    """Train what is missing; the report, which is on disk (``result.json``) after every run, and when it is stopped."""

    def done(cell: Cell, found: dict[str, Any]) -> None:
        campaign.known[cell.name] = campaign.figures.get(cell) or found
        save(lab, campaign)
        on_cell(cell, found)

    with Trainer(lab, jobs) as trainer:
        campaign.run(trainer, done)
    return save(lab, campaign)


def save(lab: Laboratory, campaign: Campaign) -> dict[str, Any]:
    """The report as it is now, written to ``result.json``."""
    told = report(campaign, lab.parameters) | {"measured": report_head()}
    write_json(campaign.figures.folder / "result.json", told)
    return told


def parse_seeds(text: str) -> tuple[int, ...]:
    """``1,2,3`` as numbers. Raises RecipeError."""
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise RecipeError("--seeds", f'"{text}" is no list of numbers', "write it like 1,2,3") from None
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise RecipeError("--seeds", f'"{text}" names no seeds', "write different whole numbers, like 1,2,3")
    return seeds
