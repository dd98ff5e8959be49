"""One ``distrai init``: asking what is not said, writing the recipe, trying a step, telling what a run will need."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from distrai.protocol.recipe import Recipe, RecipeError
from distrai.runs.drafting import PRESETS, SIZES, Choices, write_recipe
from distrai.runs.needs import Duration, Needs, duration_of, needs_of, needs_text
from distrai.runs.pace import step_time

_QUESTIONS = {
    "name": "What is the run called?",
    "globs": "Which text files to train on (globs, separated by spaces; empty: Python's standard library)?",
    "size": "How large is the model: "
    + ", ".join(f"{name} ({size.parameters:,})" for name, size in SIZES.items())
    + "?",
    "preset": f"Which algorithm ({', '.join(PRESETS)})?",
    "peers": "How many peers are there when it begins?",
    "rounds": "How many rounds?",
    "where": "Are the peers on one machine or network (local), or far apart (internet)?",
    "admission": "Do others join by invitation, or is it open?",
}


@dataclass(frozen=True)
class Initiated:
    """A recipe that was written, and what it will need."""

    path: Path
    recipe: Recipe
    needs: Needs
    time: Duration

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        time = asdict(self.time) | {"how": "measured" if self.time.step.measured else "estimated"}
        time["step_s"] = time.pop("step")["seconds"]
        return {"ok": True, "recipe": str(self.path), "needs": self.needs.to_json(), "time": time}

    def text(self) -> str:
        """For people."""
        where = shlex.quote(str(self.path))
        return "\n".join(
            [
                f"{self.path} is written: edit it as you like. It will need about:",
                "",
                needs_text(self.recipe, self.needs, self.time),
                "",
                f"  What to type next: distrai doctor {where}   (can this machine do it?)",
                f"                     distrai run {where}      (do it)",
            ]
        )


def ask_for(given: Mapping[str, Any], ask: Callable[[str], str]) -> dict[str, Any]:
    """What the flags do not say, from answers; an empty answer is the usual."""
    usual = {item.name: item.default for item in fields(Choices)}
    answers = dict(given)
    for key, question in _QUESTIONS.items():
        if key not in answers:
            default = usual[key]
            shown = " ".join(default) if isinstance(default, tuple) else default
            answer = ask(f"{question} [{shown}] ").strip()
            if answer:
                answers[key] = _parsed(key, answer, default)
    if answers.get("globs") and "data_license" not in answers:
        answers["data_license"] = ask("Under which licence are these files? [unknown] ").strip() or "unknown"
    return answers


def _parsed(key: str, answer: str, default: object) -> object:
    if isinstance(default, tuple):
        return tuple(shlex.split(answer))
    if not isinstance(default, int):
        return answer
    if not (answer.isascii() and answer.isdecimal()):
        raise RecipeError(key, f"{answer[:80]!r} is no number", f"use a whole number, like {default}")
    return int(answer)


def initiate(choices: Choices, path: Path, *, force: bool) -> Initiated:
    """Write the recipe and find out what it needs: deadlines follow from a step that is tried. Raises RecipeError."""
    recipe = write_recipe(choices, path, force=force)
    needs = needs_of(recipe, path.parent)
    time = duration_of(recipe, step_time(recipe, needs.passed_parameters, folder=path.parent))
    slow_s = (
        time.here_s / recipe.rounds.count if choices.where == "local" else time.apart_s / recipe.rounds.count
    )
    recipe = write_recipe(replace(choices, round_s=max(0.1, slow_s)), path, force=True)
    return Initiated(path, recipe, needs, time)
