"""What slither finds in the contracts, above low: ``python tools/check_slither.py build/slither/bin/slither``.

Nothing may be found but what is accepted here, with the reason, and nothing may be accepted that is not found. slither
is AGPL: a tool in an environment of its own (``make slither``), which nothing of ours imports or ships.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from check_contracts import CONTRACTS, PACKAGES, install, node_environment
from check_invariants import forge

TIMEOUT_S = 600
ACCEPTED = {
    ("divide-before-multiply", "check"): "the product is compared with the length: is there a remainder?",
    ("incorrect-equality", "_checkClosable"): "a count of roll calls, and rounds: nobody can add to these",
    ("incorrect-equality", "_openCall"): "rounds",
    ("incorrect-equality", "checkIn"): "counts of roll calls",
    ("incorrect-equality", "closeRollCall"): "counts of roll calls",
    ("unused-return", "_markNow"): "only the head is needed of head and state root",
    ("unused-return", "_checkKey"): "since when a key is the member's does not matter",
    ("unused-return", "_reached"): "only the state root is needed of head and state root",
}
"""Detector and function, and why it is right as it is."""


def look(slither: Path, root: Path) -> list[dict[str, object]]:
    """What slither finds in a copy of the sources."""
    shutil.copytree(CONTRACTS / "src", root / "src")
    shutil.copy(CONTRACTS / "foundry.toml", root)
    (root / "test").mkdir()
    shutil.copy(CONTRACTS / "test" / "solc.mjs", root / "test")
    (root / "node_modules").symlink_to(PACKAGES)
    environment = node_environment()
    path = [str(slither.absolute().parent), str(forge().parent), environment["PATH"]]
    environment["PATH"] = os.pathsep.join(path)
    command = [str(slither.absolute()), ".", "--foundry-out-directory", ".forge/out", "--json", "found.json"]
    command += [
        "--exclude-dependencies",
        "--exclude-informational",
        "--exclude-low",
        "--exclude-optimization",
    ]
    done = subprocess.run(
        command, cwd=root, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    answer = root / "found.json"
    if not answer.exists():
        sys.exit(f"slither did not run:\n{done.stdout}{done.stderr}")
    report = json.loads(answer.read_text())
    if not report["success"]:
        sys.exit(f"slither did not run: {report['error']}")
    found: list[dict[str, object]] = report["results"].get("detectors", [])
    return found


def place_of(finding: dict[str, object]) -> tuple[str, str]:
    """The detector, and the function (or what else) it points to."""
    elements = finding["elements"]
    assert isinstance(elements, list)
    return str(finding["check"]), str(elements[0]["name"])


def main(arguments: list[str]) -> int:
    """Returns 0 if slither finds what is accepted, and nothing else."""
    install()
    with tempfile.TemporaryDirectory() as folder:
        found = look(Path(arguments[0]), Path(folder))
    new = [finding for finding in found if place_of(finding) not in ACCEPTED]
    for finding in new:
        print(f"{finding['impact']}: {finding['description']}", file=sys.stderr)
    gone = ACCEPTED.keys() - {place_of(finding) for finding in found}
    for detector, name in sorted(gone):
        print(f"{detector} in {name} is accepted, and not found any more: remove it", file=sys.stderr)
    print(f"slither: {len(found)} above low, {len(new)} of them not accepted")
    return int(bool(new or gone))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
