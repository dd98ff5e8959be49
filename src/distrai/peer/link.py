"""What names a run to the outside: a ledger to ask, the registry on it, the run's number, and its genesis head."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from distrai.protocol.primitives import HASH_SIZE, Address, Hash

_SCHEME = "distrai"


@dataclass(frozen=True)
class Link:
    """Everything a peer needs to be told; the rest is on the ledger or comes from other peers.

    ``genesis``: the head that the run began with. A ledger on which the run has another one is not the one that is
    meant, or lies; None where nobody said which it is.
    """

    rpc: str
    chain_id: int
    registry: Address
    run: int
    genesis: Hash | None = None

    def __str__(self) -> str:
        query: dict[str, str | int] = {"rpc": self.rpc, "chain": self.chain_id}
        if self.genesis is not None:
            query["genesis"] = self.genesis.hex()
        return f"{_SCHEME}://0x{self.registry.hex()}/{self.run}?{urlencode(query)}"


def parse_link(text: str) -> Link:
    """Read what ``str(link)`` wrote. Raises ValueError that says how a link looks."""
    parts = urlsplit(text)
    query = parse_qs(parts.query)
    registry = re.fullmatch(r"0x([0-9a-fA-F]{40})", parts.netloc)
    run = re.fullmatch(r"/([0-9]{1,18})", parts.path)
    rpc, chain = query.get("rpc", [""])[0], query.get("chain", [""])[0]
    genesis = re.fullmatch(rf"(?:0x)?([0-9a-fA-F]{{{2 * HASH_SIZE}}}|)", query.get("genesis", [""])[0])
    if parts.scheme != _SCHEME or not registry or not run or not genesis or not rpc or not _is_number(chain):
        raise ValueError(
            f"{text[:200]!r} is no link to a run: it looks like {_SCHEME}://0x<registry>/<run>?rpc=<url>&chain=<id>, "
            "with &genesis=<head> behind it; put it between quotation marks"
        )
    head = Hash(bytes.fromhex(genesis[1])) if genesis[1] else None
    return Link(rpc, int(chain), Address(bytes.fromhex(registry[1])), int(run[1]), head)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 32
