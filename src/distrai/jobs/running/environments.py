"""Where a script finds its packages: the project's own environment if that will do, else one made for its header.

Made with venv and pip, held to the versions that the project is tested with, kept by the hash of what was asked for.
A half-made one is never used: the mark is written last.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from distrai.jobs.files import cache_folder, needs_room, write_json
from distrai.jobs.forms.header import Header
from distrai.jobs.forms.library import shipped
from distrai.jobs.running.packages import constraints_for, missing
from distrai.ledger.locks import FileLock, InUse

BUILD_S = 1800.0
"""How long pip may take."""
_LOOK_S = 0.2
_PIP = {
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "XDG_CONFIG_HOME",
}
_PROXIES = {"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
_BUILDS = "which runs code of its makers outside of the sandbox: PIP_ONLY_BINARY=:none: allows that"
_PASSWORD = re.compile(r"(\w+://)[^/@\s]+@")

Report = Callable[[str], None]


class CannotPrepare(ValueError):
    """A script's environment cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Environment:
    """A Python with the packages of a script. ``is_own``: the one that this program runs in."""

    python: Path
    key: str
    is_own: bool


@dataclass(frozen=True)
class Environments:
    """The environments of this user."""

    folder: Path = field(default_factory=lambda: cache_folder() / "environments")
    build_s: float = BUILD_S

    def find(self, header: Header) -> Environment | None:
        """The environment of a header, if there is one. Raises CannotPrepare for another Python."""
        check_python(header)
        if not missing(header):
            return Environment(Path(sys.executable), "own", is_own=True)
        key = environment_key(header)
        made = _whole(self.folder / key)
        return None if made is None else Environment(made / "bin" / "python", key, is_own=False)

    def prepare(self, header: Header, report: Report) -> Environment:
        """The environment of a header, made if there is none. Raises CannotPrepare."""
        found = self.find(header)
        if found is not None:
            return found
        key = environment_key(header)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            needs_room(self.folder, "start the job again"),
            _waited_for(FileLock(self.folder / f"{key}.lock", "the environment"), self.build_s, report),
        ):
            made = _whole(self.folder / key)
            if made is None:
                report(
                    f"making an environment with {len(header.dependencies)} packages and what they need (once; minutes)"
                )
                made = self._make(header, self.folder / key)
        return Environment(made / "bin" / "python", key, is_own=False)

    def _make(self, header: Header, home: Path) -> Path:
        """Make it in a folder that was never there: a pip whose parent was killed may still write into the last one."""
        builds = _may_build(header)
        if not builds:
            _check_addresses(header)
        shutil.rmtree(home, ignore_errors=True)
        made = home / secrets.token_hex(4)
        made.mkdir(parents=True)
        constraints = made / "constraints.txt"
        constraints.write_text("\n".join(constraints_for(header)) + "\n")
        log = home.with_suffix(".log")
        try:
            venv, install = _commands(made, builds=builds)
            self._call(venv, log)
            self._call([*install, "-c", str(constraints), "--", *header.dependencies], log)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        told = {"dependencies": header.dependencies, "requires_python": header.requires_python}
        write_json(_mark(home), {"folder": made.name, **told})
        return made

    def _call(self, command: list[str], log: Path) -> None:
        """Run a command of ours to its end. Raises CannotPrepare with its last error."""
        with log.open("ab") as out:
            begin = out.tell()
            child = subprocess.Popen(  # noqa: S603  # pip, with what a header asks for
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_pip_environment(os.environ),
                start_new_session=True,
            )
            try:
                code = child.wait(self.build_s)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise CannotPrepare(
                        f"pip took more than {self.build_s:.0f} s: see {log}, and try again"
                    ) from None
                raise
        if code:
            why = _why(log, begin, may_build="--only-binary" not in command)
            raise CannotPrepare(f"the packages of this script cannot be installed: {why} (see {log})")


def _may_build(header: Header) -> bool:
    """Whether pip may build packages, which runs code of theirs as this user, before and outside of any sandbox."""
    vouched = {text for template in shipped() for text in template.header().dependencies}
    return vouched.issuperset(header.dependencies) or os.environ.get("PIP_ONLY_BINARY") == ":none:"


def _check_addresses(header: Header) -> None:
    """Raise CannotPrepare for a package that is named by an address: it, or what it needs by one, may be built."""
    for wanted in map(Requirement, header.dependencies):
        if wanted.url is not None:
            raise CannotPrepare(f"{wanted.name} is named by an address and may have to be built, {_BUILDS}")


def _commands(made: Path, *, builds: bool) -> tuple[list[str], list[str]]:
    """How to make an environment, and how to put packages into it: by the pip that we have, else by one of its own."""
    python, venv = str(made / "bin" / "python"), [sys.executable, "-m", "venv"]
    options = ["install", "--disable-pip-version-check", "--no-input"]
    if not builds:
        options += ["--only-binary", ":all:"]
    if find_spec("pip") is None:
        return [*venv, str(made)], [python, "-m", "pip", *options]
    return [*venv, "--without-pip", str(made)], [sys.executable, "-m", "pip", "--python", python, *options]


def check_python(header: Header) -> None:
    """Raise CannotPrepare if this Python is none that the script runs on."""
    if not SpecifierSet(header.requires_python).contains(_python_version(), prereleases=True):
        raise CannotPrepare(
            f"this script needs Python {header.requires_python}, and this is {_python_version()}: "
            "run distrai with such a Python"
        )


def environment_key(header: Header) -> str:
    """What an environment is known by: the header's packages, the versions they are held to, and this Python."""
    what = [header.environment_hash, constraints_for(header), _python_version(), sys.platform, sys.prefix]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _pip_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What pip gets of our environment: where to find packages, and no keys."""
    return {
        name: value
        for name, value in ours.items()
        if name in _PIP or name in _PROXIES or (name.startswith("PIP_") and name != "PIP_REQUIRE_VIRTUALENV")
    }


@contextmanager
def _waited_for(lock: FileLock, seconds: float, report: Report) -> Iterator[None]:
    """Hold a lock, after whoever holds it now. Raises InUse after so many seconds."""
    ends, told = time.monotonic() + seconds, False
    while True:
        try:
            lock.acquire()
        except InUse:
            if time.monotonic() >= ends:
                raise
            if not told:
                report("waiting for another job that makes the same environment")
                told = True
            time.sleep(_LOOK_S)
            continue
        try:
            yield
        finally:
            lock.release()
        return


def _mark(home: Path) -> Path:
    return home / "distrai.json"


def _whole(home: Path) -> Path | None:
    """The environment that was made to its end, which the mark names."""
    try:
        made = home / str(json.loads(_mark(home).read_bytes())["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return made if (made / "bin" / "python").exists() else None


def _python_version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])


def _why(log: Path, begin: int, *, may_build: bool) -> str:
    """The last thing that pip complains of, without passwords of an index."""
    lines = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR: ")] or lines or ["it says nothing"]
    text = " ".join(errors[-1].removeprefix("ERROR: ").split())[:300]
    if "No matching distribution found" in text and not may_build:
        text = f"{text} as a wheel; what is no wheel must be built, {_BUILDS}"
    if any(line.startswith("WARNING: Retrying") for line in lines):
        text = f"no index of packages can be reached from here, and {text}"
    return _PASSWORD.sub(r"\1", text)
