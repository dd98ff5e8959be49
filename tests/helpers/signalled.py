"""``distrai`` as a process of its own that gets a signal as soon as it has told an event of a kind.

It sends that to itself: a test that reads what it tells may come to it late, when the run is over already.
"""

import signal
import sys
from pathlib import Path

_PROGRAM = """
import os, sys
from distrai.cli.main import main
from distrai.runs.display import JsonLines

kind, number, sys.argv[1:] = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
report, told = JsonLines.report, []

def telling(self, event):
    report(self, event)
    if event["event"] == kind and not told:
        told.append(event)
        os.kill(os.getpid(), number)

JsonLines.report = telling
sys.exit(main())
"""


def signalled(kind: str, number: signal.Signals, *arguments: str | Path) -> list[str]:
    """The command; it needs ``--json`` among its arguments."""
    return [sys.executable, "-c", _PROGRAM, kind, str(int(number)), *map(str, arguments)]
