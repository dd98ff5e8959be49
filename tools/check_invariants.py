"""Fuzz the contracts with forge, then see that it finds a seeded bug in each: ``python tools/check_invariants.py``.

The bugs are patches in ``contracts/test/bugs``, one a contract; each is applied to a copy, and the invariants of that
contract must fail there. Needs the packages of ``contracts/package-lock.json``, and no network once they are installed.
With names (``Token StakeManager``) only these contracts are looked at; ``--runs 512`` fuzzes longer.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from check_contracts import CONTRACTS, PACKAGES, install, node_environment

BUGS = CONTRACTS / "test" / "bugs"
TIMEOUT_S = 900
WORKERS = min(4, os.cpu_count() or 1)


def forge() -> Path:
    """The binary of the platform's package: the one of npm only starts it, with a node of its own."""
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}.get(
        platform.machine(), platform.machine()
    )
    folder = CONTRACTS / "node_modules" / "@foundry-rs" / f"forge-{platform.system().lower()}-{machine}"
    return folder / "bin" / "forge"


def run_forge(root: Path, contract: str, runs: int | None) -> subprocess.CompletedProcess[str]:
    """Fuzz a contract (or several: a pattern). What fails is not made shorter, which takes longer than finding it."""
    environment = node_environment() | {"FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "0"}
    if runs is not None:
        environment |= {"FOUNDRY_INVARIANT_RUNS": str(runs)}
    command = [str(forge()), "test", "--threads", "1", "--match-contract", f"^{contract}Invariants$"]
    return subprocess.run(
        command, cwd=root, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )


def copy_with_bug(contract: str, folder: Path) -> Path:
    """A copy of the project with the bug, and with no other tests than this contract's. Gives its root."""
    root = folder / contract
    shutil.copytree(CONTRACTS / "src", root / "src")
    (root / "test").mkdir()
    for name in ("Scene.sol", "Vm.sol", "solc.mjs", f"{contract}.t.sol"):
        shutil.copy(CONTRACTS / "test" / name, root / "test" / name)
    shutil.copy(CONTRACTS / "foundry.toml", root)
    (root / "node_modules").symlink_to(PACKAGES)
    git = shutil.which("git") or sys.exit("there is no git to apply the seeded bugs with")
    subprocess.run([git, "apply", str(BUGS / f"{contract}.patch")], cwd=root, check=True)
    return root


def missed_bug(contract: str, runs: int | None, folder: Path) -> str:
    """What is wrong if the seeded bug of a contract is not found; empty if it is."""
    seeded = run_forge(copy_with_bug(contract, folder), contract, runs)
    if seeded.returncode and "[FAIL" in seeded.stdout:
        return ""
    return f"{contract}: the seeded bug was not found\n{seeded.stdout}{seeded.stderr}"


def broken_invariant(contract: str, runs: int | None) -> str:
    """What is wrong with a contract; empty if its invariants hold."""
    sound = run_forge(CONTRACTS, contract, runs)
    if sound.returncode == 0 and "[PASS]" in sound.stdout:
        return ""
    return f"{contract}: an invariant does not hold\n{sound.stdout}{sound.stderr}"


def main(arguments: list[str]) -> int:
    """Returns 0 if every invariant holds and every seeded bug breaks one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contracts", nargs="*", default=sorted(path.stem for path in BUGS.glob("*.patch")))
    parser.add_argument("--runs", type=int)
    options = parser.parse_args(arguments)
    install()
    status = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        names = f"({'|'.join(options.contracts)})"
        looking = {pool.submit(broken_invariant, names, options.runs): "the invariants hold"}
        for name in options.contracts:
            looking[pool.submit(missed_bug, name, options.runs, Path(folder))] = f"{name}: the bug is found"
        for look in as_completed(looking):
            status |= bool(look.result())
            print(look.result() or looking[look], flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
