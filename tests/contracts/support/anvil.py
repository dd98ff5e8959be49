"""anvil behind the same few methods as ``Evm``: a second implementation of the chain's rules."""

from contracts.support.evm import CHAIN_ID, GAS_LIMIT, Mined, Point, Reverted
from helpers.anvil import AnvilProcess


class Anvil:
    """A chain whose clock and blocks are turned by the test: a block per transaction, gas free, nothing signed."""

    def __init__(self) -> None:
        arguments = ["--chain-id", str(CHAIN_ID), "--hardfork", "cancun", "--no-mining"]
        arguments += ["--gas-limit", str(GAS_LIMIT), "--base-fee", "0", "--gas-price", "0"]
        arguments += ["--timestamp", "1700000000", "--auto-impersonate"]
        self._process = AnvilProcess(tuple(arguments))
        self._call, self._answer = self._process.call, self._process.answer
        self._call("anvil_setBlockTimestampInterval", 0)  # no second passes by itself, however long a test takes
        self.now = 1_700_000_001
        self._points: dict[Point, str] = {}

    def close(self) -> None:
        """End the process."""
        self._process.kill()

    @property
    def number(self) -> int:
        """The number of the block to come."""
        return int(self._call("eth_blockNumber"), 16) + 1

    @number.setter
    def number(self, value: int) -> None:
        self._call("anvil_mine", hex(value - self.number))

    def block_hash(self, number: int) -> bytes:
        return bytes.fromhex(self._call("eth_getBlockByNumber", hex(number), False)["hash"][2:])

    def send(self, sender: bytes, to: bytes, data: bytes, gas: int = GAS_LIMIT) -> Mined:
        """Mine a transaction. Raises Reverted; the block is mined then too."""
        request = _request(sender, to, data, gas)
        transaction = self._call("eth_sendTransaction", request)
        self._next_time()
        self._call("evm_mine")
        receipt = self._call("eth_getTransactionReceipt", transaction)
        traced = self._call("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        output = bytes.fromhex(traced.get("output", "0x")[2:])
        if receipt["status"] != "0x1":
            raise Reverted(output, traced.get("error", "reverted"))
        logs = tuple(
            (
                tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]),
                bytes.fromhex(log["data"][2:]),
            )
            for log in receipt["logs"]
        )
        created = bytes.fromhex((receipt["contractAddress"] or "0x" + "00" * 20)[2:])
        return Mined(int(receipt["gasUsed"], 16), output, logs, created)

    def call(self, to: bytes, data: bytes) -> bytes:
        """Try a call in the newest block; nothing remains of it."""
        answer = self._answer("eth_call", _request(bytes(20), to, data, GAS_LIMIT), "latest")
        if "error" in answer:
            raise Reverted(bytes.fromhex((answer["error"].get("data") or "0x")[2:]), str(answer["error"]))
        return bytes.fromhex(answer["result"][2:])

    def snapshot(self) -> Point:
        """A point to come back to, any number of times."""
        taken = str(self._call("evm_snapshot"))
        point = Point(taken.encode(), self.number, self.now)
        self._points[point] = taken
        return point

    def revert(self, point: Point) -> None:
        """Go back, as a reorg does."""
        assert self._call("evm_revert", self._points[point])
        self._points[point] = self._call("evm_snapshot")  # anvil forgets a snapshot that it went back to
        self.now = point.now

    def _next_time(self) -> None:
        self._call("evm_setNextBlockTimestamp", self.now)


def _request(sender: bytes, to: bytes, data: bytes, gas: int) -> dict[str, str]:
    request = {"from": f"0x{sender.hex()}", "data": f"0x{data.hex()}", "gas": hex(gas), "gasPrice": "0x0"}
    return request | ({"to": f"0x{to.hex()}"} if to else {})
