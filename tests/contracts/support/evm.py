"""An EVM in memory whose clock and blocks are turned by the test: a block per transaction, gas free, nothing signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.vm.chain_context import ChainContext
from eth.vm.forks.cancun import CancunVM
from eth.vm.forks.cancun.blocks import CancunBlockHeader
from eth.vm.spoof import SpoofTransaction

from distrai.ledger.abi import Abi, Log
from distrai.ledger.errors import LedgerRefused

GAS_LIMIT = 30_000_000
CHAIN_ID = 31_337


@dataclass(frozen=True)
class Mined:
    """What a transaction did: gas after refunds, what it returned, its logs, its contract if it created one."""

    gas: int
    output: bytes
    logs: tuple[tuple[tuple[bytes, ...], bytes], ...]
    contract: bytes


@dataclass(frozen=True)
class Point:
    """A block of a chain."""

    root: bytes
    number: int
    now: int


class Evm:
    """py-evm's Cancun rules on one database. ``now`` is the timestamp of the block to come."""

    def __init__(self) -> None:
        self.now = 1_700_000_000
        self.number = 1
        self._database, self._context = AtomicDB(), ChainContext(CHAIN_ID)
        self._root = BLANK_ROOT_HASH

    def block_hash(self, number: int) -> bytes:
        """The hash of a block: made up, so that tests know it beforehand."""
        return number.to_bytes(32, "big")

    def send(self, sender: bytes, to: bytes, data: bytes, gas: int = GAS_LIMIT) -> Mined:
        """Mine a transaction. Raises Reverted; the block is mined then too."""
        computation, used, state = self._run(sender, to, data, gas)
        state.persist()
        self._root = state.state_root
        self.number += 1
        if computation.is_error:
            raise Reverted(computation.output, str(computation.error))
        logs = tuple(
            (tuple(topic.to_bytes(32, "big") for topic in topics), bytes(data))
            for _, topics, data in computation.get_log_entries()
        )
        return Mined(used, computation.output, logs, computation.msg.storage_address)

    def call(self, to: bytes, data: bytes) -> bytes:
        """Try a call in the block to come; nothing remains of it."""
        computation, _, _ = self._run(bytes(20), to, data)
        if computation.is_error:
            raise Reverted(computation.output, str(computation.error))
        return bytes(computation.output)

    def snapshot(self) -> Point:
        """A point to come back to."""
        return Point(self._root, self.number, self.now)

    def revert(self, point: Point) -> None:
        """Go back, as a reorg does: states are never overwritten."""
        self._root, self.number, self.now = point.root, point.number, point.now

    def _run(self, sender: bytes, to: bytes, data: bytes, gas: int = GAS_LIMIT) -> tuple[Any, int, Any]:
        header = CancunBlockHeader(
            0, self.number, GAS_LIMIT, timestamp=self.now, state_root=self._root, base_fee_per_gas=0
        )
        previous = [self.block_hash(self.number - back) for back in range(1, min(self.number, 256) + 1)]
        state = CancunVM.build_state(self._database, header, self._context, previous)
        unsigned = CancunVM.create_unsigned_transaction(
            nonce=state.get_nonce(sender), gas_price=0, gas=gas, to=to, value=0, data=data
        )
        transaction = SpoofTransaction(unsigned, from_=sender)
        computation = state.apply_transaction(transaction)
        return computation, CancunVM.finalize_gas_used(transaction, computation), state


class Reverted(Exception):
    """A transaction or call that the contract refused, with the bytes that it gave as the reason."""

    def __init__(self, data: bytes, text: str) -> None:
        super().__init__(text)
        self.data = data


class Contract:
    """A deployed contract, called by names."""

    def __init__(self, evm: Evm, abi: Abi, bytecode: bytes, deployer: bytes) -> None:
        self.evm, self.abi = evm, abi
        deployed = evm.send(deployer, b"", bytecode)
        self.address, self.deployment_gas = deployed.contract, deployed.gas

    def send(self, sender: bytes, function: str, *arguments: object) -> "Outcome":
        """Mine a transaction. Raises LedgerRefused with the contract's error."""
        try:
            mined = self.evm.send(sender, self.address, self.abi.call_data(function, arguments))
        except Reverted as reverted:
            raise self.abi.refusal(reverted.data) from None
        logs = [self.abi.decode_log(topics, data) for topics, data in mined.logs]
        return Outcome(
            mined.gas, [log for log in logs if log], self.abi.decode_result(function, mined.output)
        )

    def read(self, function: str, *arguments: object) -> Any:
        """Call a view; one result comes by itself, several as a tuple. Raises LedgerRefused."""
        try:
            result = self.evm.call(self.address, self.abi.call_data(function, arguments))
        except Reverted as reverted:
            raise self.abi.refusal(reverted.data) from None
        values = self.abi.decode_result(function, result)
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class Outcome:
    """What a transaction did to a contract."""

    gas: int
    logs: Sequence[Log]
    returned: tuple[Any, ...]

    @property
    def log(self) -> Log:
        """The only event."""
        (log,) = self.logs
        return log


__all__ = ["CHAIN_ID", "Contract", "Evm", "LedgerRefused", "Mined", "Outcome", "Reverted"]
