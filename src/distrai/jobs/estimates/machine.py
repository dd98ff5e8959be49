"""What this machine calls its graphics processors and its processor, without loading torch here."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

_GPUS = Path("/proc/driver/nvidia/gpus")
_LOOK_S = 20.0
_NONE = ("", "-1", "NoDevFiles")


@dataclass(frozen=True, slots=True)
class Machine:
    """What trains: its name, and how many graphics processors a script sees (0: it trains on the processor)."""

    name: str
    gpus: int


def machine(environment: Mapping[str, str] | None = None) -> Machine:
    """This machine as a script sees it: CUDA_VISIBLE_DEVICES hides graphics processors from it."""
    environment = os.environ if environment is None else environment
    shown = visible(_gpus(), environment.get("CUDA_VISIBLE_DEVICES"))
    if shown:
        counts = {name: shown.count(name) for name in dict.fromkeys(shown)}
        return Machine(
            ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items()), len(shown)
        )
    cpu = _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()
    return Machine(f"no GPU; CPU {cpu}", 0)


def visible(gpus: Sequence[tuple[str, str]], chosen: str | None) -> list[str]:
    """The names of those (identifier, name) that CUDA_VISIBLE_DEVICES leaves: as CUDA does, up to the first unknown."""
    if chosen is None:
        return [name for _, name in gpus]
    found = []
    for item in (part.strip() for part in chosen.split(",")):
        if item in _NONE:
            break
        if item.isdigit():
            if int(item) >= len(gpus):
                break
            found.append(gpus[int(item)][1])
            continue
        named = [name for identifier, name in gpus if identifier.startswith(item)]
        if not named:
            break
        found.append(named[0])
    return found


@cache
def _gpus() -> tuple[tuple[str, str], ...]:
    """Identifier and name of each, from the driver's own tool; without it from what the kernel shows."""
    if tool := which("nvidia-smi"):
        command = [tool, "--query-gpu=uuid,name", "--format=csv,noheader"]
        try:
            done = subprocess.run(  # noqa: S603  # the driver's tool, nothing of a user's in it
                command, capture_output=True, text=True, timeout=_LOOK_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            done = None
        if done is not None and done.returncode == 0:
            rows = [line.partition(",") for line in done.stdout.splitlines() if "," in line]
            return tuple((identifier.strip(), name.strip()) for identifier, _, name in rows)
    return tuple(("", _field(path, "Model")) for path in sorted(_GPUS.glob("*/information")))


def _field(path: Path, name: str) -> str:
    """The first value of this name in a file of the kernel's."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
