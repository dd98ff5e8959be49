"""The registry's logs as the events that the protocol knows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distrai.ledger.abi import Abi, Log
from distrai.ledger.errors import BadAnswer
from distrai.ledger.rpc import read_bytes, read_quantity
from distrai.protocol.body import Body, Genesis, Promotion
from distrai.protocol.ledger_events import (
    Announced,
    Certified,
    CheckedIn,
    Deactivated,
    Joined,
    KeyChanged,
    LedgerEvent,
    Left,
    Position,
    RollCalled,
    RunOpened,
    Started,
)
from distrai.protocol.lists import Trainer
from distrai.protocol.primitives import Address, Hash
from distrai.protocol.typed_data import Domain

MEMBER_EVENTS = ("NodeKeyChanged",)
"""Events of a member, in whatever runs it is."""
_DEACTIVATING = ("Slashed", "ExitAsked", "Unbonding")
"""Events of a StakeManager by which a member's stake may count no more."""

_Build = Callable[[Position, Mapping[str, Any], Domain], LedgerEvent]


def _opened(at: Position, said: Mapping[str, Any], domain: Domain) -> LedgerEvent:
    genesis = Genesis(
        domain.chain_id,
        domain.registry,
        said["run"],
        said["recipeHash"],
        said["stateRoot"],
        said["dataHash"],
        said["tokenizerHash"],
        said["parentRun"],
        said["parentRound"],
        said["parentHead"],
    )
    if genesis.head != said["genesisHead"]:
        raise BadAnswer(
            "the node's genesis head is not that of the run it names: another registry, or a broken node"
        )
    return RunOpened(at, genesis, said["owner"])


def _started(at: Position, said: Mapping[str, Any], _: Domain) -> LedgerEvent:
    seats = zip(said["seats"], said["keys"], strict=True)
    return Started(at, said["head"], tuple(Trainer(member, key) for member, key in seats))


def _certified(at: Position, said: Mapping[str, Any], _: Domain) -> LedgerEvent:
    body = Body(
        said["run"],
        said["round"],
        said["previousHead"],
        said["updatesRoot"],
        said["stateRoot"],
        said["trainersRoot"],
        tuple(Promotion(member, key) for member, key in said["promotions"]),
        tuple(said["drops"]),
    )
    if body.head != said["head"]:
        raise BadAnswer(
            "the node's head is not that of the body it gives: another registry, or a broken node"
        )
    return Certified(at, body, said["head"])


def _roll_called(at: Position, said: Mapping[str, Any], _: Domain) -> LedgerEvent:
    heads = said["head"], said["previousHead"], said["stateRoot"]
    return RollCalled(at, said["round"], *heads, tuple(said["drops"]))


_BUILDERS: Mapping[str, _Build] = {
    "RunOpened": _opened,
    "Joined": lambda at, said, _: Joined(at, said["member"], said["key"], said["seat"]),
    "Left": lambda at, said, _: Left(at, said["member"]),
    "NodeKeyChanged": lambda at, said, _: KeyChanged(at, said["member"], said["key"]),
    "Announced": lambda at, said, _: Announced(at, said["member"], said["endpoint"]),
    "Started": _started,
    "Certified": _certified,
    "CheckedIn": lambda at, said, _: CheckedIn(at, said["round"], said["member"], said["call"]),
    "RollCalled": _roll_called,
}


def topics(abi: Abi, run: int) -> tuple[list[Any], list[Any]]:
    """The topics to ask for: events of the run, and events of members."""
    of_run = [_hex(abi.topic(name)) for name in _BUILDERS if name not in MEMBER_EVENTS]
    of_members = [_hex(abi.topic(name)) for name in MEMBER_EVENTS]
    return [of_run, _hex(run.to_bytes(32, "big"))], [of_members]


def stake_topics(abi: Abi, run: int) -> list[Any]:
    """The topics to ask a stake manager for: by these, members of the run may count no more."""
    return [[_hex(abi.topic(name)) for name in _DEACTIVATING], _hex(run.to_bytes(32, "big"))]


def parse_deactivations(abi: Abi, stakes: Address, logs: Sequence[Any]) -> list[LedgerEvent]:
    """Whose stake counts no more, from a stake manager's logs. Raises BadAnswer."""
    found: list[LedgerEvent] = []
    for log in logs:
        said = decode_from(abi, stakes, log)
        if said is None or (said.name == "Slashed" and said.arguments["active"]):
            continue
        if said.name in _DEACTIVATING:
            found.append(Deactivated(position_of(log), said.arguments["member"]))
    return found


def parse_logs(abi: Abi, domain: Domain, logs: Sequence[Any]) -> list[LedgerEvent]:
    """The events in a node's logs, in the order of the ledger. Raises BadAnswer."""
    events = [_event(abi, domain, log) for log in logs]
    return sorted((event for event in events if event is not None), key=lambda event: event.at)


def _event(abi: Abi, domain: Domain, log: Any) -> LedgerEvent | None:
    decoded = decode_from(abi, domain.registry, log)
    return None if decoded is None else build_event(decoded, position_of(log), domain)


def build_event(said: Log, at: Position, domain: Domain) -> LedgerEvent | None:
    """What a decoded log of the registry tells; None if it is none of the events that are known here."""
    build = _BUILDERS.get(said.name)
    return None if build is None else build(at, said.arguments, domain)


def decode_from(abi: Abi, address: Address, log: Any) -> Log | None:
    """A log of the contract at ``address``; None if the ledger took it back or it is no event of the ABI."""
    if not isinstance(log, Mapping) or read_bytes(log.get("address")) != address:
        raise BadAnswer("the node gives logs of another contract than was asked for")
    return None if log.get("removed") else _decode(abi, log)


def position_of(log: Mapping[str, Any]) -> Position:
    """Where a log stands. Raises BadAnswer."""
    number, index = read_quantity(log.get("blockNumber")), read_quantity(log.get("logIndex"))
    return Position(number, index, Hash(read_bytes(log.get("blockHash"))))


def argument_of(abi: Abi, registry: Address, logs: Sequence[Mapping[str, Any]], event: str, name: str) -> Any:
    """One argument of an event that a receipt must hold. Raises BadAnswer."""
    for log in logs:
        said = _decode(abi, log)
        if read_bytes(log.get("address")) == registry and said is not None and said.name == event:
            return said.arguments[name]
    raise BadAnswer(f"the receipt does not hold {event}")


def _decode(abi: Abi, log: Mapping[str, Any]) -> Log | None:
    found = log.get("topics")
    if not isinstance(found, list):
        raise BadAnswer("the node gives a log without topics")
    return abi.decode_log([read_bytes(topic) for topic in found], read_bytes(log.get("data")))


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
