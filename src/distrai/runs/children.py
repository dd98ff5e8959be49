"""The processes of a local run: each has a pipe that ends with this one, and is ended by its id."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distrai.runs.wallet import PASSWORD_VARIABLE

STOP_S = 20.0
"""How long a process may take to end by itself."""

OnEvent = Callable[[str, dict[str, Any]], None]


@dataclass
class Child:
    """One process and what it says. ``name`` is for people."""

    name: str
    process: asyncio.subprocess.Process
    on_event: OnEvent
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last event of every kind."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, name: str, arguments: list[str], log: Path, on_event: OnEvent, user: int | None = None
    ) -> "Child":
        """Start ``python -m arguments``; its standard error goes to ``log``.

        It does not get the wallet's password: a process that listens to strangers has no use for it.
        """
        kept = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
        environment = kept | {
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run to handle, in order
                user=user,
                group=user,
            )
        child = cls(name, process, on_event)
        child.reader = asyncio.create_task(child._read())
        child.reader.add_done_callback(lambda _: child.changed.set())
        return child

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            event = _parsed(line)
            if event is not None:
                self.events[event["event"]] = event
                self.on_event(self.name, event)
            self.changed.set()
        await self.process.wait()
        self.on_event(self.name, {"event": "exited", "code": self.process.returncode})
        self.changed.set()

    async def said(self, event: str) -> dict[str, Any]:
        """Wait for an event of a kind. Raises ChildFailed if the process ends without it."""
        while event not in self.events:
            if self.reader is not None and self.reader.done():
                self.reader.result()  # what went wrong while its events were told
                why = self.events.get("failed", {}).get("why", f"exit status {self.process.returncode}")
                raise ChildFailed(f"{self.name} stopped: {why}")
            self.changed.clear()
            await self.changed.wait()
        return self.events[event]

    async def tell(self, command: dict[str, Any]) -> None:
        """Write a command to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()

    async def stop(self) -> None:
        """End its input, then it; by force if it takes too long."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
        if self.reader is not None:
            await self.reader


StartChild = Callable[[str, list[str], Path, OnEvent, int | None], Awaitable[Child]]
"""Starts a process: see ``Child.start``."""


def _parsed(line: bytes) -> dict[str, Any] | None:
    """An event, or None for a line that is none (a library printed something)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


class ChildFailed(ValueError):
    """A process of the run ended when it should not have."""
