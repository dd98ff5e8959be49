"""A script inside bubblewrap, where that is present: what it cannot see it cannot read, and little is there to write.

It sees the system read-only, without the user's home, temporary files and other processes. Of those it has its own
folder (``out/``, ``home/`` and the file of events to write), what the form names, its Python, and the cache of models.
What is known to hold keys is hidden wherever it lies. With the network it reaches what listens on this machine, too.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

from distrai.jobs.files import user_folder
from distrai.jobs.header import read_header
from distrai.jobs.store import JobFolder, JobState

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
_SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".config", ".kube", ".docker", ".netrc", ".pgpass", ".git-credentials",
    ".pypirc", ".npmrc", ".prime", ".local/share/keyrings", ".cache/huggingface/token", ".huggingface",
    ".cache/huggingface/stored_tokens", ".bash_history", ".zsh_history", ".python_history", ".mozilla", ".ethereum",
    ".foundry",
)  # fmt: skip
"""In a home folder, what holds keys, tokens and passwords."""
_PLACES = (
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
_KERNEL = (Path("/proc"), Path("/dev"), Path("/sys"))
"""Through these everything can be reached again."""
_OF_RUN = ("/run/systemd/resolve", "/run/resolvconf", "/run/nvidia-persistenced", "/run/opengl-driver")
"""What a script may need of ``/run``: how names are looked up, drivers."""
_CACHES = ("HF_HUB_CACHE", "HF_DATASETS_CACHE")
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
    home = _real(Path(os.environ.get("HOME") or "~").expanduser())
    hidden = [path for path in (home, *_shared()) if path != Path("/") and path.is_dir()]
    base = [] if state.script or state.base == "/" else [Path(state.base)]
    found = _needed(job, state, command, environment)
    needed = [
        path for path in found if not _holds(_real(path), [home]) and not _is_within(_real(path), _KERNEL)
    ]
    arguments = [which(_PROGRAM) or _PROGRAM, *_BASE, *_SYSTEM]
    for path in hidden:
        arguments += ["--tmpfs", str(path)]
    seen = [form for path in (*base, *needed) for form in _forms(path, hidden)]
    for path in _outermost(seen):
        arguments += ["--ro-bind", str(path), str(path)]
    for path in base:
        if not _holds(_real(path), hidden):
            arguments += _writable(path, hidden)  # a program of one's own, in its own folder
    for path in _secrets(home):
        if path.is_dir() and not path.is_symlink():
            arguments += ["--tmpfs", str(path)]
        elif path.exists():
            arguments += ["--ro-bind", os.devnull, str(_real(path))]
    for path in _forms(job.path, hidden):
        arguments += ["--ro-bind", str(path), str(path)]
    job.raw.touch()
    for path in (job.out, job.path / "home", job.raw, *_caches(environment)):
        arguments += _writable(path, hidden)
    if not state.limits.network:
        arguments.append("--unshare-net")
    cwd = job.out if state.script else Path(state.base)
    return [*arguments, "--chdir", str(cwd), "--", sys.executable, "-I", "-S", "-c", _START, *command]


def _writable(path: Path, hidden: Sequence[Path]) -> list[str]:
    return [
        part for form in {_real(path), *_forms(path, hidden)} for part in ("--bind", str(form), str(form))
    ]


def _forms(path: Path, hidden: Sequence[Path]) -> list[Path]:
    """A path as links resolve to it and as it is written, as far as what is hidden has it."""
    return sorted({form for form in (_real(path), path) if _is_within(form, hidden)})


def _needed(
    job: JobFolder, state: JobState, command: Sequence[str], environment: Mapping[str, str]
) -> list[Path]:
    """What a script must see of what is hidden: its Python, what the user and some variables name."""
    named = _given(job, state)
    for name in _PLACES:
        named += environment.get(name, "").split(os.pathsep)
    found = [Path(sys.prefix), Path(sys.base_prefix), *_program(command, environment)]
    found += [Path(name) for name in (*named, *_OF_RUN) if name.startswith("/")]
    return [path for path in found if path.exists()]


def _given(job: JobFolder, state: JobState) -> list[str]:
    """The paths that the user has put into the form; what the template itself suggests opens nothing."""
    if not state.script:
        return []
    header, values = read_header((job.script / state.script).read_bytes(), state.script), job.values()
    given = []
    for name, item in header.parameters.items():
        suggested = [item.default, *(preset.get(name) for preset in header.presets.values())]
        if item.type == "path" and values.get(name) not in suggested:
            given.append(str(values.get(name, "")))
    return given


def _program(command: Sequence[str], environment: Mapping[str, str]) -> list[Path]:
    """Where a program and what it belongs to lie; folders of programs that it may call."""
    path = environment.get("PATH", os.defpath)
    folders = [Path(part) for part in path.split(os.pathsep) if part.startswith("/")]
    if given := which(command[0], path=path):
        program = Path(given)
        folders += [program.parent, _real(program).parent]
    return folders + [folder.parent for folder in folders if _is_environment(folder.parent)]


def _is_environment(folder: Path) -> bool:
    """Whether a folder is an environment or an installation of Python, and not somebody's ``~/.local``."""
    if (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists():
        return True
    return any(not path.is_symlink() for path in (folder / "bin").glob("python3.[0-9]*"))


def _secrets(home: Path) -> Iterable[Path]:
    """Whatever is known to hold keys, in the home folder and where variables put it."""
    found = [home / name for name in _SECRETS]
    found += [user_folder() / "ledger", Path("/etc/shadow"), Path("/etc/gshadow"), Path("/root") / ".ssh"]
    found += Path("/etc/ssh").glob("*_key")
    for variable, name in (
        ("XDG_CONFIG_HOME", "distrai"),
        ("HF_HOME", "token"),
        ("HF_HOME", "stored_tokens"),
    ):
        if folder := os.environ.get(variable):
            found.append(Path(folder) / name)
    if token := os.environ.get("HF_TOKEN_PATH"):
        found.append(Path(token))
    return [path for path in found if path.exists()]


def _caches(environment: Mapping[str, str]) -> list[Path]:
    """The caches of models and data that programs of this user share: without them all is downloaded again."""
    found = []
    for name in _CACHES:
        path = Path(environment.get(name, ""))
        if path.is_absolute():
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            found.append(path)
    return found


def _shared() -> list[Path]:
    """Where programs meet: temporary files, sockets of agents and of services (of Docker's, which gives all of it)."""
    folders = {_real(Path(tempfile.gettempdir())), Path("/tmp"), _real(Path("/run"))}  # noqa: S108
    return sorted(folders)


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


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
