"""What the embedded chain gives to other machines: so many connections, and so much of its time.

The chain answers one request after the other, and requests differ a thousandfold in what they cost. So what is limited
is not their number but the seconds that answering one machine takes. This machine itself is not limited.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

_MACHINES_MAX = 4096


@dataclass(frozen=True)
class GuestLimits:
    """For each other machine (an IPv4 address, or an IPv6 network of 64 bits)."""

    share: float = 0.25
    """Seconds of the chain's time for each second that passes."""
    saved_s: float = 10.0
    """What may be saved up of them: joining and catching up cost more than taking part."""
    connections: int = 64
    connections_of_all: int = 512


class Allowances:
    """Who has used how much of the chain's time."""

    def __init__(self, limits: GuestLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._left: dict[str, tuple[float, float]] = {}
        """By machine: seconds left, and when that was."""

    def may_ask(self, machine: str) -> bool:
        """Whether anything is left; a machine in debt waits until its share has paid it off."""
        return self._now(machine) > 0

    def charge(self, machine: str, seconds: float) -> None:
        """Answering took so long."""
        left = self._now(machine) - seconds
        self._left.pop(machine, None)
        if len(self._left) >= _MACHINES_MAX:  # the one that asked longest ago has saved most
            del self._left[next(iter(self._left))]
        self._left[machine] = (left, self._clock())

    def _now(self, machine: str) -> float:
        left, at = self._left.get(machine, (self._limits.saved_s, self._clock()))
        return min(self._limits.saved_s, left + (self._clock() - at) * self._limits.share)


def machine_of(address: str) -> str:
    """What counts as one machine: whoever has one IPv6 address usually has a whole network of them."""
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))


class _Connection(socket.socket):
    """Says when it is closed."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        if self.on_close is not None:
            self.on_close()
            self.on_close = None
        super().close()


class Listener(socket.socket):
    """A listening socket that ends connections above the limits at once."""

    limits = GuestLimits()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._open: Counter[str] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        plain, address = super().accept()
        host = str(address[0])
        machine = "" if is_this_machine(host, str(plain.getsockname()[0])) else machine_of(host)
        full = self._open.total() >= self.limits.connections_of_all
        if machine and (full or self._open[machine] >= self.limits.connections):
            plain.close()
            raise ConnectionAbortedError("too many connections")  # asyncio takes the next
        connection = _Connection(fileno=plain.detach())
        if machine:
            self._open[machine] += 1
            connection.on_close = lambda: self._forget(machine)
        return connection, address

    def _forget(self, machine: str) -> None:
        self._open[machine] -= 1
        if not self._open[machine]:
            del self._open[machine]


def is_this_machine(remote: str, own: str) -> bool:
    """Whether who calls from ``remote`` the address ``own`` is on this machine."""
    return remote == own or ip_address(remote.partition("%")[0]).is_loopback


def listen(host: str, port: int, limits: GuestLimits) -> Listener:
    """Bind a listening socket. Raises OSError, as for a port that is taken."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = Listener(family, kind, protocol)
    listener.limits = limits
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
