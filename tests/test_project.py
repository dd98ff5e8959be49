"""What is true of the project as a whole: pins, recipes, imports, and nothing of one machine in any file."""

import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import distrai
from distrai.protocol.recipe import Recipe
from distrai.runs.recipes import load_recipe

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.toml") if path.stem != "compare")
HEAVY = {"torch", "transformers", "web3"}
LIGHT_LAYERS = {
    "protocol": HEAVY,
    "network": {"torch", "transformers"},
    "ledger": {"torch", "transformers"},
    "jobs": {"torch", "transformers"},
    "cli": HEAVY,
}
"""Layer -> packages that importing its modules must not import, not even through others."""


def pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    found: dict[str, str] = {}
    for line in filter(None, lines):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
        assert match, f"constraints.txt: {line!r} pins nothing"
        name = canonicalize_name(match[1])
        assert name not in found, f"constraints.txt: {name} is there twice"
        found[name] = match[2]
    return found


def installed(root: str, extras: set[str]) -> dict[str, str]:
    """Name -> version of every package that ``root[extras]`` brings into this environment, without ``root``."""
    found: dict[str, str] = {}
    waiting, seen = [Requirement(f"{root}[{','.join(extras)}]")], set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        package = metadata.distribution(wanted.name)
        found[key[0]] = package.version
        for need in map(Requirement, package.requires or []):
            environments = [{"extra": extra} for extra in {"", *wanted.extras}]
            if need.marker is None or any(map(need.marker.evaluate, environments)):
                waiting.append(need)
    del found[canonicalize_name(root)]
    return found


def committed_files() -> list[Path]:
    """Files that git knows or would add; all of them where this is no checkout."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_everything_is_pinned() -> None:
    pinned = pins()
    for name, version in installed("distrai", {"dev", "jobs"}).items():
        assert name in pinned, f"{name} {version} is not in constraints.txt"
        assert version.split("+")[0] == pinned[name], (
            f"{name} is {version}, constraints.txt says {pinned[name]}"
        )


def test_every_requirement_is_pinned_to_what_it_allows() -> None:
    project, pinned = PROJECT["project"], pins()
    lines = project["dependencies"] + [
        line for extra in project["optional-dependencies"].values() for line in extra
    ]
    for wanted in map(Requirement, lines + PROJECT["build-system"]["requires"]):
        version = pinned[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version, prereleases=True), (
            f"{wanted} does not allow the pinned {version}"
        )


def test_torch_is_pinned_without_a_build() -> None:
    """One spelling for all: pip finds the CPU build or the CUDA one by itself."""
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_files_name_no_machine_and_no_registry() -> None:
    hosts = [
        ("pypi", r"\.org"),
        ("pythonhosted", r"\.org"),
        ("registry", r"\.npmjs"),
        ("download", r"\.pytorch"),
    ]
    machine = [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/opt/", "(wheels|pypi)"), ("index", "-url")]
    forbidden = re.compile("|".join(first + second for first, second in hosts + machine))
    for path in committed_files():
        text = path.read_bytes().decode("utf-8", "ignore")
        found = forbidden.search(text)
        assert not found, f"{path.relative_to(ROOT)}: {found and found[0]!r}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_recipes(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_quickstart_explains_every_key() -> None:
    """The quickstart is where people look keys up."""
    text = (ROOT / "recipes/quickstart.toml").read_text()
    for section in fields(Recipe):
        names = [item.name for item in fields(section.type)] if is_dataclass(section.type) else [section.name]
        for name in names:
            assert re.search(rf"\b{name}\b", text), f"quickstart.toml does not mention {section.name}.{name}"


@pytest.mark.parametrize("layer", sorted(LIGHT_LAYERS))
def test_light_layers_import_nothing_heavy(layer: str) -> None:
    folder = Path(distrai.__file__).parent / layer
    found = pkgutil.walk_packages([str(folder)], f"distrai.{layer}.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    script = f"import sys\nfor name in {names!r}: __import__(name)\nimport json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loaded = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert not loaded & LIGHT_LAYERS[layer]


def test_layers_are_the_ones_of_the_contract() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = re.findall(
        r"\w+", " ".join(next(item for item in contracts if item["id"] == "layers")["layers"])
    )
    packages = [module.name for module in pkgutil.iter_modules(distrai.__path__) if module.ispkg]
    assert sorted(layers) == sorted(packages)
