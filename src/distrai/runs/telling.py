"""Results in words that a newcomer understands."""

import math
import shlex
from pathlib import Path
from typing import Any

from distrai.runs.payday_text import payday_lines

TRUST = "trusted"
"""What every run is called wherever it is shown, as long as there are no audits."""
TRUST_TEXT = "trusted: members have no stake, and the checks of this version do not prove work"
STAKED_TEXT = "trusted: members have stakes, but the checks of this version do not prove work"
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_LABEL = 16


def size(count: float) -> str:
    """A number of bytes: 1.2 MB (decimal)."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.3g} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """4 min 12 s."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{whole % 60} s"]
    return " ".join(part for part in parts if part)


def printable(text: str) -> str:
    """Text that a model wrote, without what would drive a terminal."""
    return "".join(item if item.isprintable() or item in "\n\t" else "�" for item in text)


def summary_text(summary: dict[str, Any], folder: Path) -> str:
    """The content of ``summary.json`` for people, with what to type next."""
    rows = [*_learned(summary), *_sent(summary), *_time(summary), *_evidence(summary), *_model(summary)]
    lines = [_headline(summary), "", *(_row(label, text) for label, text in rows)]
    lines += payday_lines(summary, shlex.quote(str(folder)))
    if summary["sample"]:
        lines += ["", "  What it writes (it goes on from what stands before the bar):", ""]
        text = printable(f"{summary['sample']['prompt']}▏{summary['sample']['text']}")
        lines += [f"    {line}" for line in text.split("\n")]
    lines += ["", *(f"  Note: {warning}" for warning in summary["warnings"])]
    return "\n".join([*lines, *([""] if summary["warnings"] else []), *_next(summary, folder)])


def _headline(summary: dict[str, Any]) -> str:
    done, planned = summary["rounds"], summary["rounds_planned"]
    state = "Finished" if summary["finished"] else "Stopped"
    rounds = f"{done} rounds" if summary["finished"] else f"{done} of {planned} rounds"
    return (
        f"{state}: {summary['name']} ({summary['preset']}, {summary['trust']}), {rounds} by {summary['peers']} peers "
        f"on {summary['params']:,} parameters and {summary['tokens']:,} tokens, {duration(summary['wall_s'])}"
    )


