"""A contract's ABI as functions from Python values to bytes and back.

web3's contract classes do the same in ten times the time, most of it in checks that our types make already.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.decoding import AddressDecoder
from eth_abi.encoding import AddressEncoder
from eth_abi.exceptions import DecodingError
from eth_abi.registry import BaseEquals, registry

from distrai.ledger.errors import BadAnswer, LedgerRefused
from distrai.protocol.keccak import keccak

_SELECTOR_SIZE = 4
_ERROR_STRING = keccak(b"Error(string)")[:_SELECTOR_SIZE]
_PANIC = keccak(b"Panic(uint256)")[:_SELECTOR_SIZE]


@dataclass(frozen=True)
class Entry:
    """A function, event or error of a contract. ``inputs`` and ``outputs`` are canonical ABI types."""

    name: str
    inputs: tuple[str, ...]
    names: tuple[str, ...]
    indexed: tuple[bool, ...]
    outputs: tuple[str, ...]

    @cached_property
    def id(self) -> bytes:
        """The 32-byte hash of the signature: a topic; its first four bytes are the selector."""
        return keccak(f"{self.name}({','.join(self.inputs)})".encode())


@dataclass(frozen=True)
class Log:
    """A decoded event: its name and its arguments by name, addresses as 20 bytes."""

    name: str
    arguments: Mapping[str, Any]


class Abi:
    """The functions, events and errors of one contract, by name and by selector. Overloads are not supported."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        parsed = [(entry["type"], _entry(entry)) for entry in entries]
        self.functions = {entry.name: entry for kind, entry in parsed if kind == "function"}
        self.events = {entry.id: entry for kind, entry in parsed if kind == "event"}
        self._errors = {entry.id[:_SELECTOR_SIZE]: entry for kind, entry in parsed if kind == "error"}
        created = [entry.inputs for kind, entry in parsed if kind == "constructor"]
        self._constructor = created[0] if created else ()

    def topic(self, event: str) -> bytes:
        """The first topic of an event's logs."""
        return next(topic for topic, entry in self.events.items() if entry.name == event)

    def call_data(self, function: str, arguments: Sequence[object]) -> bytes:
        """The input of a call."""
        entry = self.functions[function]
        return entry.id[:_SELECTOR_SIZE] + _CODEC.encode(entry.inputs, arguments)

    def creation_data(self, arguments: Sequence[object]) -> bytes:
        """What follows the bytecode that creates the contract: the constructor's arguments."""
        return _CODEC.encode(self._constructor, arguments)

    def decode_call(self, function: str, data: bytes) -> tuple[Any, ...] | None:
        """The arguments of a call's input; None if it calls something else. Raises BadAnswer."""
        entry = self.functions[function]
        if data[:_SELECTOR_SIZE] != entry.id[:_SELECTOR_SIZE]:
            return None
        return _decoded(entry.inputs, data[_SELECTOR_SIZE:])

    def decode_result(self, function: str, data: bytes) -> tuple[Any, ...]:
        """What a call returned. Raises BadAnswer."""
        return _decoded(self.functions[function].outputs, data)

    def refusal(self, data: bytes) -> LedgerRefused:
        """The contract's error as an exception; unknown ones keep their selector as their name."""
        selector, rest = data[:_SELECTOR_SIZE], data[_SELECTOR_SIZE:]
        entry = self._errors.get(selector)
        try:
            if entry is not None:
                return LedgerRefused(entry.name, _decoded(entry.inputs, rest))
            if selector == _ERROR_STRING:
                return LedgerRefused("Error", _decoded(["string"], rest))
            if selector == _PANIC:
                return LedgerRefused("Panic", _decoded(["uint256"], rest))
        except BadAnswer:
            pass
        return LedgerRefused(f"0x{selector.hex()}" if selector else "reverted", [rest] if rest else [])

    def decode_log(self, topics: Sequence[bytes], data: bytes) -> Log | None:
        """A log of this contract as an event; None if it is none of its events. Raises BadAnswer."""
        entry = self.events.get(topics[0]) if topics else None
        if entry is None:
            return None
        plain = [kind for kind, indexed in zip(entry.inputs, entry.indexed, strict=True) if not indexed]
        in_topics = [kind for kind, indexed in zip(entry.inputs, entry.indexed, strict=True) if indexed]
        if len(topics) != 1 + len(in_topics):
            raise BadAnswer(f"a log of {entry.name} has {len(topics)} topics")
        values = iter(_decoded(plain, data))
        indexed_values = (
            _decoded([kind], topic)[0] for kind, topic in zip(in_topics, topics[1:], strict=True)
        )
        arguments = {
            name: next(indexed_values) if indexed else next(values)
            for name, indexed in zip(entry.names, entry.indexed, strict=True)
        }
        return Log(entry.name, arguments)


@dataclass(frozen=True)
class Artifact:
    """A compiled contract: its ABI and the bytecode that creates it."""

    abi: Abi
    bytecode: bytes

    def creation(self, *arguments: object) -> bytes:
        """The data of a transaction that puts the contract on a chain."""
        return self.bytecode + self.abi.creation_data(arguments)


CONTRACTS = ("RunRegistry", "Token", "RewardsDistributor", "StakeManager", "TrainingRecords")
"""What is shipped with this package."""


@cache
def load_artifact(name: str) -> Artifact:
    """A contract that is shipped with this package, read once."""
    content = _shipped(name)
    return Artifact(Abi(content["abi"]), bytes.fromhex(content["bytecode"].removeprefix("0x")))


@cache
def all_errors() -> Abi:
    """The errors of every shipped contract: a call may fail with the words of another contract that it called."""
    entries = [entry for name in CONTRACTS for entry in _shipped(name)["abi"] if entry["type"] == "error"]
    return Abi(entries)


def _shipped(name: str) -> Mapping[str, Any]:
    text = resources.files("distrai.ledger").joinpath("artifacts", f"{name}.json").read_text()
    content: Mapping[str, Any] = json.loads(text)
    return content


def _entry(entry: Mapping[str, Any]) -> Entry:
    inputs, outputs = entry.get("inputs", ()), entry.get("outputs", ())
    return Entry(
        name=entry.get("name", ""),
        inputs=tuple(_type(item) for item in inputs),
        names=tuple(item["name"] for item in inputs),
        indexed=tuple(bool(item.get("indexed")) for item in inputs),
        outputs=tuple(_type(item) for item in outputs),
    )


def _type(item: Mapping[str, Any]) -> str:
    """The canonical type: structs are written as their members."""
    kind = str(item["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(member) for member in item['components'])}){kind.removeprefix('tuple')}"


def _decoded(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    try:
        return _CODEC.decode(types, data)
    except (DecodingError, OverflowError) as error:
        raise BadAnswer(f"the node's answer does not decode: {error}") from error


class _AddressDecoder(AddressDecoder):
    """Addresses as the 20 bytes that they are."""

    decoder_fn = staticmethod(bytes)  # type: ignore[assignment]


def _codec() -> ABICodec:
    types = registry.copy()  # type: ignore[no-untyped-call]
    types.unregister("address")
    is_address = BaseEquals("address", with_sub=False)  # type: ignore[no-untyped-call]
    types.register(is_address, AddressEncoder, _AddressDecoder, label="address")
    return ABICodec(types)


_CODEC = _codec()
