"""The embedded chain as a process: ready line, restart, ``kill -9``, and who it talks to."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


class Caller:
    """Calls by plain HTTP, a connection each."""

    def __init__(self, url: str) -> None:
        self.authority = url.removeprefix("http://")

    def post(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(self.authority, timeout=60)) as connection:
            connection.request("POST", "/", body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def __call__(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        status, said = self.post(body)
        assert status == 200
        return json.loads(said)["result"]


def test_kill_9_loses_no_mined_transaction(
    serve: Callable[..., Any], tmp_path: Path, make_sender: Callable[[int], Any], tiny_code: bytes
) -> None:
    acknowledged = []
    with serve(tmp_path) as server:
        first_url, chain_id = server.url, server.chain_id
        sender, call = make_sender(chain_id), Caller(server.url)
        deployed = call("eth_sendRawTransaction", "0x" + sender.sign(None, tiny_code).hex())
        contract = call("eth_getTransactionReceipt", deployed)["contractAddress"]
        for value in range(1, 30):
            raw = sender.sign(bytes.fromhex(contract[2:]), word(value))
            acknowledged.append((value, call("eth_sendRawTransaction", "0x" + raw.hex())))
        # One more is on its way when the process is killed: it may be mined or not, but not half.
        raw = sender.sign(bytes.fromhex(contract[2:]), word(30))
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
        with closing(http.client.HTTPConnection(call.authority, timeout=60)) as connection:
            connection.request("POST", "/", json.dumps(body).encode(), {"Content-Type": "application/json"})
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(60)
    with serve(tmp_path) as server:
        assert (server.url, server.chain_id) == (first_url, chain_id)
        call = Caller(server.url)
        for value, mined in acknowledged:
            receipt = call("eth_getTransactionReceipt", mined)
            assert receipt["status"] == "0x1"
            assert receipt["logs"][0]["data"] == "0x" + word(value).hex()
        blocks = int(call("eth_blockNumber"), 16)
        assert blocks in (30, 31)
        assert call("eth_getStorageAt", contract, "0x0", "latest") == "0x" + word(blocks - 1).hex()
        again = make_sender(chain_id)
        again.account, again.nonce = sender.account, blocks
        mined = call("eth_sendRawTransaction", "0x" + again.sign(bytes.fromhex(contract[2:]), word(77)).hex())
        assert call("eth_getTransactionReceipt", mined)["status"] == "0x1"


def test_one_process_per_folder(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve(tmp_path):
        command = [sys.executable, "-m", "distrai.ledger.embedded", "--dir", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert second.returncode == 2
    assert "used by another process" in json.loads(second.stderr)["message"]


def test_it_stops_with_its_parent_and_on_sigterm(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        server.process.stdin.close()
        assert server.process.wait(60) == 0
    with serve(tmp_path) as server:
        server.process.send_signal(signal.SIGINT)  # Ctrl-C reaches the whole group; the parent decides
        assert Caller(server.url)("eth_blockNumber") == "0x0"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_it_listens_elsewhere_if_its_port_is_taken(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve(tmp_path / "one") as server:
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "port").write_text(server.url.rpartition(":")[2])
        with serve(tmp_path / "two") as other:
            assert other.url != server.url
            assert Caller(other.url)("eth_chainId") == hex(other.chain_id)


def test_who_may_ask_and_how_much(serve: Callable[..., Any], tmp_path: Path) -> None:
    question = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    with serve(tmp_path) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert Caller(server.url).post(question)[0] == 200
        assert Caller(server.url).post(question, Host="evil.example")[0] == 403
        assert Caller(server.url).post(question, **{"Content-Type": "text/plain"})[0] == 415
        assert Caller(server.url).post(b" " * (2 << 20))[0] == 413
        assert Caller(server.url).post(question)[0] == 200
