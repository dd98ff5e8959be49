"""Bytes counted at the socket against what the kernel counted at the interface, between two network namespaces."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from helpers.namespaces import NoNamespaces, Space, two_spaces

pytestmark = pytest.mark.processes

SIZES = {"updates": 24 << 20, "snapshots": 9 << 20}
MESSAGES, MESSAGE_BYTES = 60, 100_000


@pytest.fixture
def spaces() -> Iterator[tuple[Space, Space]]:
    try:
        with two_spaces() as both:
            yield both
    except NoNamespaces as error:
        pytest.skip(f"needs network namespaces: {error}")


class Peer:
    """One process of ``helpers.counted`` in its namespace."""

    def __init__(self, role: str, space: Space, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        command = space.command(sys.executable, "-m", "helpers.counted", role, str(folder), space.address)
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, **facts: object) -> None:
        self.process.stdin.write(json.dumps(facts) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict:
        """The next line; nothing comes any more once the process has ended, whatever the reason."""
        line = self.process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)


def test_what_is_counted_is_what_passes_the_link(spaces: tuple[Space, Space], tmp_path: Path) -> None:
    one, two = spaces
    with Peer("author", one, tmp_path) as author, Peer("reader", two, tmp_path) as reader:
        author.tell(sizes=SIZES)
        reader.tell(**author.hear(), messages=MESSAGES, message_bytes=MESSAGE_BYTES)
        author.tell(messages=MESSAGES)
        assert reader.hear() == {"done": True}
        counted = []
        for peer in (reader, author):
            peer.tell()
            counted.append(peer.hear()["counters"])
        for space, counters in zip((two, one), counted, strict=True):
            for way, kernel in (("up", "tx_bytes"), ("down", "rx_bytes")):
                assert sum(counters[way].values()) == pytest.approx(space.counted(kernel), rel=0.1)
    down, up = counted[0]["down"], counted[0]["up"]
    for purpose, size in SIZES.items():
        assert size < down[purpose] < 1.02 * size
    assert MESSAGES * MESSAGE_BYTES < up["control"] < 1.02 * MESSAGES * MESSAGE_BYTES
