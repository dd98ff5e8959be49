"""Jobs and templates in words, for people at a terminal. What scripts say has no control signs."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distrai.jobs.data.check import data_text
from distrai.jobs.estimates.costing import cost_text

_SHORT, _SHOWN, _NARROW = 48, 8, 24


def printable(text: str) -> str:
    """A text of somebody else without what would drive a terminal."""
    return "".join(item if item.isprintable() or item in "\n\t" else "�" for item in text)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns with two blanks between them; the last one is never cut, and wrapped where the terminal ends."""
    lines = [tuple(headings), *((*map(_cut, row[:-1]), " ".join(row[-1].split())) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    begin = sum(widths[:-1]) + 2 * len(widths[:-1])
    room = shutil.get_terminal_size((0, 0)).columns - begin
    return "\n".join(
        "  ".join(
            [*map(str.ljust, line[:-1], widths), _wrapped(line[-1], room).replace("\n", "\n" + " " * begin)]
        ).rstrip()
        for line in lines
    )


def _wrapped(text: str, room: int) -> str:
    """A text in lines of so many signs; as it is where there is hardly room, or no terminal."""
    return textwrap.fill(text, room, break_long_words=False) if room >= _NARROW else text


def form_text(told: Mapping[str, Any], versions: Sequence[str] = ()) -> str:
    """The form of a template."""
    head = f"{told['template']}: {told['title'] or 'no title'}" + (
        f" ({told['kind']})" if told["kind"] else ""
    )
    rows = [
        (f"  {name}", field["type"], _default(field), _allowed(field))
        for name, field in told["parameters"].items()
    ]
    presets = [
        f"  {name}: " + ", ".join(f"{key}={value}" for key, value in values.items())
        for name, values in told["presets"].items()
    ]
    parts = [
        head,
        f"SHA-256 {told['hash']}" + (f", made from {told['origin']}" if told["origin"] else ""),
        f"needs {', '.join(told['dependencies']) or 'nothing but Python'}",
        table(("  parameter", "type", "default", "what it is"), rows) if rows else "no parameters",
        "presets:\n" + "\n".join(presets) if presets else "no presets",
        "versions, the oldest first:\n" + "\n".join(f"  {version}" for version in versions)
        if versions
        else "",
        f"Run it: distrai jobs run {told['path'] or told['template']}"
        + (" --preset smoke" if "smoke" in told["presets"] else "")
        + "".join(
            f" --set {name}=..." for name, field in told["parameters"].items() if "default" not in field
        ),
    ]
    return printable("\n".join(part for part in parts if part))


def jobs_text(jobs: Sequence[Mapping[str, Any]]) -> str:
    """All jobs as a table."""
    if not jobs:
        return "no jobs yet: `distrai jobs list --templates` shows what there is to run"
    rows = [
        (
            job["job_id"],
            job["kind"],
            job["status"].partition(":")[0],
            str(job["step"] or ""),
            ", ".join(_pairs(job["metrics"])[:2]) or _metrics(_telling(job["metrics"]), 2),
            job["created_at"],
        )
        for job in jobs
    ]
    return printable(table(("job", "kind", "status", "step", "last metrics", "begun (UTC)"), rows))


def templates_text(templates: Sequence[Mapping[str, Any]]) -> str:
    """All templates as a table."""
    rows = [
        (item["template"], item["title"], "shipped" if item["shipped"] else "yours") for item in templates
    ]
    return printable(table(("template", "what it does", "whose"), rows)) if rows else "no templates"


def job_text(told: Mapping[str, Any]) -> str:
    """One job: what it did and what came of it."""
    lines = [
        f"{told['job_id']}: {told['status']}" + (f", {told['why']}" if told["why"] else ""),
        f"  in {told['folder']}, {told['seconds']:.0f} s in {told['attempt']} attempt(s)",
        *_figures(told["metrics"]),
        f"  script SHA-256 {told['script_hash']}" if told["script_hash"] else "",
        *(f"  {item['path']}  {item['sha256']}" for item in told["artifacts"]),
        f"  training record {told['record']['number']} on chain {told['record']['chain_id']}"
        if told["record"]
        else "",
        ""
        if told["status"] == "done" or told["status"].startswith(("running", "preparing"))
        else f"  go on with it: distrai jobs run {told['folder']}",
    ]
    return printable("\n".join(line for line in lines if line))


def result_text(told: Mapping[str, Any]) -> str:
    """The end of a run."""
    lines = [
        f"{told['job_id']}: {told['status']}" + (f": {told['why']}" if told.get("why") else ""),
        *_figures(told["metrics"]),
        f"  {len(told['artifacts'])} file(s) in {told['folder']}/out" if told["artifacts"] else "",
        f"  the model is in {told['model_path']}" if told["model_path"] else "",
        f"  training record {told['record']['number']} on chain {told['record']['chain_id']}"
        if told["record"]
        else "",
        *_what_next(told),
        *_still_open(told),
        "" if told["status"] == "done" else f"  go on with it: distrai jobs run {told['folder']}",
    ]
    return printable("\n".join(line for line in lines if line))


def _what_next(told: Mapping[str, Any]) -> list[str]:
    """What can be done with a finished model."""
    if told["status"] != "done" or not told["model_path"]:
        return []
    lines = [
        f"  try it: distrai models generate {told['folder']} 'Once upon a time'",
        f"  judge it: distrai eval {told['folder']}",
    ]
    return lines + (
        [f"  see its record: distrai jobs show {told['folder']} --ledger"] if told["record"] else []
    )


def _still_open(told: Mapping[str, Any]) -> list[str]:
    """What closes a record that was kept open."""
    if told["status"] != "done" or not told["record"] or told["record"].get("closed"):
        return []
    return [
        "  its training record is still open; either of these closes it:",
        f"    distrai models push {told['folder']} OWNER/NAME",
        f"    distrai jobs close {told['folder']}",
    ]


def check_text(told: Mapping[str, Any]) -> str:
    """What a check found."""
    values = ", ".join(f"{name}={value}" for name, value in told["values"].items()) or "none"
    packages = (
        f"an environment is made once for {', '.join(told['missing'])}" if told["missing"] else "all there"
    )
    accepted = "accepted" if told["accepted"] else f"not accepted yet: run it with --accept {told['hash']}"
    lacking = ", ".join(f"--set {name}=..." for name in told["lacking"])
    lines = [
        told["diff"],
        form_text(told["form"]) if told["form"] else "",
        _readiness(told, accepted),
        f"  still needed: {lacking}" if lacking else "",
        "" if told["form"] else f"  SHA-256 {told['hash']}",
        f"  packages: {'ready' if told['environment'] == 'ready' and told['missing'] else packages}",
        f"  values: {values}",
        data_text(told["data"]) if told["data"] else "",
        cost_text(told["estimate"]) if told["estimate"] else "",
    ]
    return printable("\n".join(line for line in lines if line))


def _readiness(told: Mapping[str, Any], accepted: str) -> str:
    """Whether it can be run, in a line."""
    if told["ok"]:
        return f"{told['template']} can be run ({accepted})"
    why = "it still needs values" if told["lacking"] else "its data cannot be used"
    return f"{told['template']} cannot be run like this: {why}"


def event_text(event: Mapping[str, Any]) -> str:
    """One event as a line of a log."""
    match event["event"]:
        case "metric":
            step = (
                f"step {event['step']}" + (f"/{event['total']}" if event.get("total") else "")
                if "step" in event
                else ""
            )
            text = f"{step} {_metrics(event['values'], 20)}".strip()
        case "state":
            text = event["status"] + (f": {event['why']}" if event.get("why") else "")
        case "artifact":
            text = f"{event['kind']} {event['path']}"
        case "record":
            text = f"training record {event['record']}: {event['stage']}"
        case "saved":
            text = f"the model is in {event['location']}"
        case "evaluation":
            text = f"{event['when']} training: {_metrics(event['values'], 20)}"
        case "refused":
            text = f"refused: {event['why']}"
        case _:
            text = str(event.get("text", ""))
    return printable(f"{str(event.get('at', ''))[11:19]} {text}")


def _telling(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """What says most of a job first: what was measured at the end, then the loss; nothing of how fast that was."""
    plain = [name for name in metrics if not name.endswith(("_time", "_runtime", "_per_second"))]
    first = sorted(plain, key=lambda name: (not name.endswith("_after"), name != "loss"))
    return {name: metrics[name] for name in first}


def _figures(metrics: Mapping[str, float | None]) -> list[str]:
    """What was measured before and after, a line each; without such, the newest numbers."""
    lines = [f"  {line}" for line in _pairs(metrics)]
    newest = _metrics(metrics, _SHOWN)
    return lines or ([f"  {newest}"] if newest else [])


def _pairs(metrics: Mapping[str, float | None]) -> list[str]:
    return [_pair(metrics, name.removesuffix("_after")) for name in metrics if name.endswith("_after")]


def _pair(metrics: Mapping[str, float | None], name: str) -> str:
    before, after = (_number(metrics.get(f"{name}{end}")) for end in ("_before", "_after"))
    return f"{name}: {before} -> {after}" if f"{name}_before" in metrics else f"{name}: {after}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"


def _metrics(metrics: Mapping[str, float | None], most: int) -> str:
    shown = [f"{name} {_number(value)}" for name, value in metrics.items()]
    return ", ".join(shown[:most])


def _default(field: Mapping[str, Any]) -> str:
    return str(field["default"]) if "default" in field else "(needed)"


def _allowed(field: Mapping[str, Any]) -> str:
    choices = f"one of {', '.join(str(item) for item in field['choices'])}" if "choices" in field else ""
    low = f"at least {field['min']:g}" if "min" in field else ""
    high = f"at most {field['max']:g}" if "max" in field else ""
    return "; ".join(part for part in (field.get("help", ""), choices, low, high) if part)


def _cut(text: str) -> str:
    text = " ".join(text.split()) if not text.startswith("  ") else text
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
