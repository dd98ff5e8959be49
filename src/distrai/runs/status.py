"""What happened in a run until now, for whoever asks while it goes on or later."""

import asyncio
import json
from pathlib import Path
from typing import Any

from distrai.ledger.errors import LedgerError
from distrai.ledger.interface import RunState
from distrai.ledger.locks import FileLock, InUse
from distrai.peer.journal import Evaluated
from distrai.protocol.errors import ProtocolError
from distrai.protocol.primitives import Hash
from distrai.runs.anchor import NoLedger, ledger_state
from distrai.runs.archive import Archive, NothingPublished
from distrai.runs.folder import RunFolder
from distrai.runs.logs import PeerLog, read_log
from distrai.runs.telling import TRUST, prompt_text, size


def status(folder: RunFolder) -> dict[str, Any]:
    """Where a run stands, as plain data. Raises NoRun, UnreadableLog."""
    info = folder.read()
    logs = [read_log(folder.peer(number)) for number in range(info.peers)]
    ledger, problem = _ledger(folder)
    done = ledger.round if ledger else max(log.rounds for log in logs)
    seen = {number: item for log in logs for number, item in log.evaluated.items()}
    loss, bits, at = _held_out(folder, seen)
    members = next((log.applied[done].members for log in logs if done in log.applied), frozenset())
    return {
        "folder": str(folder.path),
        "name": info.name,
        "preset": info.preset,
        "trust": TRUST,
        "state": _state(folder, ledger),
        "rounds": done,
        "rounds_planned": info.rounds,
        "bits_per_byte": bits,
        "loss": loss,
        "evaluated_round": at,
        "state_root": "0x" + ledger.state_root.hex() if ledger else None,
        "head": "0x" + ledger.head.hex() if ledger else None,
        "ledger": problem or "answers",
        "peers": [_peer(log, members) for log in logs],
        "pays": folder.deployment.exists(),
        "prompt": _prompt(folder, Hash(bytes.fromhex(info.recipe_hash.removeprefix("0x")))),
    }


def _prompt(folder: RunFolder, recipe_hash: Hash) -> str:
    if folder.is_finished():
        return prompt_text(folder.told().get("sample"))
    try:
        recipe = Archive(folder.archive).recipe(recipe_hash).recipe
    except (NothingPublished, OSError, ProtocolError):
        return prompt_text(None)
    return prompt_text(None, chat=recipe.data.format != "text")


def status_text(told: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{told['name']} ({told['preset']}, {told['trust']}) in {told['folder']}: {told['state']}"]
    lines.append(f"  rounds         {told['rounds']} of {told['rounds_planned']}")
    if told["bits_per_byte"] is not None:
        lines.append(
            f"  held-out       {told['bits_per_byte']:.3f} bits per byte after round {told['evaluated_round']}"
        )
    if told["state_root"]:
        lines += [f"  state root     {told['state_root']}", f"  head           {told['head']}"]
    if told["ledger"] != "answers":
        lines.append(f"  ledger         {told['ledger']}")
    lines.append("")
    for peer in told["peers"]:
        loss = "" if peer["loss"] is None else f", training loss {peer['loss']:.3f}"
        place = "in the newest certificate" if peer["certified"] else "not in the newest certificate"
        lines.append(
            f"  {peer['name']}  round {peer['rounds']}, {place}{loss}, {size(peer['bytes_up'])} sent, "
            f"started {peer['starts']} times"
        )
        if peer["refused"]:
            rules = ", ".join(f"{count} {rule}" for rule, count in peer["refused"].items())
            lines.append(f"          refused: {rules}")
    return "\n".join([*lines, "", *_next(told)])


def _held_out(folder: RunFolder, seen: dict[int, Evaluated]) -> tuple[float | None, float | None, int | None]:
    """Held-out loss, bits per byte, and the round they are of: what was measured at the end, or on the way."""
    if folder.is_finished():
        told = json.loads(folder.summary.read_bytes())
        return told["loss_end"], told["bits_per_byte_end"], told["rounds"]
    if not seen:
        return None, None, None
    number = max(seen)
    return seen[number].loss, seen[number].bits_per_byte, number


def _next(told: dict[str, Any]) -> list[str]:
    where = told["folder"]
    writing = f"distrai generate {where} {told['prompt']}"
    commands = {
        "finished": writing,
        "running": f"{writing}   (the model of the newest round)",
        "stopped": f"distrai run {where}   (goes on where it stopped)",
        "all rounds done": f"distrai run {where}   (measures and exports what was trained)",
    }
    earnings = [f"  What peers earned: distrai earnings {where}"] if told["pays"] else []
    return [f"  What to type next: {commands[told['state']]}", *earnings]


def _state(folder: RunFolder, ledger: RunState | None) -> str:
    if folder.is_finished():
        return "finished"
    if _is_running(folder.path):
        return "running"
    done = ledger is not None and ledger.round >= folder.read().rounds
    return "all rounds done" if done else "stopped"


def _is_running(path: Path) -> bool:
    if not (path / "run.lock").exists():
        return False
    try:
        with FileLock(path / "run.lock", "the run"):
            return False
    except InUse:
        return True


def _ledger(folder: RunFolder) -> tuple[RunState | None, str]:
    try:
        return asyncio.run(ledger_state(folder)), ""
    except (NoLedger, LedgerError) as error:
        return None, str(error)


def _peer(log: PeerLog, members: frozenset[Any]) -> dict[str, Any]:
    last = max(log.trained, default=0)
    return {
        "name": log.name,
        "member": log.member.hex() if log.member else None,
        "rounds": log.rounds,
        "certified": log.member in members,
        "loss": log.trained[last].loss if last else None,
        "bytes_up": log.bytes("up"),
        "bytes_down": log.bytes("down"),
        "starts": len(log.sessions),
        "refused": dict(log.refused),
    }
