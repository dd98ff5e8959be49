"""Environments of scripts: the project's own where it will do, else one that is made once."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from distrai.jobs.forms.header import Header, read_header
from distrai.jobs.forms.library import shipped
from distrai.jobs.running.environments import (
    CannotPrepare,
    Environments,
    _may_build,
    _pip_environment,
    environment_key,
)
from distrai.jobs.running.packages import constraints_for, missing
from distrai.ledger.locks import FileLock, InUse
from helpers.job_scripts import HEADER
from helpers.slow_index import SlowIndex
from helpers.wheels import make_source, make_wheel

pytestmark = pytest.mark.processes
NUMPY = metadata.version("numpy")
HELD = "attrs"
HELD_VERSION = next(
    line.partition("==")[2]
    for line in constraints_for(read_header(HEADER.encode()))
    if line.startswith(f"{HELD}==")
)
ELSEWHERE = f"""
import sys
from dataclasses import replace
from pathlib import Path
from distrai.jobs.running.environments import Environments
from distrai.jobs.forms.header import read_header
header = replace(read_header({HEADER!r}.encode()), dependencies=("distraitoypart",), requires_python="")
print(Environments(Path(sys.argv[1])).prepare(header, lambda text: None).python)
"""


def header(*dependencies: str, python: str = "", constraints: bool = True) -> Header:
    return replace(
        read_header(HEADER.encode()),
        requires_python=python,
        dependencies=dependencies,
        constraints=constraints,
    )


def test_what_the_project_has_is_not_made_again(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments")
    for wanted in ((), ("numpy",), (f"numpy=={NUMPY}", "NumPy>=1"), ("nothing; python_version < '3'",)):
        found = environments.prepare(header(*wanted), lambda text: None)
        assert (found.is_own, found.python) == (True, Path(sys.executable))
    assert not (tmp_path / "environments").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        "numpy<1",
        "no-such-package-here",
        "numpy @ https://example.invalid/numpy.whl",
        "httpx[no-extra]==0.0.1",
    ],
)
def test_what_the_project_lacks_is_told(wanted: str) -> None:
    assert missing(header("numpy", wanted)) == [wanted]


def test_an_environment_is_made_once_and_used_again(tmp_path: Path, packages: Path) -> None:
    environments, said = Environments(tmp_path / "environments"), list[str]()
    wanted = header("distraitoy<2")
    assert environments.find(wanted) is None
    made = environments.prepare(wanted, said.append)
    assert not made.is_own
    seen = subprocess.run(
        [made.python, "-c", "import distraitoy, distraitoypart; print(distraitoy.VERSION)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "1.0\n"
    assert len(said) == 1
    assert environments.prepare(wanted, said.append) == made == environments.find(wanted)
    assert len(said) == 1, "it was there"
    for path in packages.iterdir():
        path.unlink()
    assert environments.prepare(wanted, said.append) == made, "nobody asks pip again"


def test_a_package_that_cannot_be_had_is_one_clear_sentence(tmp_path: Path, packages: Path) -> None:
    environments = Environments(tmp_path / "environments")
    with pytest.raises(CannotPrepare, match="distraitoy>3") as raised:
        environments.prepare(header("distraitoy>3"), lambda text: None)
    assert "\n" not in str(raised.value)
    assert environments.find(header("distraitoy>3")) is None
    assert [path.name for path in (tmp_path / "environments").iterdir() if path.is_dir()] == []


def test_the_password_of_an_index_is_not_in_the_message(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = Environments(tmp_path / "environments")
    wanted = header("distraitoy @ http://user:very-secret@127.0.0.1:1/distraitoy-1.0-py3-none-any.whl")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_ONLY_BINARY", ":none:")
    with pytest.raises(CannotPrepare) as raised:
        environments.prepare(wanted, lambda text: None)
    assert "very-secret" not in str(raised.value)


def test_what_was_half_made_is_made_anew(tmp_path: Path, packages: Path) -> None:
    environments, wanted = Environments(tmp_path / "environments"), header("distraitoypart")
    home = environments.folder / environment_key(wanted)
    half = home / "abcd" / "bin"
    half.mkdir(parents=True)
    (half / "python").touch()
    for mark in ("", "{", "[]", "{}", '{"folder": "efgh"}'):
        (home / "distrai.json").write_text(mark)
        assert environments.find(wanted) is None
    made = environments.prepare(wanted, lambda text: None)
    assert made.python.exists()
    assert not half.exists()


@pytest.fixture
def index(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowIndex]:
    """An index on loopback instead of a folder."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    with SlowIndex(packages) as running:
        monkeypatch.setenv("PIP_INDEX_URL", running.url)
        yield running


def prepare_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Make an environment in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", ELSEWHERE, str(folder)], stdout=subprocess.PIPE, text=True)


