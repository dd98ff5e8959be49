"""What a confined script must see of what is hidden from it, and what it must not: paths of this machine."""

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shutil import which

from distrai.jobs.files import user_folder
from distrai.jobs.forms.header import read_header
from distrai.jobs.running.store import JobFolder, JobState

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
_OF_RUN = ("/run/systemd/resolve", "/run/resolvconf", "/run/nvidia-persistenced", "/run/opengl-driver")
"""What a script may need of ``/run``: how names are looked up, drivers."""
_CACHES = ("HF_HUB_CACHE", "HF_DATASETS_CACHE")


def needed_of(
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
        folders += [program.parent, real(program).parent]
    return folders + [folder.parent for folder in folders if _is_environment(folder.parent)]


def _is_environment(folder: Path) -> bool:
    """Whether a folder is an environment or an installation of Python, and not somebody's ``~/.local``."""
    if (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists():
        return True
    if (folder / "shims").is_dir() and (folder / "versions").is_dir():  # pyenv, whose `python` calls another
        return True
    return any(not path.is_symlink() for path in (folder / "bin").glob("python3.[0-9]*"))


def secrets_of(home: Path) -> Iterable[Path]:
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


def caches_of(environment: Mapping[str, str]) -> list[Path]:
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


def shared_places() -> list[Path]:
    """Where programs meet: temporary files, sockets of agents and of services (of Docker's, which gives all of it)."""
    folders = {real(Path(tempfile.gettempdir())), Path("/tmp"), real(Path("/run"))}  # noqa: S108
    return sorted(folders)


def real(path: Path) -> Path:
    """Where a path leads, with all links followed."""
    return Path(os.path.realpath(path))
