"""What data is, before anything is spent: for ``distrai jobs data`` and ``distrai jobs check``."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distrai.jobs.data.dividing import HELD_OUT, TRAIN
from distrai.jobs.data.examples import ANY, Use, check_data
from distrai.jobs.data.prepared import read_prepared, source_of
from distrai.jobs.data.sources import HF
from distrai.jobs.data.tokens import NoTokenizer, TokenCounter, TokenizerCounter, count_bytes
from distrai.jobs.data.uses import use_of
from distrai.training.data.formats import Format

REMOTE_LIMIT = 1000
"""Rows of a data set of the hub that are looked at, if nobody says how many."""
BYTES_PER_TOKEN = (3.0, 5.0)
"""What tokenizers of large models usually take of a text for a token."""


def inspect_data(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the data of a job is, as plain data. Bad lines are told in ``problems``.

    Raises BadSource if it cannot be read at all, BadData if it is of another format than this training needs.
    """
    return look_at(
        str(values.get("data") or ""),
        use_of(kind) or ANY,
        model=str(values.get("model") or values.get("student") or values.get("tokenizer") or ""),
        context=int(values.get("context") or 0),
        limit=int(values.get("examples_max") or 0),
    )


def look_at(
    data: str,
    use: Use = ANY,
    *,
    wanted: Format | None = None,
    model: str = "",
    context: int = 0,
    limit: int = 0,
) -> dict[str, Any]:
    """What data is: a file, a data set of the hub, or a folder that ``prepare`` made. Raises BadSource, BadData.

    ``model`` says whose tokenizer counts; ``context`` where it cuts; 0 nowhere.
    """
    ready = read_prepared(Path(data)) if (Path(data) / HELD_OUT).is_file() else None
    source = str(Path(data) / TRAIN) if ready is not None else source_of(data)
    remote = source.startswith(HF)
    limit = limit or (REMOTE_LIMIT if remote else 0)
    counter, counted_by, by_tokens = counter_of(model)
    report = check_data(
        source, wanted, counter=counter, limit=limit, longest_allowed=context if by_tokens else 0, use=use
    )
    told = {
        **asdict(report),
        "ok": report.ok,
        "counted_by": counted_by,
        "counted_in": "tokens" if by_tokens else "bytes",
        "part": remote and report.examples == limit,
        "train": None if ready is None else ready.train,
        "held_out": None if ready is None else ready.held_out,
    }
    told["problems"] = [asdict(problem) for problem in report.problems]
    return told


def counter_of(model: str) -> tuple[TokenCounter, str, bool]:
    """What counts, in words, and whether those are the model's tokens: bytes where there is no tokenizer."""
    if not model:
        return count_bytes, "bytes, since no model is named", False
    try:
        return TokenizerCounter.load(model), f"by the tokenizer of {Path(model).name}", True
    except NoTokenizer:
        return count_bytes, f"bytes, since the tokenizer of {model} cannot be had here", False


def tokens_range(told: Mapping[str, Any], *, kept: bool = True) -> tuple[int, int]:
    """The fewest and the most tokens that data may have: the same number where the model's tokenizer counted."""
    count = told["tokens"]["kept" if kept else "total"]
    if told["counted_in"] == "tokens":
        return count, count
    few, many = (round(count / size) for size in reversed(BYTES_PER_TOKEN))
    return max(1, few), max(1, many)


def data_text(told: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{told['source']}: {told['examples']:,} {told['format'] or ''} examples".replace("  ", " ")]
    if told["part"]:
        lines[0] += " looked at, and there are more (--limit looks at more of them)"
    if told["examples"]:
        lines += [f"  {line}" for line in _counted(told)]
    if told["duplicates"]:
        lines.append(f"  {told['duplicates']:,} are there more than once")
    if told["held_out"] is not None:
        lines.append(f"  {told['train']:,} to train on, {told['held_out']:,} held out, only for judging")
    lines += [f"  line {problem['line']}: {problem['why']}" for problem in told["problems"]]
    if told["problem_count"] > len(told["problems"]):
        lines.append(f"  and {told['problem_count'] - len(told['problems']):,} bad lines more")
    if not told["examples"] and not told["problem_count"]:
        lines.append("  there is nothing in it")
    if told["problem_count"]:
        lines.append(f"  {told['problem_count']:,} lines cannot be used: mend them, or leave them out")
    return "\n".join(lines)


def _counted(told: Mapping[str, Any]) -> list[str]:
    tokens = told["tokens"]
    about = "" if tokens["exact"] else "about "
    if told["counted_in"] == "bytes":
        few, many = tokens_range(told, kept=False)
        counted = f"{about}{tokens['total']:,} bytes, the longest example {tokens['longest']:,}"
        return [f"{counted}: perhaps {few:,} to {many:,} tokens (counted in {told['counted_by']})"]
    lines = [f"{about}{tokens['total']:,} tokens ({told['counted_by']}), the longest {tokens['longest']:,}"]
    if tokens["too_long"]:
        of = "" if tokens["exact"] else f" of the {tokens['counted']:,} counted"
        lines.append(
            f"{tokens['too_long']:,}{of} are longer than {tokens['longest_allowed']:,} tokens and are cut: "
            f"{tokens['total'] - tokens['kept']:,} tokens are lost"
        )
    return lines
