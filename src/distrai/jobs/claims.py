"""What a job's training record claims: model, hardware, theme, hyper-parameters. No ledger can check these."""

import hashlib
import json
import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from distrai.jobs.machine import Machine, machine
from distrai.jobs.store import JobFolder, JobState
from distrai.ledger.training_records import Request
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Hash

LOCAL = "local"
"""The provider of a machine of one's own."""
TEXT_BYTES, MODEL_BYTES, PARAMETERS_BYTES = 64, 96, 1024
"""What the contract keeps of a text, of the model's name, of the hyper-parameters."""
_HEADER_BYTES_MAX = 100 << 20
_MICROS = 1_000_000
_PRICE_MAX = 1_000_000
"""Dollars for a graphics processor and hour."""
_LEFT_OUT = {"data", "held_out_data", "output"}


class BadClaim(ValueError):
    """A claim that a record cannot keep; the message says why."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a sender says of where a job is trained. ``gpu`` empty: what this machine has.

    ``price_per_hour`` of a graphics processor in millionths of a US dollar; 0 for a machine of one's own.
    """

    gpu: str = ""
    provider: str = LOCAL
    price_per_hour: int = 0

    @classmethod
    def read(cls, gpu: str = "", provider: str = "", price: str = "") -> "Claims":
        """From what a user types; ``price`` in dollars. Raises BadClaim."""
        for option, text in (("--gpu", gpu), ("--provider", provider)):
            if len(text.encode()) > TEXT_BYTES or not text.isprintable():
                raise BadClaim(f"{option} is text of at most {TEXT_BYTES} bytes: the record keeps no more")
        return cls(gpu.strip(), provider.strip() or LOCAL, _micros(price) if price else 0)

    def machine(self) -> Machine:
        """What the record names: what is claimed, else what is found here."""
        found = machine()
        return Machine(self.gpu, max(1, found.gpus)) if self.gpu else found


def _micros(price: str) -> int:
    try:
        dollars = Decimal(price.strip().removeprefix("$"))
    except InvalidOperation:
        dollars = Decimal("NaN")
    if not dollars.is_finite() or not 0 <= dollars <= _PRICE_MAX:
        raise BadClaim(
            f"--price-hour {price[:40]!r} is no price: write dollars for a GPU and hour, like 2.50"
        )
    return round(dollars * _MICROS)


def request_of(job: JobFolder, state: JobState, theme: str = "", claims: Claims | None = None) -> Request:
    """What the record of a job is opened with. Its source is the script's hash, or that of the command."""
    values, claims = job.values(), claims or Claims()
    model = base_of(values)
    return Request(
        run=0,
        source=source_of(state),
        price_per_hour=claims.price_per_hour,
        parameter_count=count_parameters(Path(model)) if model else 0,
        gpu=cut(claims.machine().name, TEXT_BYTES),
        provider=claims.provider,
        model=cut(shown_name(model) or f"{state.name}, new", MODEL_BYTES),
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


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")
