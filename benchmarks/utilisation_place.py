"""Become a command on one core: ``python -m utilisation_place CORE COMMAND...`` (Linux)."""

import os
import sys

if __name__ == "__main__":
    core, *command = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point
