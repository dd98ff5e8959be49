"""How a peer is told of its object store: by a file in its home, or by the environment; never by arguments or recipes.

``store.toml`` in the peer's home must be readable by its owner alone, as it may hold a secret. A variable of the
environment, ``DISTRAI_STORE_`` and the name in capitals, counts before the file.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.network.objects.bucket import BucketAccess
from distrai.network.objects.locations import bucket_url

FILE = "store.toml"
VARIABLE = "DISTRAI_STORE_"
_TEXTS = (
    *("endpoint", "bucket", "prefix", "region", "read_url"),
    *("access_key_id", "secret_access_key", "session_token"),
)
_NAMES = (*_TEXTS, "keep_bytes", "listen")
_MODE_OF_OTHERS = 0o077


@dataclass(frozen=True)
class StoreSettings:
    """The own bucket, and whether this peer listens for others as well."""

    access: BucketAccess
    listen: bool = True


def find_settings(home: Path, environment: Mapping[str, str]) -> StoreSettings | None:
    """What a peer was told of its object store; None if nothing. Raises ValueError that says what to change."""
    values = _from_file(home / FILE) | _from_environment(environment)
    if not values:
        return None
    for name in ("endpoint", "bucket"):
        if not values.get(name):
            raise ValueError(f"the object store needs {name!r}, in {FILE} or as {VARIABLE}{name.upper()}")
    if bool(values.get("access_key_id")) != bool(values.get("secret_access_key")):
        raise ValueError("the object store needs both 'access_key_id' and 'secret_access_key', or neither")
    prefix = values.get("prefix", "").strip("/")
    address = "/".join(part for part in (values["endpoint"].rstrip("/"), values["bucket"], prefix) if part)
    texts = {name: values[name] for name in _TEXTS if name in values}
    access = BucketAccess(
        **{**texts, "prefix": prefix, "read_url": bucket_url(values.get("read_url", address))},
        **({"keep_bytes": values["keep_bytes"]} if "keep_bytes" in values else {}),
    )
    return StoreSettings(access, values.get("listen", True))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return {}
    if mode & _MODE_OF_OTHERS:
        raise ValueError(f"{path} may be read by others, and holds a secret: chmod 600 {path}")
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ValueError(
            f"{path} is no TOML file"
        ) from None  # the error would show a line, and what is in it
    found = table.get("store", table)
    for name, value in found.items():
        kind = {"keep_bytes": int, "listen": bool}.get(name, str)
        if name not in _NAMES or type(value) is not kind:
            raise ValueError(
                f"{path}: {name!r} is not known, or no {kind.__name__}; see docs/object-store.md"
            )
    return dict(found)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _NAMES:
        text = environment.get(VARIABLE + name.upper())
        if text:
            found[name] = _value(name, text)
    return found


def _value(name: str, text: str) -> Any:
    if name == "keep_bytes":
        if not text.isdecimal():
            raise ValueError(f"{VARIABLE}KEEP_BYTES must be a number of bytes")
        return int(text)
    if name == "listen":
        if text.lower() not in ("0", "1", "false", "true"):
            raise ValueError(f"{VARIABLE}LISTEN must be 0 or 1")
        return text.lower() in ("1", "true")
    return text
