"""Sockets that count: below HTTP and below TLS, so that headers and retries count like everything else.

asyncio's selector loop calls these methods for every byte; on a loop that does not (Windows' proactor), counts stay 0.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from distrai.network.counters import Counters, Direction

_UNSENT_BYTES = 128 << 10
"""What the kernel keeps of an answer beyond what is on its way: enough to keep the link busy."""


class PlainAddress(OSError):
    """A URL without TLS leads to another machine."""


class PrivateAddress(OSError):
    """An endpoint leads into a private network, which only local recipes may use."""


class CountedSocket(socket.socket):
    """A connection whose bytes are counted under its purpose, once that is known."""

    def __init__(self, *args: Any, counters: Counters, purpose: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._counters = counters
        self._purpose = purpose
        self._waiting: Counter[Direction] = Counter()
        self.on_close: Callable[[], None] | None = None

    def explain(self, purpose: str) -> None:
        """Say what the bytes are for from here on; those that nobody explained yet were for the same."""
        self._purpose = purpose
        self._settle(purpose)

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self._count("down", len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        count = super().recv_into(*args)
        self._count("down", count)
        return count

    def send(self, *args: Any) -> int:
        count = super().send(*args)
        self._count("up", count)
        return count

    def sendmsg(self, *args: Any) -> int:
        count = super().sendmsg(*args)
        self._count("up", count)
        return count

    def close(self) -> None:
        self._settle("control")
        if self.on_close is not None:
            self.on_close()
            self.on_close = None
        super().close()

    def _count(self, direction: Direction, count: int) -> None:
        if self._purpose is None:
            self._waiting[direction] += count
        else:
            self._counters.add(direction, self._purpose, count)

    def _settle(self, purpose: str) -> None:
        for direction, count in self._waiting.items():
            self._counters.add(direction, purpose, count)
        self._waiting.clear()


class CountingListener(socket.socket):
    """A listening socket whose connections count, and that ends those above its limits at once."""

    def __init__(
        self, *args: Any, counters: Counters, limit: int, limit_per_host: int, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._counters, self._limit, self._limit_per_host = counters, limit, limit_per_host
        self._open: dict[int, CountedSocket] = {}
        self._hosts: Counter[str] = Counter()
        self.refused = 0
        self.all_ended = asyncio.Event()
        self.all_ended.set()

    def accept(self) -> tuple[socket.socket, Any]:
        plain, address = super().accept()
        host = str(address[0])
        if len(self._open) >= self._limit or self._hosts[host] >= self._limit_per_host:
            self.refused += 1
            plain.close()
            raise ConnectionAbortedError("too many connections")  # asyncio takes the next
        if hasattr(
            socket, "TCP_NOTSENT_LOWAT"
        ):  # what is written has been sent: who sends what is known, and dropped
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        counted = CountedSocket(counters=self._counters, fileno=plain.detach())
        number = counted.fileno()
        counted.on_close = lambda: self._forget(number, host)
        self._open[number] = counted
        self.all_ended.clear()
        self._hosts[host] += 1
        return counted, address

    def connection(self, number: int) -> CountedSocket | None:
        """An open connection by its file number."""
        return self._open.get(number)

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def _forget(self, number: int, host: str) -> None:
        self._open.pop(number, None)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
        if not self._open:
            self.all_ended.set()


def listen(host: str, port: int, counters: Counters, limit: int, limit_per_host: int) -> CountingListener:
    """Bind a listening socket. Raises OSError, as for a port that is taken."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = CountingListener(
        family, kind, protocol, counters=counters, limit=limit, limit_per_host=limit_per_host
    )
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def socket_factory(
    counters: Counters, purpose: str, *, local: bool, plain: bool = False
) -> Callable[[Any], socket.socket]:
    """What makes the client's sockets: whatever a name resolves to is looked at here, right before connecting.

    ``local`` allows private networks; ``plain`` is for URLs without TLS, which stay on this machine.
    """

    def make(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if plain and not is_loopback(str(address[0])):
            raise PlainAddress(errno.EACCES, f"{address[0]} is another machine: only https:// goes there")
        if not local and not is_public(str(address[0])):
            raise PrivateAddress(
                errno.EACCES, f"{address[0]} is in a private network: only local recipes go there"
            )
        return CountedSocket(family, kind, protocol, counters=counters, purpose=purpose)

    return make


def is_public(host: str) -> bool:
    """Whether an IP address is one of the open internet's, also when it is wrapped in another."""
    address = _unwrapped(host)
    if isinstance(address, IPv6Address):
        address = address.sixtofour or address
    return address.is_global and not address.is_multicast


def is_loopback(host: str) -> bool:
    """Whether an IP address is this machine's own, also when it is wrapped in another."""
    return _unwrapped(host).is_loopback


def _unwrapped(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.split("%", 1)[0])
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address
