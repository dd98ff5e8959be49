"""What py-evm is used for: decoding transactions, running them on a state, and the hashes of a block.

Rules are those of the Cancun fork without its blob transactions; gas is metered and limited but costs nothing: nobody
has money here, so whatever fee a wallet offers (most offer at least a wei), none is taken. Unlike on a public chain,
two blocks may have the same timestamp, so that mining on demand never runs ahead of the clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth.abc import AtomicDatabaseAPI, ComputationAPI, ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.db.trie import make_trie_root_and_nodes
from eth.exceptions import Revert, UnrecognizedTransactionType
from eth.vm.chain_context import ChainContext
from eth.vm.forks.cancun import CancunVM
from eth.vm.forks.cancun.blocks import CancunBlockHeader
from eth.vm.forks.cancun.constants import BLOB_TX_TYPE
from eth.vm.forks.cancun.state import CancunState
from eth.vm.spoof import SpoofTransaction
from eth_keys.exceptions import BadSignature
from eth_typing import BlockNumber
from eth_utils.exceptions import ValidationError

from distrai.ledger.embedded.records import CallFailed, CallRequest, CallReverted, TransactionRefused
from distrai.protocol.primitives import Address, Hash

GAS_LIMIT = 1 << 24
"""Gas of one block, and so of one transaction or call: what EIP-7825 allows one transaction on mainnet."""
_NO_NONCE = bytes(8)
"""Since blocks are not searched for, their nonce is zero (EIP-3675)."""
_TIMESTAMP = 11
"""Its place in a header."""
_MALFORMED = (
    rlp.RLPException,
    ValidationError,
    UnrecognizedTransactionType,
    BadSignature,
    ValueError,
    TypeError,
)


class _FreeState(CancunState):
    """Takes no fee, and tells contracts so."""

    def get_gas_price(self, transaction: SignedTransactionAPI) -> int:
        return 0

    def get_tip(self, transaction: SignedTransactionAPI) -> int:
        return 0

    def validate_transaction(self, transaction: SignedTransactionAPI) -> None:
        # Past Cancun's own check, which is about blobs and wants the highest fee covered.
        super(CancunState, self).validate_transaction(transaction)

    def get_transaction_context(self, transaction: SignedTransactionAPI) -> Any:
        return self.get_transaction_context_class()(gas_price=0, origin=transaction.sender)


class _FreeVM(CancunVM):
    _state_class = _FreeState


@dataclass(frozen=True)
class Applied:
    """A transaction after it ran: the header of its block, its receipt and the contract it created, if any."""

    header: CancunBlockHeader
    receipt: ReceiptAPI
    contract: Address | None


def genesis_header(timestamp: int) -> CancunBlockHeader:
    """The first block: empty, of nothing but its time."""
    first = BlockNumber(0)
    return CancunBlockHeader(0, first, GAS_LIMIT, nonce=_NO_NONCE, timestamp=timestamp)


def next_header(parent: CancunBlockHeader, timestamp: int) -> CancunBlockHeader:
    """The header under which the next transaction runs, on top of ``parent``'s state."""
    return CancunBlockHeader(
        difficulty=0,
        block_number=BlockNumber(parent.block_number + 1),
        gas_limit=GAS_LIMIT,
        nonce=_NO_NONCE,
        timestamp=max(timestamp, parent.timestamp),
        parent_hash=parent.hash,
        state_root=parent.state_root,
    )


def decode_header(data: bytes) -> CancunBlockHeader:
    """A header from its stored RLP."""
    header = rlp.decode(data, sedes=CancunBlockHeader)
    assert isinstance(header, CancunBlockHeader)
    return header


def header_time(data: bytes) -> int:
    """The timestamp in a header's stored RLP, without decoding the rest: logs of many blocks are shown with it."""
    return int.from_bytes(rlp.decode(data)[_TIMESTAMP], "big")


def decode_transaction(raw: bytes, chain_id: int) -> SignedTransactionAPI:
    """A signed transaction for this chain. Raises TransactionRefused."""
    if raw[:1] == bytes([BLOB_TX_TYPE]):
        raise TransactionRefused("blob transactions are not part of this chain")
    try:
        transaction = CancunVM.get_transaction_builder().decode(raw)
        transaction.validate()
        signer_chain, sender = transaction.chain_id, transaction.sender
    except _MALFORMED as error:
        raise TransactionRefused(f"not a signed transaction: {error}") from error
    assert len(sender) == len(Address(bytes(20)))
    if signer_chain != chain_id:
        raise TransactionRefused(
            f"the transaction is signed for chain {signer_chain}, this is chain {chain_id}"
        )
    if transaction.gas > GAS_LIMIT:
        raise TransactionRefused(f"the transaction asks for {transaction.gas} gas, a block has {GAS_LIMIT}")
    if transaction.gas < transaction.intrinsic_gas:
        raise TransactionRefused(f"intrinsic gas too low: at least {transaction.intrinsic_gas} is needed")
    return transaction


