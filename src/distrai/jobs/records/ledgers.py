"""The ledger that keeps the training records of jobs: the user's own embedded chain, or a chain that is there."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distrai.jobs.files import user_folder
from distrai.ledger.deployment import LOCAL, Deployment, deploy
from distrai.ledger.keys import KeyExists, NodeKey, create_key, load_key
from distrai.ledger.locks import InUse

if TYPE_CHECKING:
    from distrai.ledger.embedded.chain import EmbeddedChain

_LOOK_S = 0.1


class BadLedger(ValueError):
    """What was said about a ledger does not go together; the message says what to do."""


@dataclass(frozen=True)
class Connection:
    """A node that answers now, the contracts there, and the key of who sends."""

    url: str
    deployment: Deployment
    key: NodeKey


@dataclass(frozen=True)
class OwnLedger:
    """An embedded chain in the user's folder of data. It has one operator, the user, and is no consensus.

    It is open only while something is written or read, since only one process may have it. ``key`` None: its own.
    """

    folder: Path = field(default_factory=lambda: user_folder() / "ledger")
    key: Callable[[], NodeKey] | None = None
    wait_s: float = 60.0

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """The chain, begun if there is none, with its contracts; where `distrai ledger serve` serves it, through that.

        Raises InUse if another process keeps it.
        """
        from distrai.ledger.embedded.server import serve

        chain = await self._opened()
        if isinstance(chain, str):
            yield Connection(chain, Deployment.read(self.deployment), self.signer())
            return
        try:
            async with serve(chain, "127.0.0.1", 0) as url:
                made = await deploy(url, chain.chain_id, self._own_key(), LOCAL, path=self.deployment)
                yield Connection(url, made, self.signer())
        finally:
            chain.close()

    async def _opened(self) -> "EmbeddedChain | str":
        """The chain, or the address at which another process serves it. Raises InUse."""
        from distrai.ledger.embedded.chain import EmbeddedChain

        ends = time.monotonic() + self.wait_s
        while True:
            try:
                return EmbeddedChain.open(self.folder)
            except InUse:
                if (url := self._served()) and self.deployment.exists():
                    return url
                if time.monotonic() >= ends:
                    raise
                await asyncio.sleep(_LOOK_S)

    def _served(self) -> str:
        """Where who has the chain serves it to others, as that process wrote down; empty if it does not."""
        try:
            process, _, url = (self.folder / "served").read_text().partition(" ")
            return url if process == (self.folder / "chain.lock").read_text().strip() else ""
        except OSError:
            return ""

    def signer(self) -> NodeKey:
        """The key of who sends; the chain need not be open. Raises a KeyFileError or WalletError."""
        return self._own_key() if self.key is None else self.key()

    @property
    def deployment(self) -> Path:
        """The file of its contracts, for `distrai records` and `distrai models verify`."""
        return self.folder / "deployment.json"

    @property
    def where(self) -> str:
        """How it is told."""
        return str(self.folder)

    def _own_key(self) -> NodeKey:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "owner.json"
        with suppress(KeyExists):  # somebody else made it just now
            return load_key(path) if path.exists() else create_key(path)
        return load_key(path)


@dataclass(frozen=True)
class OtherLedger:
    """A chain that is there. ``rpc`` is told to nobody: it may have a password in it."""

    rpc: str
    deployment: Path
    key: Callable[[], NodeKey]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """The contracts on it. Raises BadDeploymentFile, a KeyFileError or WalletError."""
        yield Connection(self.rpc, Deployment.read(self.deployment), self.key())

    def signer(self) -> NodeKey:
        """The key of who sends. Raises a KeyFileError or WalletError."""
        return self.key()

    @property
    def where(self) -> str:
        """How it is told."""
        return "another chain"


def choose_ledger(
    rpc: str, deployment: Path | None, key: Callable[[], NodeKey] | None, wallet: Callable[[], NodeKey]
) -> OwnLedger | OtherLedger:
    """The ledger that is asked for. ``key``: of a wallet that was named; ``wallet``: of the usual one.

    Raises BadLedger.
    """
    if not rpc:
        if deployment is not None:
            raise BadLedger("--deployment is for a chain that is there: name its node with --rpc URL")
        return OwnLedger(key=key)
    if not rpc.startswith(("http://", "https://")):
        raise BadLedger("--rpc is no URL of a node: it begins with http:// or https://")
    if deployment is None:
        raise BadLedger("--rpc needs --deployment FILE, as `distrai ledger deploy` wrote it")
    return OtherLedger(rpc, deployment, key or wallet)


def key_of(address: str, named: Callable[[], NodeKey] | None, usual: Callable[[], NodeKey]) -> NodeKey:
    """The key of who a model says it is by: the named wallet's, that of the user's own ledger, or the usual wallet's.

    Raises a KeyFileError or WalletError.
    """
    if named is not None:
        return named()
    own = OwnLedger()
    if (own.folder / "owner.json").exists():
        key = own.signer()
        if address.lower() in ("", "0x" + key.address.hex()):
            return key
    return usual()
