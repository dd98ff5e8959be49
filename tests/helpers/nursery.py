"""Real processes that start quickly: a server imports torch and the rest once, and forks one process for each request.

``python -m helpers.nursery FD`` is the server; it talks over the socket FD. ``Nursery`` starts it, and its ``start``
stands in for ``Child.start`` of a local run. What is forked is a process like any other, in a session of its own: it
has its home, its sockets and its threads, runs ``python -m MODULE`` and can be killed.
"""

import asyncio
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distrai.runs.children import Child

REQUEST_BYTES_MAX = 64 << 10
LIAR = "DISTRAI_TEST_LIAR"
"""Set in the environment of a peer that is to lie: see ``liars.py``."""
SINGLE_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# The server


def preload() -> None:
    """Import what peers and ledgers need; nothing that starts a thread."""
    import eth_keyfile.keyfile  # noqa: F401
    import transformers.models.granite.modeling_granite  # noqa: F401

    import distrai.ledger.embedded.__main__
    import distrai.peer.process  # noqa: F401


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be the process that was asked for; never returns."""
    code = 1
    try:
        os.setsid()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        for descriptor in descriptors:
            os.close(descriptor)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if (user := request["user"]) is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        os.environ |= request["environment"]
        sys.argv = [request["arguments"][0], *request["arguments"][1:]]
        from helpers import failpoints, homes, links

        homes.guard()
        failpoints.install()
        links.install()
        explain_failures()
        if LIAR in os.environ:
            from helpers import liars  # costs a second: for liars only

            liars.install(os.environ[LIAR])
        runpy.run_module(request["arguments"][0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def explain_failures() -> None:
    """Have a peer that fails write to its log where: what it tells people is only why."""
    from distrai.peer.telemetry import Telemetry

    emit = Telemetry.emit

    def emit_and_explain(self: Telemetry, event: str, **facts: Any) -> None:
        if event == "failed":
            traceback.print_exc()
        emit(self, event, **facts)

    Telemetry.emit = emit_and_explain  # type: ignore[method-assign]


def serve(descriptor: int) -> None:
    """Fork on request, and tell when a process has ended; until the other end of the socket is closed."""
    preload()
    connection = socket.socket(fileno=descriptor)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    with selectors.DefaultSelector() as selector:
        for each in (connection, woken):
            selector.register(each, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
                for pid, status in ended():
                    tell(connection, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})
            if connection in ready:
                raw, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES_MAX, 3)
                if not raw:
                    return
                pid = os.fork()
                if pid == 0:
                    for each in (connection, woken, wake):
                        each.close()
                    become(json.loads(raw), descriptors)
                for each in descriptors:
                    os.close(each)
                tell(connection, {"started": pid})


def ended() -> Iterator[tuple[int, int]]:
    """The processes that ended since the last call."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def tell(connection: socket.socket, said: dict[str, Any]) -> None:
    connection.send(json.dumps(said).encode())


# The other side


@dataclass
class Forked:
    """What of ``asyncio.subprocess.Process`` a local run uses."""

    pid: int
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    returncode: int | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        await self.over.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


Environment = Callable[[str], dict[str, str]]
"""What to add to the environment of the process with this name."""


class Nursery:
    """A running server. One event loop at a time uses it, between ``attached``'s begin and end."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
        command = [sys.executable, "-m", "helpers.nursery", str(theirs.fileno())]
        environment = os.environ | SINGLE_THREADS | {"PYTHONPATH": os.pathsep.join(paths)}
        with theirs:
            self.server = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        self.processes: dict[int, Forked] = {}
        self.starting: asyncio.Queue[int] = asyncio.Queue()
        self.lock = asyncio.Lock()

    def close(self) -> None:
        """End the server; what it forked has been ended by the local runs."""
        self.socket.close()
        self.server.terminate()
        self.server.wait(60)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hear the server in the running event loop."""
        loop = asyncio.get_running_loop()
        self.starting, self.lock = asyncio.Queue(), asyncio.Lock()
        loop.add_reader(self.socket, self._hear)
        try:
            yield
        finally:
            loop.remove_reader(self.socket)
            assert not self.processes, "a process was left behind"

    def _hear(self) -> None:
        said = json.loads(self.socket.recv(REQUEST_BYTES_MAX) or b'{"lost": true}')
        if "started" in said:
            self.starting.put_nowait(said["started"])
        elif "ended" in said:
            process = self.processes.pop(said["ended"])
            process.returncode = said["code"]
            process.over.set()
        else:
            raise AssertionError("the nursery is gone")

    async def start(
        self,
        name: str,
        arguments: list[str],
        log: Path,
        on_event: Callable[[str, dict[str, Any]], None],
        user: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> Child:
        """Like ``Child.start``, with additions to the environment."""
        request = {
            "arguments": arguments,
            "user": user,
            "environment": {
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                **(environment or {}),
            },
        }
        stdin, to_child = os.pipe()
        from_child, stdout = os.pipe()
        stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        async with self.lock:
            try:
                socket.send_fds(self.socket, [json.dumps(request).encode()], [stdin, stdout, stderr])
            finally:
                for descriptor in (stdin, stdout, stderr):
                    os.close(descriptor)
            pid = await self.starting.get()
            process = Forked(pid, await _writer(to_child), await _reader(from_child))
            self.processes[pid] = process
        child = Child(name, process, on_event)  # type: ignore[arg-type]
        child.reader = asyncio.create_task(child._read())
        return child


async def _reader(descriptor: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0))
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(descriptor, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