class Machine:
    """py-evm on one node database, for one chain id."""

    def __init__(self, nodes: AtomicDatabaseAPI, chain_id: int) -> None:
        self._nodes = nodes
        self._context = ChainContext(chain_id)

    def state(self, header: CancunBlockHeader, previous_hashes: Iterable[Hash] = ()) -> StateAPI:
        """The state that ``header`` names, in the context of that header's block."""
        return _FreeVM.build_state(self._nodes, header, self._context, previous_hashes)  # type: ignore[arg-type]

    def apply(
        self, header: CancunBlockHeader, transaction: SignedTransactionAPI, previous_hashes: Iterable[Hash]
    ) -> Applied:
        """Run ``transaction`` as the only one of its block and write the state that results.

        Raises TransactionRefused if it cannot be part of a block at all; one that the contract reverts is part of it.
        """
        state = self.state(header, previous_hashes)
        check_nonce(transaction.nonce, state.get_nonce(transaction.sender))
        if transaction.value > state.get_balance(transaction.sender):
            raise TransactionRefused(
                "insufficient funds for the value: gas is free here, and there is no money to send"
            )
        try:
            computation = state.apply_transaction(transaction)
        except ValidationError as error:
            raise TransactionRefused(str(error)) from error
        receipt = CancunVM.make_receipt(header, transaction, computation, state)
        state.persist()
        transactions_root, _ = make_trie_root_and_nodes((transaction,))
        receipts_root, _ = make_trie_root_and_nodes((receipt,))
        mined = header.copy(
            state_root=state.state_root,
            transaction_root=transactions_root,
            receipt_root=receipts_root,
            bloom=receipt.bloom,
            gas_used=receipt.gas_used,
        )
        assert isinstance(mined, CancunBlockHeader)
        created = not transaction.to and not computation.is_error
        return Applied(mined, receipt, Address(computation.msg.storage_address) if created else None)

    def call(
        self, header: CancunBlockHeader, request: CallRequest, previous_hashes: Iterable[Hash]
    ) -> tuple[bytes, int]:
        """Try a message call: (what it returns, gas it used before refunds). Raises CallReverted or CallFailed."""
        state = self.state(header, previous_hashes)
        gas = min(request.gas or GAS_LIMIT, GAS_LIMIT)
        unsigned = CancunVM.create_unsigned_transaction(
            nonce=state.get_nonce(request.sender), gas_price=0, gas=gas, to=request.to or b"",  # type: ignore[arg-type]
            value=request.value, data=request.data,
        )  # fmt: skip
        if gas < unsigned.intrinsic_gas:
            raise CallFailed(f"intrinsic gas too low: at least {unsigned.intrinsic_gas} is needed")
        transaction = SpoofTransaction(unsigned, from_=request.sender)
        try:
            computation = state.apply_transaction(transaction)  # type: ignore[arg-type]
        except ValidationError as error:
            raise CallFailed(str(error)) from error
        _raise_if_failed(computation)
        return computation.output, gas - computation.get_gas_remaining()


def check_nonce(given: int, expected: int) -> None:
    """Raise TransactionRefused, in the words that other nodes use, if a transaction is not its sender's next."""
    if given < expected:
        raise TransactionRefused(f"nonce too low: next nonce {expected}, tx nonce {given}")
    if given > expected:
        raise TransactionRefused(
            f"nonce too high: next nonce {expected}, tx nonce {given} (nothing is queued here)"
        )


def _raise_if_failed(computation: ComputationAPI) -> None:
    if computation.is_error:
        if isinstance(computation.error, Revert):
            raise CallReverted(computation.output, _revert_message(computation.output))
        raise CallFailed(f"execution failed: {str(computation.error) or type(computation.error).__name__}")


def _revert_message(data: bytes) -> str:
    """What the contract said, if it used ``require`` with a text, in the form in which other nodes give it."""
    text = data[68 : 68 + int.from_bytes(data[36:68], "big")] if data[:4] == b"\x08\xc3\x79\xa0" else b""
    return f"execution reverted: {text.decode('utf-8', 'replace')}" if text else "execution reverted"
