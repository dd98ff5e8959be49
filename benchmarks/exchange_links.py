"""Machines that are not there: network namespaces on one bridge, each behind a link of its own speed.

A link is a pair of virtual interfaces with a token bucket (``tc tbf``) at both ends: one limits what leaves, one what
arrives. Needs root and iproute2. Everything is removed at the end; names carry the number of the process.
"""

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

BURST_BYTES = 64 << 10
LATENCY_MS = 50
"""How long a queue at a link may get."""


class NoNamespaces(Exception):
    """This machine does not let us make network namespaces."""


def run(*command: str) -> None:
    """Run a command of iproute2. Raises NoNamespaces with what it said."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoNamespaces(f"{command[0]} is missing: install iproute2") from None
    except subprocess.CalledProcessError as error:
        raise NoNamespaces(f"{' '.join(command)}: {error.stderr.strip()}") from None


@dataclass(frozen=True)
class Link:
    """One machine's link, in Mbit/s each way; None: no limit."""

    up_mbit: float | None
    down_mbit: float | None


@dataclass
class Machines:
    """Namespaces by name, from ``with`` to its end."""

    links: dict[str, Link]
    prefix: str = field(default_factory=lambda: f"dx{os.getpid()}")

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def address(self, name: str) -> str:
        """The address of a machine."""
        return f"10.77.0.{1 + list(self.links).index(name)}"

    def command(self, name: str, *command: str) -> list[str]:
        """A command that runs on a machine."""
        return ["ip", "netns", "exec", self._space(name), *command]

    def interface(self, name: str) -> str:
        """The machine's end of its link, as the machine calls it."""
        return f"{self.prefix}m{list(self.links).index(name)}"

    def limit(self, name: str, link: Link, burst_bytes: int = BURST_BYTES) -> None:
        """Limit a machine's link, or limit it anew; a token bucket lets ``burst_bytes`` pass at once after a pause."""
        at = list(self.links).index(name)
        _limit(self._space(name), self.interface(name), link.up_mbit, burst_bytes)
        _limit(self._space("hub"), f"{self.prefix}h{at}", link.down_mbit, burst_bytes)

    def _space(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def _build(self) -> None:
        hub = self._space("hub")
        run("ip", "netns", "add", hub)
        run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", hub, "link", "set", "bridge", "up")
        for at, (name, link) in enumerate(self.links.items()):
            space, ours, theirs = self._space(name), self.interface(name), f"{self.prefix}h{at}"
            run("ip", "netns", "add", space)
            run("ip", "-n", hub, "link", "add", theirs, "type", "veth", "peer", "name", ours, "netns", space)
            run("ip", "-n", hub, "link", "set", theirs, "master", "bridge", "up")
            run("ip", "-n", space, "address", "add", f"{self.address(name)}/24", "dev", ours)
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", ours, "up")
            self.limit(name, link)

    def _remove(self) -> None:
        for name in ("hub", *self.links):
            with suppress(NoNamespaces):  # not made yet
                run("ip", "netns", "delete", self._space(name))


def _limit(space: str, interface: str, mbit: float | None, burst_bytes: int) -> None:
    if mbit is not None:
        bucket = ("rate", f"{mbit:g}mbit", "burst", str(burst_bytes), "latency", f"{LATENCY_MS}ms")
        run("tc", "-n", space, "qdisc", "replace", "dev", interface, "root", "tbf", *bucket)
