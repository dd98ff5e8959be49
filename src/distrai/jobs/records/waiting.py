"""How long a ledger's node is waited for by somebody who looks on, and that it is said."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from distrai.ledger.rpc import Patience

READING = Patience(request_s=4.0, call_s=8.0)
"""For what only reads: it can be typed again. A job that writes its record has more, since its work would wait."""
_SAY_AFTER_S = 2.0


@contextmanager
def said_while_waiting(what: str) -> Iterator[None]:
    """Say on stderr what is waited for, once that takes long enough to wonder. Inside of a running loop."""
    saying = asyncio.get_running_loop().call_later(
        _SAY_AFTER_S, lambda: print(f"waiting for {what} to answer ...", file=sys.stderr, flush=True)
    )
    try:
        yield
    finally:
        saying.cancel()
