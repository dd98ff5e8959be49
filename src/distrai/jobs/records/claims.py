"""What a job's training record claims: model, hardware, theme, hyper-parameters. No ledger can check these."""

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from distrai.jobs.estimates.counting import count_parameters
from distrai.jobs.estimates.machine import Machine, machine
from distrai.jobs.estimates.model_size import size_of, size_of_new
from distrai.jobs.running.store import JobFolder, JobState
from distrai.ledger.training_records import Request
from distrai.protocol.canonical import canonical_json
from distrai.protocol.primitives import Hash

LOCAL = "local"
"""The provider of a machine of one's own."""
TEXT_BYTES, MODEL_BYTES, PARAMETERS_BYTES = 64, 96, 1024
"""What the contract keeps of a text, of the model's name, of the hyper-parameters."""
_MICROS = 1_000_000
_PRICE_MAX = 1_000_000
"""Dollars for a graphics processor and hour."""
_LEFT_OUT = {"data", "held_out_data", "output"}
_SECRET = re.compile(
    r"(?:^|_)(?:token|key|api_?key|password|passphrase|secret|credentials?)(?:$|_)", re.IGNORECASE
)
"""Names of values that are nobody's business, in whatever form a template calls them."""


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
        parameter_count=parameter_count(values),
        gpu=cut(claims.machine().name, TEXT_BYTES),
        provider=claims.provider,
        model=cut(shown_name(model) or _new_model(state, values), MODEL_BYTES),
        theme=cut(theme or state.kind or state.name, TEXT_BYTES),
        parameters=key_parameters(state.job_id, values),
    )


def base_of(values: dict[str, Any]) -> str:
    """The model that training starts from: a folder, a name on a hub, or empty for a new one."""
    return str(values.get("model") or values.get("student") or "")


def _new_model(state: JobState, values: dict[str, Any]) -> str:
    """What a job makes that starts from no model: a new one, or, of a script without such a form, who knows."""
    return f"a new model ({state.name})" if size_of_new(values) else f"not told ({state.name})"


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
    plain = {key: value for key, value in told_values(values).items() if key not in _LEFT_OUT}
    for key in sorted(plain, key=lambda key: (isinstance(plain[key], str), len(str(plain[key])), key)):
        if len(canonical_json({**chosen, key: plain[key]})) <= PARAMETERS_BYTES:
            chosen[key] = plain[key]
    return canonical_json(chosen).decode()


def told_values(values: dict[str, Any]) -> dict[str, Any]:
    """The values that everybody may see: no paths, and none whose name says that it is a secret."""
    return {key: value for key, value in values.items() if not _is_path(value) and not _SECRET.search(key)}


def parameter_count(values: dict[str, Any]) -> int:
    """How many parameters the model has: counted in its folder, as the hub says, or by name or form; 0 if unknown."""
    model, new = base_of(values), size_of_new(values)
    if not model:
        return new.parameters if new else 0
    if model.startswith("/"):
        return count_parameters(Path(model))
    from distrai.jobs.hub.push import parameters_on_hub

    guess = size_of(model)
    return parameters_on_hub(model) or (guess.parameters if guess else 0)


def cut(text: str, size: int) -> str:
    """As much of a text as there is room for, in whole characters."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")
