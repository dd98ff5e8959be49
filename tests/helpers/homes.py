"""Keeping a process out of the homes of others, where the system's users cannot do it: by an audit hook that refuses.

Every file that Python opens, lists, links, renames or removes passes the hook, and so does every database.
"""

import os
import sys
from pathlib import Path

GUARDED = "DISTRAI_TEST_OTHERS"
"""The environment variable with the folder of all homes."""
OWN = "DISTRAI_TEST_HOME"
"""The one with the home that this process may use."""
_EVENTS = {
    *("open", "sqlite3.connect", "os.listdir", "os.scandir", "os.chdir", "os.chmod", "os.chown", "os.link"),
    *(
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "shutil.copyfile",
    ),
}


class ForeignHome(PermissionError):
    """A process reached into the home of another."""


def guard() -> None:
    """Refuse every access below the folder of homes but to the own home, where the environment names them."""
    homes, own = os.environ.get(GUARDED), os.environ.get(OWN)
    if homes is None or own is None:
        return
    prefix, home = os.path.realpath(homes) + os.sep, os.path.realpath(own)
    busy = False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal busy
        if event not in _EVENTS or busy:
            return
        busy = True
        try:
            paths = [
                os.path.normpath(Path.cwd() / os.fsdecode(item))
                for item in arguments
                if isinstance(item, str | bytes | Path)
            ]
        finally:
            busy = False
        for path in paths:
            if path.startswith(prefix) and path != home and not path.startswith(home + os.sep):
                sys.stderr.write(f"foreign home: {event} {path}\n")
                raise ForeignHome(f"{event}: {path} is not in {home}")

    sys.addaudithook(hook)
