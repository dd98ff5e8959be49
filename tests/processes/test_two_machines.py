"""The walk-through of docs/two-machines.md, typed in two network namespaces with a cable between them."""

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from distrai.network.http import TlsKey
from helpers.namespaces import NoNamespaces, Space, two_spaces

pytestmark = pytest.mark.processes

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 300.0
LEDGER_PORT, PEER_PORTS = 4100, (4101, 4102)
WORDS = (REPOSITORY / "docs" / "two-machines.md").read_text()
FIRST, SECOND = "192.168.1.20", "192.168.1.21"
ASK = """
import asyncio, random, sys
from pathlib import Path
from coincurve import PrivateKey
from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint, NetworkError
from distrai.network.store import BlobStore
from distrai.protocol.signatures import recover

async def main(url, address, fingerprint, home):
    transport = HttpTransport(BlobStore(Path(home)), host="127.0.0.1", port=0, address=bytes(20), sign=None,
                              recover=recover, local=True, rng=random.Random(1))
    there = Endpoint(bytes(32), bytes.fromhex(address), (url,), bytes.fromhex(fingerprint))
    try:
        print("got", len(await transport.ask(there, "snapshots")))
    except NetworkError as error:
        print(error)
    await transport.close()

asyncio.run(main(*sys.argv[1:]))
"""


def typed(what: str, **values: str) -> list[str]:
    """The command under a heading of the document, as this test types it."""
    (text,) = re.findall(rf"<!-- on [0-9.]+: {what} -->\n```sh\n(.+)\n```", WORDS)
    for name, value in values.items():
        assert name in text
        text = text.replace(name, value)
    command = shlex.split(text)
    assert command[0] == "distrai"
    return [sys.executable, "-m", "distrai.cli", *command[1:]]


@dataclass
class Terminal:
    """A process in its namespace, and all that it has written. ``tty``: as in front of a person, who can type."""

    space: Space
    command: list[str]
    folder: Path
    tty: bool = False
    text: str = ""
    process: subprocess.Popen[bytes] = field(init=False)
    screen: int = field(init=False)

    def __enter__(self) -> Self:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "tests")}
        if self.tty:
            self.screen, keyboard = pty.openpty()
            ends = {"stdin": keyboard, "stdout": keyboard}
        else:
            self.screen, keyboard = os.pipe()
            ends = {"stdin": subprocess.PIPE, "stdout": keyboard}
        with (self.folder / f"errors-{time.monotonic_ns()}.log").open("wb") as errors:
            self.process = subprocess.Popen(
                self.space.command(*self.command),
                cwd=self.folder,
                env=environment,
                stderr=errors,
                start_new_session=True,
                **ends,
            )
        os.close(keyboard)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        os.close(self.screen)

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until something is written."""
        end = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.text)) is None:
            ready, _, _ = select.select([self.screen], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{self.command[3:]} does not say {pattern!r}:\n{self.text[-3000:]}"
            try:
                more = os.read(self.screen, 1 << 16)
            except OSError:  # a terminal whose process is gone
                more = b""
            assert more, f"{self.command[3:]} ended without {pattern!r}:\n{self.text[-3000:]}{self.errors()}"
            self.text += more.decode(errors="replace")
        return found

    def errors(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.folder.glob("errors-*.log"))

    def type(self, line: str) -> None:
        os.write(self.screen, line.encode() + b"\n")

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        end = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:  # somebody has to read what it writes
            if select.select([self.screen], [], [], 0.2)[0]:
                with suppress(OSError):
                    self.text += os.read(self.screen, 1 << 16).decode(errors="replace")
            assert time.monotonic() < end
        return self.process.returncode


@dataclass
class Record:
    """What came of it."""

    link: str
    wire: dict[str, list[int]]
    answers: dict[str, str]
    left: str
    codes: tuple[int, int]
    again: str


def run_there(space: Space, folder: Path, *command: str) -> str:
    done = subprocess.run(
        space.command(*command), cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask(space: Space, folder: Path, run: Path, opened: Terminal) -> dict[str, str]:
    """What peer-0 answers to somebody who knows its fingerprint, no fingerprint, or a wrong one."""
    ready = re.search(r'\{"event": "ready".*"from": "peer-0"\}', opened.text)
    member = re.search(r'\{"event": "member".*"from": "peer-0"\}', opened.text)
    assert ready and member
    url, address = json.loads(ready[0])["url"], json.loads(member[0])["address"]
    true = TlsKey.from_pem((run / "peers" / "peer-0" / "tls.pem").read_bytes()).fingerprint.hex()
    known = {"true": true, "none": "", "wrong": "00" * 32}
    return {
        name: run_there(
            space, folder, sys.executable, "-c", ASK, url, address, fingerprint, str(folder / name)
        )
        for name, fingerprint in known.items()
    }


@pytest.fixture(scope="module")
def record(new_folder: Callable[[str], Path]) -> Iterator[Record]:
    try:
        with two_spaces() as (one, two):
            yield walk_through(one, two, new_folder("first"), new_folder("second"))
    except NoNamespaces as error:
        pytest.skip(f"needs network namespaces: {error}")


def walk_through(one: Space, two: Space, first: Path, second: Path) -> Record:
    (first / "recipes").symlink_to(REPOSITORY / "recipes")
    addresses = {FIRST: one.address}
    with ExitStack() as stack:
        sniffing = [sys.executable, "-m", "helpers.sniffing", one.interface]
        wire = stack.enter_context(Terminal(one, sniffing, first))
        wire.until('"ready"')
        opened = stack.enter_context(Terminal(one, typed("open", **addresses), first))
        link = json.loads(opened.until(r'\{"event": "invitation".*\}')[0])["link"]
        opened.until('"event": "applied"')
        joined = stack.enter_context(Terminal(two, typed("join", LINK=link), second, tty=True))
        member = joined.until(r"distrai invite RUN ([0-9a-f]{64})")[1]
        joined.type(run_there(one, first, *typed("invite", MEMBER=member)))
        joined.until(r"joined as member")
        joined.until(r"with this peer")
        answers = ask(two, second, first / "runs" / "two", opened)
        codes = (joined.interrupt(), opened.interrupt())
        assert wire.process.stdin is not None
        wire.process.stdin.close()
        seen = json.loads(wire.until(r'\{"tls".*\}')[0])
        again = stack.enter_context(Terminal(one, typed("go on", **addresses), first))
        told = json.loads(again.until(r'\{"event": "invitation".*\}')[0])["link"]
    return Record(link, seen, answers, joined.text, codes, told)


def test_the_second_machine_takes_part_and_leaves(record: Record) -> None:
    assert "left the run" in record.left
    assert record.codes == (0, 130)
    assert "genesis=" in record.link


def test_all_that_passes_between_peers_is_tls(record: Record) -> None:
    assert set(PEER_PORTS) <= set(record.wire["tls"])
    assert not set(PEER_PORTS) & set(record.wire["plain"])
    assert LEDGER_PORT in record.wire["plain"]  # so plain words would have been seen


def test_a_peer_with_another_certificate_than_its_record_names_is_refused(record: Record) -> None:
    assert record.answers["true"].startswith("got ")
    assert record.answers["none"].startswith("got ")
    assert "certificate that its node key has not certified" in record.answers["wrong"]


def test_the_link_stays_the_same_when_the_run_goes_on(record: Record) -> None:
    assert record.again == record.link
