"""JSON-RPC to one or two nodes through web3's HTTP provider: deadlines, retries, and a second address.

Only the provider of web3 is used: its request formatting doubles the cost of a poll and its contract classes multiply
that of a call. This module alone imports web3 (0.5 to 0.7 CPU seconds).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientConnectorError, ClientError, ClientResponseError, ClientTimeout
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint

from distrai.ledger.errors import BadAnswer, LedgerUnreachable, NodeError, WrongChain
from distrai.protocol.primitives import Address

_log = logging.getLogger(__name__)
_LATER = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may pass: busy, restarting, too many requests."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and what to spend."""

    request_s: float = 10.0
    """For one answer."""
    call_s: float = 30.0
    """For a call with all its retries."""
    backoff_s: float = 0.1
    """Before the first retry; doubles up to ``backoff_s_max``, with jitter."""
    backoff_s_max: float = 3.0
    spend_wei: int = 10**17
    """For the gas of a transaction, at most: what it costs is said by the node, which may be a stranger's."""


class Rpc:
    """Calls to the first node that answers. Each node is asked for its chain id before it is trusted with more."""

    def __init__(
        self, urls: Sequence[str], patience: Patience, jitter: Callable[[], float] = random.random
    ) -> None:
        assert urls, "at least one address of a node"
        timeout = ClientTimeout(total=patience.request_s)
        self._nodes = [
            AsyncHTTPProvider(url, request_kwargs={"timeout": timeout}, exception_retry_configuration=None)
            for url in urls
        ]
        self._patience, self._jitter = patience, jitter
        self._chosen = 0
        self._checked: set[int] = set()
        self.chain_id: int | None = None

    async def close(self) -> None:
        """Close the connections."""
        for node in self._nodes:
            await node.disconnect()

    async def call(
        self, method: str, *params: Any, deadline_s: float | None = None, lost: list[Exception] | None = None
    ) -> Any:
        """The result of a call. Raises LedgerUnreachable after the deadline, NodeError, BadAnswer or WrongChain.

        ``lost`` collects the tries whose answer did not come: what they asked for may have been done.
        """
        patience = self._patience
        end = time.monotonic() + (patience.call_s if deadline_s is None else deadline_s)
        pause = patience.backoff_s
        while True:
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await self._check_chain()
                    return await self._ask(method, params)
            except (ClientError, TimeoutError, OSError) as error:
                if isinstance(error, ClientResponseError) and error.status not in _LATER:
                    raise BadAnswer(f"the ledger's node answers with HTTP status {error.status}") from error
                if lost is not None:
                    lost.append(error)
                self._chosen = (self._chosen + 1) % len(self._nodes)
                wait = pause * (0.5 + self._jitter() / 2)
                if time.monotonic() + wait >= end:
                    raise LedgerUnreachable(
                        f"the ledger does not answer ({method}): {_reason(error)}"
                    ) from error
                await asyncio.sleep(wait)
                pause = min(2 * pause, patience.backoff_s_max)

    async def _check_chain(self) -> None:
        if self._chosen in self._checked:
            return
        chain_id = read_quantity(await self._ask("eth_chainId", ()))
        if self.chain_id is None:
            self.chain_id = chain_id
        if chain_id != self.chain_id:
            raise WrongChain(f"the node serves chain {chain_id}, the run is on chain {self.chain_id}")
        self._checked.add(self._chosen)

    async def _ask(self, method: str, params: Sequence[Any]) -> Any:
        try:
            response: Any = await self._nodes[self._chosen].make_request(RPCEndpoint(method), list(params))
        except (ValueError, UnicodeError) as error:
            raise BadAnswer(f"what answers is no JSON-RPC node: {error}") from error
        if not isinstance(response, dict) or ("result" not in response and "error" not in response):
            raise BadAnswer("what answers is no JSON-RPC node")
        if response.get("error") is not None:
            raise _node_error(response["error"])
        return response["result"]


def _reason(error: Exception) -> str:
    if isinstance(error, ClientConnectorError):
        return f"nobody listens at {error.host}:{error.port}"
    return "no answer in time" if isinstance(error, TimeoutError) else repr(error)


async def rpc_to(
    url: str, contract: Address, chain_id: int, second_url: str | None, patience: Patience
) -> Rpc:
    """Calls to a chain on which there is a contract at this address; ``second_url`` is asked where the first is silent.

    Raises WrongChain or LedgerUnreachable.
    """
    rpc, place = Rpc([url] if second_url is None else [url, second_url], patience), "0x" + contract.hex()
    rpc.chain_id = chain_id
    try:
        if not read_bytes(await rpc.call("eth_getCode", place, "latest")):
            raise WrongChain(
                f"chain {chain_id} has no contract at {place}: check the link or the file of addresses"
            )
    except BaseException:
        await rpc.close()
        raise
    return rpc


def _node_error(error: Any) -> NodeError:
    if not isinstance(error, dict):
        return NodeError(0, str(error))
    data = error.get("data")
    if isinstance(data, dict):  # some nodes wrap the contract's words once more
        data = data.get("data") or data.get("result")
    words = read_bytes(data) if isinstance(data, str) and data.startswith("0x") else None
    code = error.get("code")
    return NodeError(code if isinstance(code, int) else 0, str(error.get("message", ""))[:500], words)


def read_quantity(value: Any) -> int:
    """A number from a node. Raises BadAnswer."""
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise BadAnswer(f"the node gives {str(value)[:80]!r} as a number") from None


def read_bytes(value: Any) -> bytes:
    """Bytes from a node. Raises BadAnswer."""
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise BadAnswer(f"the node gives {str(value)[:80]!r} as bytes") from None
