"""anvil and the other programs of Foundry, from the npm packages that ``contracts/package-lock.json`` names.

The binary of the platform's package is started itself: the one of npm's main package is a starter in JavaScript, and
ending that would leave the chain running.
"""

import http.client
import itertools
import json
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PACKAGES = Path(__file__).parents[2] / "contracts" / "node_modules"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
START_S = 90.0
FUNDED_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""The first of the ten accounts that every anvil gives 10,000 ETH: a published key, worth nothing elsewhere."""


def binary(name: str = "anvil") -> Path:
    """anvil, cast or forge itself."""
    machine = MACHINES.get(platform.machine(), platform.machine())
    path = PACKAGES / "@foundry-rs" / f"{name}-{platform.system().lower()}-{machine}" / "bin" / name
    assert path.exists(), f"there is no {name}: python tools/check_contracts.py --install"
    return path


@dataclass
class AnvilProcess:
    """A running anvil. It can be ended by its process id, and started again on its port."""

    arguments: tuple[str, ...]
    port: int = 0
    """0 takes any, and keeps it from then on."""
    process: "subprocess.Popen[str]" = field(init=False)
    ids: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it (again); returns when it listens."""
        command = [str(binary()), "--port", str(self.port), *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        output = self.process.stdout
        assert output is not None
        for line in output:
            if line.startswith("Listening on"):
                self.port = int(line.rsplit(":", 1)[1])
                break
        else:
            raise RuntimeError(f"anvil ended with {self.process.wait(START_S)}")
        # It prints a line for each request, and stands still when nobody reads them.
        threading.Thread(target=_drain, args=(output,), daemon=True).start()

    def stop(self) -> None:
        """End it in order: it writes its state where it was told to."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_S)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(START_S)

    def pause(self) -> None:
        """Let it answer nothing: connections are made, and stay silent."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def call(self, method: str, *parameters: object) -> Any:
        """The result of a call. Raises RuntimeError with the node's error."""
        answer = self.answer(method, *parameters)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def answer(self, method: str, *parameters: object) -> dict[str, Any]:
        """The whole answer to a call."""
        body = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": parameters}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)) as connection:
            connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer


@dataclass
class TurnedAnvil:
    """anvil with a clock that stands still until it is turned, as what tests use of an ``EmbeddedChain``."""

    process: AnvilProcess
    chain_id: int

    @property
    def now(self) -> int:
        """The time of the newest block, and of what is called or mined now. It only goes forward."""
        return int(self._block("latest")["timestamp"], 16)

    @now.setter
    def now(self, value: float) -> None:
        self.process.call("evm_setNextBlockTimestamp", int(value))
        self.process.call("evm_mine")

    def _clock(self) -> int:
        return self.now

    @property
    def block_number(self) -> int:
        return int(self.process.call("eth_blockNumber"), 16)

    def header(self, number: int) -> SimpleNamespace:
        """Of a block, its hash and time."""
        block = self._block(hex(number))
        return SimpleNamespace(hash=bytes.fromhex(block["hash"][2:]), timestamp=int(block["timestamp"], 16))

    def give_gas(self, account: bytes) -> None:
        """Let an account have coins."""
        self.process.call("anvil_setBalance", f"0x{account.hex()}", hex(10**20))

    def _block(self, which: str) -> dict[str, Any]:
        found: dict[str, Any] = self.process.call("eth_getBlockByNumber", which, False)
        return found


@contextmanager
def turned_anvil(chain_id: int) -> Iterator[TurnedAnvil]:
    """A chain whose clock the test turns. Gas costs something."""
    began = ("--timestamp", "1700000000")
    with running_anvil("--chain-id", str(chain_id), *began) as process:
        process.call("anvil_setBlockTimestampInterval", 0)
        yield TurnedAnvil(process, chain_id)


def _drain(output: Any) -> None:
    with output:
        for _ in output:
            pass


@contextmanager
def running_anvil(*arguments: str) -> Iterator[AnvilProcess]:
    """An anvil that is ended in any case."""
    anvil = AnvilProcess(arguments)
    try:
        yield anvil
    finally:
        anvil.kill()
