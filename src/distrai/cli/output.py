"""Printing results: for people, or as one JSON object."""

import json
from collections.abc import Mapping
from typing import Any


def tell(told: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print ``told`` as JSON on one line, or ``text``."""
    print(json.dumps(told, ensure_ascii=False) if as_json else text, flush=True)
