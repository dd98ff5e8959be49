"""What a job's data is and what training on it will take, before anything is spent: for ``distrai jobs check``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distrai.jobs.data import HELD_OUT, TRAIN, BadData, DataReport, check_data
from distrai.jobs.data_formats import Format
from distrai.jobs.data_sources import HF, as_messages, as_preference
from distrai.jobs.estimate import Estimate, Method, NotEstimable, estimate
from distrai.jobs.tokens import NoTokenizer, TokenCounter, TokenizerCounter, count_bytes

REMOTE_LIMIT = 1000
"""Rows of a data set of the hub that are looked at."""
_FORMATS = {
    "sft": (Format.CHAT, Format.TEXT),
    "distill": (Format.CHAT, Format.TEXT),
    "distill-sft": (Format.CHAT, Format.PROMPTS),
    "grpo": (Format.CHAT,),
    "dpo": (Format.PREFERENCE,),
    "rlhf": (Format.PREFERENCE,),
    "pretrain": (Format.TEXT,),
}
_METHODS = {"dpo": Method.DPO, "distill": Method.DISTILL, "pretrain": Method.FULL}
_WRITES = ("grpo", "rlhf", "distill-sft")
"""Kinds whose models write texts while they train, which takes longest and only a run can tell."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a job would run on; ``price_per_hour`` of all GPUs in millionths of a dollar; 0 is not known."""

    gpu: str = ""
    gpus: int = 1
    price_per_hour: int | None = None
    tokens_per_second: float = 0.0


def inspect_data(
    kind: str, values: Mapping[str, Any], parameters: int = 0, hardware: Hardware | None = None
) -> dict[str, Any]:
    """What the data of a job is, as plain data; ``parameters`` of the model that is trained, 0 if not known.

    Bad lines are told in ``problems``. Raises BadSource if it cannot be read at all, BadData if it is of another
    format than this kind of training needs.
    """
    source = _source(str(values.get("data", "")))
    remote = source.startswith(HF)
    counter, counted_by = _counter(values)
    report = check_data(
        source,
        counter=counter,
        limit=REMOTE_LIMIT if remote else 0,
        longest_allowed=int(values.get("context", 0)),
        convert=partial(_as_read, kind),
    )
    _check_format(kind, report)
    told = {
        **asdict(report),
        "ok": report.ok,
        "counted_by": counted_by,
        "part": remote,
        "estimate": None,
        "note": "",
    }
    told["problems"] = [asdict(problem) for problem in report.problems]
    if hardware is not None and report.tokens is not None and not remote:
        try:
            told["estimate"] = asdict(_estimate(kind, values, report, parameters, hardware))
        except NotEstimable as error:
            told["note"] = str(error)
    return told


def data_text(told: Mapping[str, Any]) -> str:
    """The same for people."""
    tokens = told["tokens"]
    lines = [f"{told['source']}: {told['examples']:,} {told['format'] or 'unknown'} examples"]
    if told["part"]:
        lines[0] += " looked at, of a data set that is streamed"
    if tokens and told["examples"]:
        about = "" if tokens["exact"] else "about "
        lines.append(
            f"  {about}{tokens['total']:,} tokens ({told['counted_by']}), the longest {tokens['longest']:,}"
        )
        if tokens["too_long"]:
            lines.append(
                f"  {tokens['too_long']:,} are longer than {tokens['longest_allowed']:,} tokens and are cut"
            )
    if told["duplicates"]:
        lines.append(f"  {told['duplicates']:,} are there more than once")
    lines += [f"  line {problem['line']}: {problem['why']}" for problem in told["problems"]]
    if told["problem_count"] > len(told["problems"]):
        lines.append(f"  and {told['problem_count'] - len(told['problems']):,} bad lines more")
    if told["estimate"]:
        lines.append(f"  {_estimate_text(told['estimate'])}")
    if told["note"]:
        lines.append(f"  {told['note']}")
    return "\n".join(lines)


def _source(name: str) -> str:
    """A file, the part to train on of a folder that ``prepare`` made, or a data set of the hub."""
    path = Path(name)
    if (path / HELD_OUT).is_file():
        return str(path / TRAIN)
    return (
        name
        if path.exists() or name.startswith(HF) or path.suffix in (".jsonl", ".txt", ".json")
        else HF + name
    )


def _as_read(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the templates of this kind read it themselves: other shapes must be prepared first."""
    if kind in ("dpo", "rlhf") and "chosen" in row and "rejected" in row:
        return as_preference(row)
    if kind == "grpo" and "prompt" in row and "answer" in row:
        return {"messages": as_messages(row["prompt"], "user") + as_messages(str(row["answer"]), "assistant")}
    return {name: value for name, value in row.items() if value is not None}


def _check_format(kind: str, report: DataReport) -> None:
    wanted = _FORMATS.get(kind)
    if wanted is not None and report.format is not None and report.format not in wanted:
        names = " or ".join(choice.value for choice in wanted)
        raise BadData(f"{report.source} is {report.format.value} data, and {kind} needs {names}")


def _counter(values: Mapping[str, Any]) -> tuple[TokenCounter, str]:
    """The tokenizer of the model on this machine; bytes where the model would have to be fetched first."""
    model = Path(str(values.get("model") or values.get("student") or values.get("tokenizer") or ""))
    if str(model) != "." and model.is_dir():
        try:
            return TokenizerCounter.load(str(model)), f"tokenizer of {model.name}"
        except NoTokenizer:
            pass
    return count_bytes, "bytes: the model's tokenizer is not here, and has 3 to 5 times fewer"


def _estimate(
    kind: str, values: Mapping[str, Any], report: DataReport, parameters: int, hardware: Hardware
) -> Estimate:
    assert report.tokens is not None
    if kind in _WRITES and not hardware.tokens_per_second:
        raise NotEstimable(
            f"how long {kind} takes depends on the texts that the model writes: run the smoke preset, and give its "
            "tokens per second"
        )
    method = _METHODS.get(kind) or Method(str(values.get("method", Method.FULL)))
    return estimate(
        tokens=report.tokens.total,
        epochs=float(values.get("epochs", 1.0)),
        parameters=parameters,
        method=method,
        **asdict(hardware),
    )


def _estimate_text(told: Mapping[str, Any]) -> str:
    hours = f"{told['hours_low']:.1f} to {told['hours_high']:.1f} hours"
    cost = ""
    if told["cost_low"] is not None:
        cost = f", ${told['cost_low'] / 1e6:,.2f} to ${told['cost_high'] / 1e6:,.2f}"
    basis = "at the speed that was measured" if told["measured"] else "as such GPUs usually do"
    return f"{hours}{cost} {basis}; about {told['memory_gb']:.1f} GB of GPU memory"
