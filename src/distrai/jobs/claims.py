"""What a job's training record claims: model, hardware, theme, hyper-parameters. No ledger can check these."""

import hashlib
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

from distrai.jobs.store import JobFolder, JobState
from distrai.ledger.training_records import Request
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Hash

OWN_MACHINE = "own machine"
TEXT_BYTES, MODEL_BYTES, PARAMETERS_BYTES = 64, 96, 1024
"""What the contract keeps of a text, of the model's name, of the hyper-parameters."""
_HEADER_BYTES_MAX = 100 << 20
_GPUS = Path("/proc/driver/nvidia/gpus")
_LEFT_OUT = {"data", "held_out_data", "output"}


def request_of(job: JobFolder, state: JobState, theme: str = "") -> Request:
    """What the record of a job is opened with. Its source is the script's hash, or that of the command."""
    values = job.values()
    model = base_of(values)
    return Request(
        run=0,
        source=source_of(state),
        price_per_hour=0,
        parameter_count=count_parameters(Path(model)) if model else 0,
        gpu=cut(hardware(), TEXT_BYTES),
        provider=OWN_MACHINE,
        model=cut(
            Path(model).name if Path(model).is_absolute() else model or f"{state.name}, new", MODEL_BYTES
        ),
        theme=cut(theme or state.kind or state.name, TEXT_BYTES),
        parameters=key_parameters(state.job_id, values),
    )


def base_of(values: dict[str, Any]) -> str:
    """The model that training starts from: a folder, a name on a hub, or empty for a new one."""
    return str(values.get("model") or values.get("student") or "")


def shown_name(source: str) -> str:
    """A name on a hub as it is; of a folder or file only the last part, since the rest is nobody's business."""
    return Path(source).name if Path(source).is_absolute() else source


def source_of(state: JobState) -> Hash:
    """SHA-256 of what is run."""
    if state.script_hash:
        return Hash(bytes.fromhex(state.script_hash))
    return Hash(hashlib.sha256(canonical_json({"command": state.command})).digest())


def key_parameters(job_id: str, values: dict[str, Any]) -> str:
    """The job's name and its values as canonical JSON, as many as there is room for: numbers first."""
    chosen: dict[str, Any] = {"job": job_id}
    plain = {key: value for key, value in values.items() if key not in _LEFT_OUT and not _is_path(value)}
    for key in sorted(plain, key=lambda key: (isinstance(plain[key], str), len(str(plain[key])), key)):
        if len(canonical_json({**chosen, key: plain[key]})) <= PARAMETERS_BYTES:
            chosen[key] = plain[key]
    return canonical_json(chosen).decode()


def count_parameters(folder: Path) -> int:
    """How many numbers the safetensors files of a model have, by their headers alone; 0 if that is not known here."""
    try:
        return sum(_count(path) for path in folder.glob("*.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0


def hardware() -> str:
    """The graphics processors of this machine, or its processor, as they call themselves."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    gpus = [] if hidden else [_field(path, "Model") for path in sorted(_GPUS.glob("*/information"))]
    if gpus:
        return f"{len(gpus)} x {gpus[0]}" if len(gpus) > 1 else gpus[0]
    return f"no GPU; CPU {_field(Path('/proc/cpuinfo'), 'model name') or platform.processor() or platform.machine()}"


def cut(text: str, size: int) -> str:
    """As much of a text as there is room for, in whole characters."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _count(path: Path) -> int:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _HEADER_BYTES_MAX:
            return 0
        header = json.loads(file.read(size))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _field(path: Path, name: str) -> str:
    """The first value of this name in a file of the kernel's."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")
