"""Two network namespaces with a cable between them, for tests of what really passes a link. Needs root and iproute2."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class NoNamespaces(Exception):
    """This machine does not let a test make network namespaces; the message says what failed."""


@dataclass(frozen=True)
class Space:
    """One end of the cable."""

    name: str
    address: str
    interface: str

    def command(self, *command: str) -> list[str]:
        """A command that runs inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def counted(self, what: str) -> int:
        """A counter of the kernel for this end, as ``tx_bytes``."""
        path = f"/sys/class/net/{self.interface}/statistics/{what}"
        found = subprocess.run(self.command("cat", path), check=True, capture_output=True, text=True)
        return int(found.stdout)


@contextmanager
def two_spaces() -> Iterator[tuple[Space, Space]]:
    """Make both, and remove them at the end. Raises NoNamespaces."""
    prefix = f"dt{os.getpid()}"
    one, two = (Space(f"{prefix}-{number}", f"10.78.0.{number}", f"{prefix}v{number}") for number in (1, 2))
    try:
        for space in (one, two):
            _ip("netns", "add", space.name)
        ends = ("peer", "name", two.interface, "netns", two.name)
        _ip("-n", one.name, "link", "add", one.interface, "type", "veth", *ends)
        for space in (one, two):
            _ip("-n", space.name, "address", "add", f"{space.address}/24", "dev", space.interface)
            _ip("-n", space.name, "link", "set", "lo", "up")
            _ip("-n", space.name, "link", "set", space.interface, "up")
        yield one, two
    finally:
        for space in (one, two):
            subprocess.run(["ip", "netns", "delete", space.name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoNamespaces("iproute2 is not installed") from None
    except subprocess.CalledProcessError as error:
        raise NoNamespaces(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from None
