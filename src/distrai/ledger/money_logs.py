"""The logs of all contracts of a deployment as the events that the protocol knows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distrai.ledger.abi import Abi, Log, load_artifact
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import BadAnswer
from distrai.ledger.events import build_event, position_of
from distrai.ledger.rpc import read_bytes, read_quantity
from distrai.protocol import money_events as told
from distrai.protocol.ledger_events import Deactivated, LedgerEvent, Position
from distrai.protocol.primitives import Address, Hash
from distrai.protocol.rewards import RewardTerms
from distrai.protocol.typed_data import Domain


@dataclass(frozen=True)
class TokenMoved(LedgerEvent):
    """Tokens went into a contract of the deployment, or out of it."""

    sender: Address
    to: Address
    amount: int
    transaction: Hash


@dataclass(frozen=True)
class RawLog:
    """A log as a node gives it. ``time`` is that of its block where the node says so: seconds."""

    at: Position
    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    transaction: Hash
    time: int | None = None


@dataclass(frozen=True)
class Told:
    """What a log tells: the run that it is about (None: of no single run, or not said), the record, and the event.

    ``run`` of an event of a training record is said by the event that opened it.
    """

    event: LedgerEvent
    run: int | None
    record: int | None

    @property
    def kind(self) -> str:
        """The name of the event's class."""
        return type(self.event).__name__


@dataclass(frozen=True)
class _Context:
    at: Position
    time: int
    transaction: Hash


_Build = Callable[[_Context, Mapping[str, Any]], LedgerEvent]


def _closed(of: _Context, said: Mapping[str, Any]) -> LedgerEvent:
    manifest, table, training_seconds, gpu_seconds, peers = said["result"]
    return told.RecordClosed(
        of.at,
        said["record"],
        said["round"],
        said["stateRoot"],
        manifest,
        table,
        training_seconds,
        gpu_seconds,
        peers,
        said["bySeats"],
    )


def _settled(of: _Context, said: Mapping[str, Any]) -> LedgerEvent:
    names = ("run", "epoch", "root", "total", "lastRound", "head", "dataHash", "activeFrom")
    return told.EpochSettled(of.at, *(said[name] for name in names))


def _plain(kind: type[LedgerEvent], *names: str) -> _Build:
    """An event whose fields are these arguments of the log."""
    return lambda of, said: kind(of.at, *(said[name] for name in names))


_POTS: Mapping[str, _Build] = {
    "PotOpened": lambda of, said: told.PotOpened(
        of.at, said["run"], said["owner"], said["afterRound"], RewardTerms(*said["terms"])
    ),
    "Funded": _plain(told.Funded, "run", "from", "amount", "funded"),
    "MemberAllowed": _plain(told.MemberAllowed, "run", "member", "firstRound"),
    "MemberDisallowed": _plain(told.MemberDisallowed, "run", "member", "lastRound"),
    "HeadMarked": _plain(told.HeadMarked, "run", "round", "head", "worked", "time"),
    "EpochSettled": _settled,
    "EpochKilled": _plain(told.EpochKilled, "run", "epoch", "live", "kills"),
    "RewardClaimed": lambda of, said: told.RewardClaimed(
        of.at,
        said["run"],
        said["member"],
        said["epoch"],
        said["to"],
        said["amount"],
        said["claimed"],
        of.transaction,
    ),
    "PotClosed": lambda of, said: told.PotClosed(
        of.at, said["run"], said["lastRound"], said["workedMax"], of.time
    ),
    "Refunded": _plain(told.Refunded, "run", "to", "amount"),
}
_STAKES: Mapping[str, _Build] = {
    "TermsSet": _plain(told.StakeTermsSet, "run", "minimum", "faultMax"),
    "Staked": _plain(told.Staked, "run", "member", "amount", "staked"),
    "ExitAsked": _plain(told.ExitAsked, "run", "member", "unbondAt"),
    "Unbonding": _plain(told.Unbonding, "run", "member", "unbonding", "releaseAt"),
    "Withdrawn": _plain(told.Withdrawn, "run", "member", "to", "amount"),
    "Slashed": _plain(
        told.Slashed,
        "run",
        "member",
        "place",
        "challenger",
        "fromStaked",
        "fromUnbonding",
        "reward",
        "active",
    ),
}
_RECORDS: Mapping[str, _Build] = {
    "RecordOpened": lambda of, said: told.RecordOpened(
        of.at,
        said["record"],
        said["sender"],
        said["run"],
        said["source"],
        said["claims"],
        of.time,
        of.transaction,
    ),
    "StageReached": _plain(told.StageReached, "record", "stage", "evidence"),
    "RecordClosed": _closed,
}
_TOKEN: Mapping[str, _Build] = {
    "Transfer": lambda of, said: TokenMoved(of.at, said["from"], said["to"], said["value"], of.transaction),
}


