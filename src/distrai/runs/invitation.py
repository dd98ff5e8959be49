"""What who opened a run gives to others, so that they can join from another machine: one line of text.

It is the run's link (``peer/link.py``) with an address of the ledger that others can reach, and with the genesis head,
which pins the run: whatever ledger answers must have this run begin with this head.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from distrai.peer.link import Link, parse_link
from distrai.protocol.primitives import Address, Hash


@dataclass(frozen=True)
class Invitation:
    """Everything that somebody on another machine needs."""

    ledger_url: str
    chain_id: int
    registry: Address
    run: int
    genesis_head: Hash

    @property
    def link(self) -> Link:
        """The same as a peer takes it."""
        return Link(self.ledger_url, self.chain_id, self.registry, self.run, self.genesis_head)

    @property
    def leaves_this_machine(self) -> bool:
        """Whether the ledger's address means anything to another machine."""
        host = urlsplit(self.ledger_url).hostname or ""
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host != "localhost"


def format_invitation(invitation: Invitation) -> str:
    """The text to pass on; in a shell it needs quotation marks."""
    return str(invitation.link)


def parse_invitation(text: str) -> Invitation:
    """Read what ``format_invitation`` wrote. Raises ValueError that says what is missing."""
    link = parse_link(text.strip())
    if link.genesis is None:
        raise ValueError(
            "this link does not say with which head the run began (&genesis=...): ask for the whole link"
        )
    address = urlsplit(link.rpc)
    try:
        is_url = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # a port that is none
        is_url = False
    if not is_url:
        raise ValueError(f"{link.rpc[:200]!r} is no address of a ledger: it begins with http:// or https://")
    return Invitation(link.rpc, link.chain_id, link.registry, link.run, link.genesis)
