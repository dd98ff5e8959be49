"""``distrai jobs data``: what a user typed, checked; then looked at, and divided where a folder was named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.data.check import look_at
from distrai.jobs.data.dividing import HELD_OUT, prepare
from distrai.jobs.data.examples import ANY, BadData, Use
from distrai.jobs.data.prepared import source_of
from distrai.jobs.data.uses import KINDS, use_of
from distrai.jobs.forms.library import Library
from distrai.training.data.formats import Format

_LIMIT_MAX = 1 << 40


@dataclass(frozen=True)
class Look:
    """What is asked of data; see the verb."""

    source: str
    format: str = ""
    use: str = ""
    model: str = ""
    context: int = 0
    limit: int = 0
    out: Path | None = None
    held_out: float = 0.05
    seed: int = 0


def look(asked: Look) -> dict[str, Any]:
    """Check data, and divide it. Raises BadData, BadSource, NoTemplate, BadHeader."""
    wanted, use = _format(asked.format), _use(asked.use)
    if not asked.source.strip():
        raise BadData("give a file, or a data set of the hub as hf:OWNER/NAME")
    if not 0 <= asked.context < _LIMIT_MAX or not 0 <= asked.limit < _LIMIT_MAX:
        raise BadData("--context and --limit are not negative")
    if asked.context and not asked.model:
        raise BadData("--context counts tokens: name the model with --model")
    if wanted is not None and use.formats and wanted not in use.formats:
        raise BadData(f"--format {wanted.value} is nothing for {asked.use}")
    told = look_at(
        asked.source, use, wanted=wanted, model=asked.model, context=asked.context, limit=asked.limit
    )
    told["folder"] = None
    if asked.out is None or not told["ok"]:
        return told
    if (Path(asked.source) / HELD_OUT).is_file():
        raise BadData(f"{asked.source} is divided already: leave out --out")
    made = prepare(
        source_of(asked.source),
        asked.out.absolute(),
        wanted=wanted,
        held_out=asked.held_out,
        seed=asked.seed,
        limit=asked.limit,
        use=use,
    )
    told |= {"train": made.train, "held_out": made.held_out, "hash": made.hash, "folder": str(made.folder)}
    return told | {"examples": made.train + made.held_out, "part": False}


def _format(name: str) -> Format | None:
    if not name:
        return None
    try:
        return Format(name.lower())
    except ValueError:
        raise BadData(f"--format {name!r} is none of {', '.join(Format)}") from None


def _use(name: str) -> Use:
    """What a template, or a kind of training, takes; anything if none is named."""
    if not name:
        return ANY
    use = use_of(name) or use_of(Library().find(name).header().kind)
    if use is None:
        raise BadData(f"what data {name} takes is its own business; --for knows {', '.join(KINDS)}")
    return use
