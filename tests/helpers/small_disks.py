"""A disk of little room, for tests of what happens when it is full. Needs user namespaces or root."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def on_small_disk(program: str, folder: Path, size: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a disk of this size in ``folder``, which is its first argument. The disk goes when it ends."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} none "{folder}" && exec "$@"'
    small = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no test mount a small disk")
    command = [*small, sys.executable, "-c", program, str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
