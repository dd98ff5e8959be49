"""Can this machine take part in a run, and if not: what is in the way, and what to do about it."""

import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from distrai.runs.findings import Finding
from distrai.runs.telling import size

__all__ = ["Finding", "diagnose", "diagnosis_text"]

PYTHON_MIN = (3, 11)
DISK_BYTES_MIN = 2 << 30
MEMORY_PER_PEER = 600 << 20
"""What a peer takes before any tensor of a model: see ``needs.py``, which this does not wait for."""
GOLDEN_DEVICES = ("cpu", "cuda")


def diagnose(recipe: Path | None = None) -> list[Finding]:
    """Look at everything that a run needs. Raises RecipeError for a recipe that is none."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _torch,
        _cores,
        _memory,
        _disk,
        _loopback,
        _clock,
        _keystore,
    ]
    found = [_guarded(check) for check in checks]
    found += [_guarded(lambda name=name: _golden(name)) for name in _devices()]  # type: ignore[misc]
    return found + ([] if recipe is None else _fits(recipe))


def diagnosis_text(found: list[Finding]) -> str:
    """One line for each finding, and a verdict."""
    lines = []
    for finding in found:
        lines.append(f"  {'ok     ' if finding.ok else 'PROBLEM'}  {finding.what:<16} {finding.found}")
        if not finding.ok:
            lines.append(f"           {'':<16} -> {finding.advice}")
    problems = sum(not finding.ok for finding in found)
    verdict = (
        "This machine can take part."
        if not problems
        else f"{problems} of {len(found)} checks found a problem."
    )
    return "\n".join([*lines, "", verdict])


def _guarded(check: Callable[[], Finding]) -> Finding:
    """A check that cannot even be made is a problem too, never a traceback."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001
        name = getattr(check, "__name__", "check").strip("_<>")
        return Finding(
            name, False, f"{type(error).__name__}: {error}", "mend what the message says, then try again"
        )


def _python() -> Finding:
    wanted = ".".join(map(str, PYTHON_MIN))
    ok = sys.version_info >= PYTHON_MIN
    return Finding("python", ok, platform.python_version(), f"install Python {wanted} or later")


def _torch() -> Finding:
    import torch
    import transformers

    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    found = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return Finding("torch", (major, minor) >= (2, 6), found, "install torch 2.6 or later: make setup")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", count >= 1, f"{count} (a local run shares them between its peers)")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    advice = f"one peer needs about {size(MEMORY_PER_PEER)}: close other programs"
    return Finding("memory", free >= MEMORY_PER_PEER, f"{size(free)} available", advice)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    advice = f"runs are written below {Path.cwd()}: free {size(DISK_BYTES_MIN)}, or go to another disk"
    return Finding("disk", free >= DISK_BYTES_MIN, f"{size(free)} free here", advice)


def _loopback() -> Finding:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"x")
                ok = accepted.recv(1) == b"x"
    return Finding(
        "loopback", ok, "programs here reach each other at 127.0.0.1", "a firewall blocks 127.0.0.1"
    )


def _clock() -> Finding:
    """Rounds run by the monotonic clock of each machine alone; the date only has to be plausible for people."""
    first = time.monotonic()
    deadline = time.perf_counter() + 1.0
    while time.monotonic() == first and time.perf_counter() < deadline:
        pass
    ok = time.monotonic() > first
    found = (
        "the monotonic clock goes forward; nothing depends on the date, or on the clocks of other machines"
    )
    return Finding("clock", ok, found, "the monotonic clock stands still: restart the (virtual) machine")


def _keystore() -> Finding:
    from distrai.ledger.keys import create_key, load_key

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key.json"
        ok = create_key(path).address == load_key(path).address
        private = path.stat().st_mode & 0o077 == 0
    advice = "files for keys must be readable by you alone: use a file system that keeps permissions"
    return Finding("keystore", ok and private, "keys can be made, encrypted and read again", advice)


def _devices() -> list[str]:
    try:
        import torch
    except ImportError:
        return []
    return [name for name in GOLDEN_DEVICES if name == "cpu" or torch.cuda.is_available()]


def _golden(device: str) -> Finding:
    from distrai.algorithms.selftest import device_agrees

    ok = device_agrees(device)
    if device == "cpu":
        advice = "this build of torch computes other bits than everybody: install the one in constraints.txt"
    else:
        advice = "this device computes other bits: peers here aggregate on the CPU by themselves"
    return Finding(f"arithmetic {device}", ok, "same bits as everywhere" if ok else "other bits", advice)


def _fits(path: Path) -> list[Finding]:
    """Whether a recipe's local run fits the memory and disk of this machine."""
    import psutil

    from distrai.runs.needs import model_text, needs_of
    from distrai.runs.recipes import load_recipe

    recipe = load_recipe(path)
    try:
        needs = needs_of(recipe, path.parent)
    except ValueError as error:
        return [Finding("recipe", False, str(error), "mend the recipe")]
    peers = recipe.membership.peers
    memory = peers * max(MEMORY_PER_PEER, needs.memory_per_peer)
    free, disk = psutil.virtual_memory().available, shutil.disk_usage(Path.cwd()).free
    what = f"{recipe.name}: {model_text(needs)}, {size(needs.update_bytes)} an update"
    return [
        Finding("recipe", True, what),
        Finding(
            "recipe: memory",
            free >= memory,
            f"about {size(memory)} for {peers} peers, {size(free)} available",
            "take fewer --peers or a smaller model",
        ),
        Finding(
            "recipe: disk",
            disk >= needs.disk_bytes,
            f"about {size(needs.disk_bytes)} for {recipe.rounds.count} rounds, {size(disk)} free here",
            "take fewer --rounds, or --out on another disk",
        ),
    ]