def _row(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"


def _learned(summary: dict[str, Any]) -> list[tuple[str, str]]:
    if summary["loss_end"] is None:
        return [("Learned", "nobody has looked at the held-out loss yet")]
    if summary.get("accuracy_end") is not None:
        share = f"{100 * summary['accuracy_start']:.0f} % → {100 * summary['accuracy_end']:.0f} %"
        loss = f"{summary['loss_start']:.4f} → {summary['loss_end']:.4f}"
        return [
            (
                "Learned",
                f"moved towards the preferred answer in {share} of the pairs that no peer trained on",
            ),
            ("", f"loss of a pair: {loss} ({math.log(2):.4f} is knowing nothing)"),
        ]
    bits = f"{summary['bits_per_byte_start']:.2f} → {summary['bits_per_byte_end']:.2f} bits per byte"
    nats = f"{summary['loss_start']:.3f} → {summary['loss_end']:.3f} nats per token"
    return [
        ("Learned", f"{bits} on text that no peer trained on (less is better; 8 is knowing nothing)"),
        ("", f"the same as loss: {nats}"),
    ]


def _sent(summary: dict[str, Any]) -> list[tuple[str, str]]:
    payload, baseline = summary["payload_up_per_peer"], summary["bytes_ddp_per_peer"]
    less = f": {baseline / payload:,.0f} times less" if payload else ""
    up, down = size(summary["bytes_up_per_peer"]), size(summary["bytes_down_per_peer"])
    return [
        (
            "Sent per peer",
            f"{size(payload)} of updates, where data-parallel would send {size(baseline)}{less}",
        ),
        ("", f"at the socket in all, with data and copies for others: {up} up, {down} down"),
    ]


def _time(summary: dict[str, Any]) -> list[tuple[str, str]]:
    share, overhead = summary["compute_utilisation"], summary["round_overhead_s"]
    if share is None:
        return []
    text = f"{100 * share:.0f} % of the rounds spent computing"
    if overhead is not None:
        text += f"; {overhead:.2f} s a round to agree (median)"
    return [("Time", text)]


def _evidence(summary: dict[str, Any]) -> list[tuple[str, str]]:
    agree = "all peers and the ledger agree" if summary["roots_agree"] else "THE PEERS DO NOT AGREE"
    updates = f"{summary['certificates']} certificates over {summary['updates']} signed updates"
    if summary["empty_rounds"]:
        updates += f" ({summary['empty_rounds']} empty rounds)"
    if summary["roll_calls"]:
        updates += f", {summary['roll_calls']} roll calls"
    rows = [("Certificates", updates), ("State root", f"{summary['state_root']} ({agree})")]
    staked = (summary.get("money") or {}).get("stake")
    rows.append(("Trust", STAKED_TEXT if staked else TRUST_TEXT))
    if summary["refused"]:
        rules = ", ".join(f"{count} {rule}" for rule, count in summary["refused"].items())
        rows.append(("Refused", rules))
    return rows


def _model(summary: dict[str, Any]) -> list[tuple[str, str]]:
    path, rows = summary["model_path"], []
    if is_partly_frozen(summary):
        rows.append(("Trained", trained_text(summary)))
    return [*rows, ("Model", f"{path} (a Hugging Face folder)")] if path else rows


def is_partly_frozen(summary: dict[str, Any]) -> bool:
    """Whether something of the model stays as it was."""
    return bool(summary["params"] != summary.get("params_total", summary["params"]))


def trained_text(summary: dict[str, Any]) -> str:
    """How much of a model was trained, of which a part stays as it was."""
    return f"{summary['params']:,} of {summary['params_total']:,} parameters; the base stays as it was"


def _next(summary: dict[str, Any], folder: Path) -> list[str]:
    where = shlex.quote(str(folder))
    prompt = prompt_text(summary["sample"])
    typed = [
        (f"distrai generate {where} {prompt}", "more text from it"),
        (f"distrai replay {where}", "recompute the run from what was published, and compare"),
        (f"distrai export {where} --to my-model", "the model as a Hugging Face folder"),
    ]
    if summary.get("money"):
        typed.insert(2, (f"distrai earnings {where}", "what everybody earned, with the evidence"))
    if not summary["finished"]:
        typed = [(f"distrai run {where}", "go on where it stopped"), *typed]
    width = max(len(command) for command, _ in typed)
    return ["  What to type next:", *(f"    {command:<{width}}  {why}" for command, why in typed)]


def prompt_text(sample: dict[str, str] | None, *, chat: bool = False) -> str:
    """What to type after ``distrai generate RUN``: in the manner of the run's data, on one line."""
    prompt = shlex.quote(sample["prompt"]) if sample else '"def "'
    is_chat = chat or "\n" in prompt  # its own words stand around a question
    return '"What do you know?"' if is_chat else prompt


def verdict_text(told: dict[str, Any]) -> str:
    """What a replay found."""
    if told["ok"]:
        text = (
            f"The run is what it says: {told['updates']} updates in {told['rounds']} rounds lead to this state.\n"
            f"  state root  {told['state_root']}\n  head        {told['head']}"
        )
        if "earned" not in told:
            return text
        earned = [f"    0x{member.removeprefix('0x')}  {amount}" for member, amount in told["earned"].items()]
        return "\n".join(
            [text, f"  payouts     {told['epochs']} epochs recomputed; whole tokens earned:", *earned]
        )
    return f"Replay failed. What is wrong: {told['culprit']}\n  {told['rule']}: {told['why']}"
