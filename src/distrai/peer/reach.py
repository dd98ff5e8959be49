"""Where this machine is, seen from the run's ledger: which address to listen on, and whether the run is private."""

import socket
from typing import Any
from urllib.parse import urlsplit

from distrai.network.http.sockets import is_public

_DEFAULT_PORTS = {"http": 80, "https": 443}


def own_address_towards(url: str) -> str:
    """The own address from which this machine would call a server. Nothing is sent. Raises OSError or ValueError."""
    family, address = _resolved(url)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def is_private(url: str) -> bool:
    """Whether a server is on this machine or in a private network. Raises OSError or ValueError."""
    return not any(is_public(str(address[0])) for _, address in _resolved(url))


def _resolved(url: str) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url[:200]!r} names no host")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)
    return [(family, address) for family, _, _, _, address in found]