class MoneyLogs:
    """Which logs to ask for, and what they tell."""

    def __init__(self, of: Deployment) -> None:
        self._of, self._domain = of, Domain(of.chain_id, of.registry)
        self._registry = load_artifact("RunRegistry").abi
        self._token = load_artifact("Token").abi
        self._builders: dict[Address, tuple[Abi, Mapping[str, _Build]]] = {
            of.rewards: (load_artifact("RewardsDistributor").abi, _POTS),
            of.stakes: (load_artifact("StakeManager").abi, _STAKES),
            of.records: (load_artifact("TrainingRecords").abi, _RECORDS),
            of.token: (self._token, _TOKEN),
        }

    @property
    def queries(self) -> list[dict[str, Any]]:
        """Filters of ``eth_getLogs``, but for the blocks. Of the token only what concerns the contracts."""
        of = self._of
        owned = [_hex(address) for address in (of.registry, of.rewards, of.stakes, of.records)]
        holders = [_topic(of.rewards), _topic(of.stakes)]
        moved, token = _hex(self._token.topic("Transfer")), _hex(of.token)
        return [
            {"address": owned, "topics": []},
            {"address": token, "topics": [moved, None, holders]},
            {"address": token, "topics": [moved, holders]},
        ]

    def decode(self, log: RawLog, time: int) -> Told | None:
        """What a log tells, from its block's time; None if it is nothing that is known here. Raises BadAnswer."""
        if log.address == self._of.registry:
            said = self._registry.decode_log(log.topics, log.data)
            event = None if said is None else build_event(said, log.at, self._domain)
        else:
            if log.address not in self._builders:
                raise BadAnswer("the node gives logs of another contract than was asked for")
            abi, builders = self._builders[log.address]
            said = abi.decode_log(log.topics, log.data)
            build = None if said is None else builders.get(said.name)
            event = None if said is None or build is None else build(_of(log, time), said.arguments)
        if said is None or event is None:
            return None
        return Told(event, _number(said, "run"), _number(said, "record"))


def read_log(log: Any) -> RawLog | None:
    """A log from a node; None if the ledger took it back. Raises BadAnswer."""
    if not isinstance(log, Mapping) or not isinstance(log.get("topics"), list):
        raise BadAnswer("the node gives a log that is none")
    if log.get("removed"):
        return None
    time = log.get("blockTimestamp")
    return RawLog(
        position_of(log),
        Address(read_bytes(log.get("address"))),
        tuple(read_bytes(topic) for topic in log["topics"]),
        read_bytes(log.get("data")),
        Hash(read_bytes(log.get("transactionHash"))),
        None if time is None else read_quantity(time),
    )


def deactivation(event: LedgerEvent) -> Deactivated | None:
    """What a stake manager's event means for a run that asks for stakes: the member counts no more, from here on."""
    if isinstance(event, told.ExitAsked | told.Unbonding) or (
        isinstance(event, told.Slashed) and not event.active
    ):
        return Deactivated(event.at, event.member)
    return None


def _of(log: RawLog, time: int) -> _Context:
    return _Context(log.at, time, log.transaction)


def _number(said: Log, name: str) -> int | None:
    found = said.arguments.get(name)
    return found if isinstance(found, int) else None


def _topic(address: Address) -> str:
    return _hex(address.rjust(32, b"\0"))


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
