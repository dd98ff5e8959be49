"""What a peer tells whoever started it: one JSON object per line on standard output."""

import json
import sys
import time
from typing import Any


class Telemetry:
    """Writes events; ``quiet`` keeps them to itself (in tests)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def emit(self, event: str, **facts: Any) -> None:
        """Write an event. ``t`` is this machine's monotonic clock in seconds, for durations on one machine."""
        if self.quiet:
            return
        line = json.dumps({"event": event, "t": round(time.monotonic(), 4), **facts}, default=_plain)
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self.quiet = True  # nobody listens any more; the run goes on


def _plain(value: object) -> str:
    assert isinstance(value, bytes), f"{type(value).__name__} cannot be told in JSON"
    return "0x" + value.hex()
