"""A script inside bubblewrap, where that is present: what it cannot see it cannot read, and little is there to write.

It sees the system read-only, without the user's home, temporary files and other processes. Of those it has its own
folder (``out/``, ``home/`` and the file of events to write), what the form names, its Python, and the cache of models.
What is known to hold keys is hidden wherever it lies. With the network it reaches what listens on this machine, too.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

from distrai.jobs.running.sandbox_paths import caches_of, needed_of, real, secrets_of, shared_places
from distrai.jobs.running.store import JobFolder, JobState

_PROGRAM = "bwrap"
_LOOK_S = 20.0
_BASE = (
    "--unshare-user-try",
    "--unshare-pid",
    "--unshare-ipc",
    "--die-with-parent",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/",
    "/",
)
_SYSTEM = ("--dev-bind", "/dev", "/dev", "--proc", "/proc")
_KERNEL = (Path("/proc"), Path("/dev"), Path("/sys"))
"""Through these everything can be reached again."""
_START = """import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_DFL)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(print(f"cannot start {sys.argv[1]}: {error.strerror}") or 127)
"""
"""bubblewrap itself must not end at SIGTERM, since the script would have no time to save; the script must hear it."""
ABSENT = (
    "this script is not confined, since {why}: it can read the files that you can read. Install bubblewrap, or say "
    "--no-sandbox if this is as you want it"
)


class NoSandbox(ValueError):
    """A script should be kept from the network, and nothing here can do that."""


@dataclass(frozen=True, slots=True)
class Confined:
    """What is started, and whether it is inside bubblewrap."""

    command: list[str]
    sandboxed: bool


def confine(
    job: JobFolder,
    state: JobState,
    command: Sequence[str],
    environment: Mapping[str, str],
    tell: Callable[[dict[str, Any]], None],
) -> Confined:
    """The command inside bubblewrap if that can be; where it cannot, that is told once. Raises NoSandbox."""
    limits = state.limits
    why = "--no-sandbox says so" if not limits.sandbox else why_not()
    if not why:
        return Confined(wrapped(job, state, command, environment), sandboxed=True)
    if not limits.network:
        raise NoSandbox(
            f"--no-network needs bubblewrap, and {why}: install bubblewrap, or leave out --no-network"
        )
    if limits.sandbox and not state.attempt:  # the first one: it is not said again
        tell({"event": "log", "level": "warning", "text": ABSENT.format(why=why)})
    return Confined(list(command), sandboxed=False)


@cache
def why_not() -> str:
    """Why bubblewrap cannot be used here; empty if it can, which is tried once."""
    program = which(_PROGRAM)
    if program is None:
        return "bubblewrap is not installed"
    try:
        done = subprocess.run(  # noqa: S603  # bubblewrap itself, with nothing of a user's in it
            [program, *_BASE, *_SYSTEM, "--tmpfs", "/tmp", "--", "true"],  # noqa: S108  # as a script will have it
            capture_output=True,
            timeout=_LOOK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "bubblewrap does not start here"
    return "" if done.returncode == 0 else "this system lets bubblewrap make no namespaces"


def wrapped(
    job: JobFolder, state: JobState, command: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """The command line of bubblewrap."""
    home = real(Path(os.environ.get("HOME") or "~").expanduser())
    hidden = [path for path in (home, *shared_places()) if path != Path("/") and path.is_dir()]
    base = [] if state.script or state.base == "/" else [Path(state.base)]
    found = needed_of(job, state, command, environment)
    needed = [
        path for path in found if not _holds(real(path), [home]) and not _is_within(real(path), _KERNEL)
    ]
    arguments = [which(_PROGRAM) or _PROGRAM, *_BASE, *_SYSTEM]
    for path in hidden:
        arguments += ["--tmpfs", str(path)]
    seen = [form for path in (*base, *needed) for form in _forms(path, hidden)]
    for path in _outermost(seen):
        arguments += ["--ro-bind", str(path), str(path)]
    for path in base:
        if not _holds(real(path), hidden):
            arguments += _writable(path, hidden)  # a program of one's own, in its own folder
    for path in secrets_of(home):
        if path.is_dir() and not path.is_symlink():
            arguments += ["--tmpfs", str(path)]
        elif path.exists():
            arguments += ["--ro-bind", os.devnull, str(real(path))]
    for path in _forms(job.path, hidden):
        arguments += ["--ro-bind", str(path), str(path)]
    job.raw.touch()
    for path in (job.out, job.path / "home", job.raw, *caches_of(environment)):
        arguments += _writable(path, hidden)
    if not state.limits.network:
        arguments.append("--unshare-net")
    cwd = job.out if state.script else Path(state.base)
    return [*arguments, "--chdir", str(cwd), "--", sys.executable, "-I", "-S", "-c", _START, *command]


def _writable(path: Path, hidden: Sequence[Path]) -> list[str]:
    return [part for form in {real(path), *_forms(path, hidden)} for part in ("--bind", str(form), str(form))]


def _forms(path: Path, hidden: Sequence[Path]) -> list[Path]:
    """A path as links resolve to it and as it is written, as far as what is hidden has it."""
    return sorted({form for form in (real(path), path) if _is_within(form, hidden)})


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without those that lie in another one of them."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not _is_within(path, kept):
            kept.append(path)
    return kept


def _is_within(path: Path, folders: Iterable[Path]) -> bool:
    """Whether something lies in one of these folders, or is one."""
    return any(path.is_relative_to(folder) for folder in folders)


def _holds(path: Path, others: Iterable[Path]) -> bool:
    """Whether a folder is or holds one of these."""
    return any(other.is_relative_to(path) for other in others)
