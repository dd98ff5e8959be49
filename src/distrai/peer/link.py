"""What names a run to the outside: a ledger to ask, the registry on it, the run's number."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from distrai.protocol.primitives import Address

_SCHEME = "distrai"


@dataclass(frozen=True)
class Link:
    """Everything a peer needs to be told; the rest is on the ledger or comes from other peers."""

    rpc: str
    chain_id: int
    registry: Address
    run: int

    def __str__(self) -> str:
        query = urlencode({"rpc": self.rpc, "chain": self.chain_id})
        return f"{_SCHEME}://0x{self.registry.hex()}/{self.run}?{query}"


def parse_link(text: str) -> Link:
    """Read what ``str(link)`` wrote. Raises ValueError that says how a link looks."""
    parts = urlsplit(text)
    query = parse_qs(parts.query)
    registry = re.fullmatch(r"0x([0-9a-fA-F]{40})", parts.netloc)
    run = re.fullmatch(r"/(\d{1,18})", parts.path)
    rpc, chain = query.get("rpc", [""])[0], query.get("chain", [""])[0]
    if parts.scheme != _SCHEME or not registry or not run or not rpc or not chain.isdecimal():
        raise ValueError(
            f"{text[:200]!r} is no link to a run: it looks like {_SCHEME}://0x<registry>/<run>?rpc=<url>&chain=<id>"
        )
    return Link(rpc, int(chain), Address(bytes.fromhex(registry[1])), int(run[1]))
