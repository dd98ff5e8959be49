"""A tiny contract, an account that signs with eth-account (independent of our signing), and chains to try them on."""

import json
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address

from distrai.ledger.embedded.chain import EmbeddedChain
from distrai.ledger.embedded.server import serve as serve_chain
from distrai.ledger.keys import NodeKey
from helpers.anvil import turned_anvil
from helpers.money_chain import MoneyChain

READY_SECONDS_MAX = 90.0


@dataclass
class Clock:
    """A clock that tests turn."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sender:
    """Signs transactions with eth-account."""

    chain_id: int
    account: LocalAccount = field(default_factory=Account.create)
    nonce: int = 0

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.account.address[2:])

    def sign(self, to: bytes | None, data: bytes = b"", **changes: Any) -> bytes:
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": self.nonce,
            "gas": 500_000,
            "maxFeePerGas": 0,
            "maxPriorityFeePerGas": 0,
            "value": 0,
            "data": data,
        }
        if to is not None:
            transaction["to"] = to_checksum_address(to)
        transaction.update(changes)
        self.nonce = transaction["nonce"] + 1
        without_nothing = {name: value for name, value in transaction.items() if value is not None}
        return bytes(self.account.sign_transaction(without_nothing).raw_transaction)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def deploying(runtime: str) -> bytes:
    """Code that returns ``runtime`` (hex) as a contract's code."""
    code = bytes.fromhex(runtime.replace(" ", ""))
    return bytes.fromhex(f"60{len(code):02x} 600c 6000 39 60{len(code):02x} 6000 f3".replace(" ", "")) + code


@pytest.fixture
def tiny_code() -> bytes:
    """A contract: storage[0] = x and log1(topic x, data x), return x; revert with 32 zero bytes if x is 0."""
    runtime = "6000 35 80 15 601a 57 80 6000 55 80 6000 52 6020 6000 a1 6020 6000 f3 5b 6020 6000 fd"
    return deploying(runtime)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_chain(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., EmbeddedChain]]:
    with ExitStack() as stack:

        def open_one(name: str = "chain") -> EmbeddedChain:
            chain = EmbeddedChain.open(tmp_path / name, clock)
            stack.callback(chain.close)
            return chain

        yield open_one


@pytest.fixture
def chain(open_chain: Callable[..., EmbeddedChain]) -> EmbeddedChain:
    return open_chain()


@pytest.fixture
def sender(chain: EmbeddedChain) -> Sender:
    return Sender(chain.chain_id)


@pytest.fixture
def make_sender() -> Callable[[int], Sender]:
    return Sender


@pytest.fixture
def tiny(chain: EmbeddedChain, sender: Sender, tiny_code: bytes) -> bytes:
    record = chain.transaction(chain.send_raw_transaction(sender.sign(None, tiny_code)))
    assert record is not None
    assert record.contract is not None
    return record.contract


@dataclass
class Served:
    """A chain that answers at an address, and a clock that turns it. ``give_gas`` lets an account have coins."""

    chain: Any
    clock: Any
    url: str
    give_gas: Callable[[bytes], None]


@pytest.fixture(params=["embedded", pytest.param("anvil", marks=pytest.mark.processes)])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """Our chain, and one that is not ours: the same tests hold on both."""
    if request.param == "anvil":
        with turned_anvil(777_000_333) as anvil:
            yield Served(anvil, anvil, anvil.process.url, anvil.give_gas)
        return
    clock = Clock()
    chain = EmbeddedChain.open(tmp_path / "served", clock)
    async with serve_chain(chain, "127.0.0.1", 0) as url:
        yield Served(chain, clock, url, lambda account: None)
    chain.close()


@pytest.fixture
async def money(served: Any) -> AsyncIterator[MoneyChain]:
    """All contracts on either chain."""

    def wait(seconds: int) -> None:
        served.clock.now += seconds

    owner = NodeKey.generate()
    served.give_gas(owner.address)
    async with AsyncExitStack() as stack:
        made = MoneyChain(served.url, served.chain.chain_id, wait, stack, owner, served.give_gas)
        yield await made.deploy()


@dataclass
class Server:
    """A server process: what it said when it was ready."""

    process: subprocess.Popen[bytes]
    url: str
    chain_id: int


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    """The next line of a process's output, or fail after the deadline."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS_MAX)
    assert ready, "the process did not become ready in time"
    return process.stdout.readline()


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Start servers that are killed at the end of the test at the latest."""
    running: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def start(folder: Path, *arguments: str) -> Iterator[Server]:
        command = [
            sys.executable,
            "-m",
            "distrai.ledger.embedded",
            "--dir",
            str(folder),
            "--parent-pipe",
            *arguments,
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        running.append(process)
        said = json.loads(read_line(process))
        assert said["event"] == "ready"
        try:
            yield Server(process, said["url"], said["chain_id"])
        finally:
            stop(process)

    yield start
    for process in running:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(READY_SECONDS_MAX)
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            stream.close()
