"""What a doctor found."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``advice`` says what to do where it is not ``ok``."""

    what: str
    ok: bool
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)