def test_what_was_killed_in_the_middle_is_never_used(tmp_path: Path, index: SlowIndex) -> None:
    environments, wanted = Environments(tmp_path / "environments"), header("distraitoypart")
    with prepare_elsewhere(environments.folder) as child:
        index.wait_for_download()
        child.kill()
    assert environments.find(wanted) is None
    index.release()
    said: list[str] = []
    made = environments.prepare(wanted, said.append)
    assert len(said) == 1
    assert "making an environment" in said[0]
    subprocess.run([made.python, "-c", "import distraitoypart"], check=True)
    assert environments.find(wanted) == made


def test_two_jobs_that_need_the_same_environment_make_it_once(tmp_path: Path, index: SlowIndex) -> None:
    environments, wanted = Environments(tmp_path / "environments"), header("distraitoypart")
    said: list[str] = []

    def report(text: str) -> None:
        said.append(text)
        index.release()

    with prepare_elsewhere(environments.folder) as child:
        index.wait_for_download()
        made = environments.prepare(wanted, report)
        assert child.stdout is not None
        assert child.stdout.read() == f"{made.python}\n"
    assert said == ["waiting for another job that makes the same environment"]
    assert index.downloads == 1


def test_nobody_waits_for_ever_for_another_job(tmp_path: Path, packages: Path) -> None:
    environments = Environments(tmp_path / "environments", build_s=0.0)
    wanted = header("distraitoypart")
    environments.folder.mkdir()
    with FileLock(environments.folder / f"{environment_key(wanted)}.lock", "it"), pytest.raises(InUse):
        environments.prepare(wanted, lambda text: None)


def test_without_a_network_the_reason_is_told(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:very-secret@127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(CannotPrepare, match="no index of packages can be reached from here") as raised:
        Environments(tmp_path / "environments").prepare(header("distraitoy"), lambda text: None)
    assert "very-secret" not in str(raised.value)
    assert "distraitoy" in str(raised.value)


@pytest.mark.parametrize(("constraints", "version"), [(True, HELD_VERSION), (False, "9999.0")])
def test_versions_that_the_project_is_tested_with_are_installed(
    tmp_path: Path, packages: Path, constraints: bool, version: str
) -> None:
    for each in (HELD_VERSION, "9999.0"):
        make_wheel(packages, HELD, each)
    make_wheel(packages, "distraineeds", "1.0", HELD)
    wanted = header("distraineeds", constraints=constraints)
    made = Environments(tmp_path / "environments").prepare(wanted, lambda text: None)
    about = f"from importlib.metadata import version; print(version({HELD!r}))"
    told = subprocess.run([made.python, "-c", about], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == version


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("by", ["name", "address"])
def test_no_code_of_a_package_runs_while_it_is_installed(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, by: str, allowed: bool
) -> None:
    """Unless the user says so: it would run as the user, before the script's sandbox is made."""
    path = make_source(packages, "distraibuilt", "1.0", tmp_path / "touched")
    wanted = header("distraibuilt" if by == "name" else f"distraibuilt @ {path.as_uri()}")
    if allowed:
        monkeypatch.setenv("PIP_ONLY_BINARY", ":none:")
    with pytest.raises(CannotPrepare) as raised:
        Environments(tmp_path / "environments").prepare(wanted, lambda text: None)
    assert (tmp_path / "touched").exists() == allowed
    assert ("PIP_ONLY_BINARY=:none: allows that" in str(raised.value)) != allowed
    assert "\n" not in str(raised.value)


def test_what_the_shipped_templates_need_may_be_built() -> None:
    for template in shipped():
        assert _may_build(template.header()), template.name
    assert not _may_build(header("lm_eval"))


def test_pip_gets_what_it_needs_and_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip installs may run code of strangers (setup.py), which sees the variables of pip."""
    ours = {"PATH": "/bin", "HOME": "/people/me", "PIP_INDEX_URL": "http://127.0.0.1:1", "https_proxy": "p"}
    keys = {"HF_TOKEN": "t", "DISTRAI_PASSWORD": "p", "AWS_SECRET_ACCESS_KEY": "k", "SSH_AUTH_SOCK": "s"}
    assert _pip_environment(ours | keys | {"PIP_REQUIRE_VIRTUALENV": "1", "PYTHONPATH": "/x"}) == ours


def test_another_python_is_asked_for_clearly(tmp_path: Path) -> None:
    with pytest.raises(CannotPrepare, match="needs Python <3"):
        Environments(tmp_path).find(header(python="<3"))


def test_environments_differ_by_all_that_they_are_made_of() -> None:
    keys = [
        environment_key(wanted)
        for wanted in (
            header("a"),
            header("b"),
            header("a", "b"),
            header("a", python=">=3"),
            header("a", constraints=False),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert environment_key(header("a", "b")) == environment_key(header("b", "a"))


def test_versions_are_those_of_the_project_unless_the_header_wants_others() -> None:
    def held(wanted: Header) -> bool:
        return any(line.lower().startswith("numpy==") for line in constraints_for(wanted))

    assert held(header("torch"))
    assert held(header("numpy>=2"))
    assert not held(header("numpy<1"))
    assert constraints_for(header("torch", constraints=False)) == []
