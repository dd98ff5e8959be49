"""How other machines reach a run that was opened on this one: its ledger and its peers."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
_PORT_MAX = 65535
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")


class CannotListen(ValueError):
    """An address cannot be listened on or told to others; the message says what to give instead."""


@dataclass(frozen=True)
class Listening:
    """``address``: where the ledger and the peers listen; ``advertise``: the host that others see, if that is another.

    ``port``: that of the ledger, the next ones are the peers'; 0: any. Raises CannotListen.
    """

    address: str = LOOPBACK
    advertise: str = ""
    port: int = 0

    def __post_init__(self) -> None:
        address = _parsed(self.address)
        if address is None:
            raise CannotListen(
                f"--listen {self.address!r} is no IP address: give one of this machine's, or 0.0.0.0 for all"
            )
        if address.is_unspecified and not self.advertise:
            raise CannotListen(
                f"--listen {self.address} means all addresses: say with --advertise HOST which one others see"
            )
        told = _parsed(self.advertise)
        if self.advertise and told is None and not _NAME.fullmatch(self.advertise):
            raise CannotListen(
                f"--advertise {self.advertise!r} is no host: give a name or an IP address alone"
            )
        if told is not None and told.is_unspecified:
            raise CannotListen(f"--advertise {self.advertise} is no address that anybody could reach")
        if not 0 <= self.port <= _PORT_MAX:
            raise CannotListen(f"--port {self.port} is no port: they go up to {_PORT_MAX}")

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach the run."""
        address = _parsed(self.address)
        return address is None or not address.is_loopback

    def ledger_arguments(self) -> list[str]:
        """For the ledger's process."""
        arguments = ["--listen", self.address, "--port", str(self.port)]
        if self.advertise and _parsed(self.advertise) is None:
            arguments += ["--name", self.advertise]
        return arguments

    def peer_arguments(self, number: int) -> list[str]:
        """For the process of a peer."""
        port = self.port and self.port + 1 + number
        return ["--host", self.address, "--port", str(port), "--advertise", self.advertise]

    def told(self, url: str) -> str:
        """The ledger's URL as others see it; ``url`` is what this machine uses."""
        if not self.advertise:
            return url
        return f"http://{_bracketed(self.advertise)}:{urlsplit(url).port}"


def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and _parsed(host) is not None else host
