"""The ``TrainingRecords`` as a run's opener, its seats and readers use them."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum

from distrai.ledger.contract import Contract
from distrai.ledger.errors import BadAnswer, LedgerRefused
from distrai.protocol.primitives import Address, Hash, SignatureBytes


class Stage(IntEnum):
    """How far a training has come. Stages come one after the other."""

    NONE = 0
    REQUESTED = 1
    STARTED = 2
    TRAINED = 3
    SAVED = 4
    PUBLISHED = 5
    CLOSED = 6


@dataclass(frozen=True)
class Request:
    """What a sender claims of a training that it asks for.

    ``run`` is zero for a single job; ``price_per_hour`` of a GPU in millionths of a US dollar; ``parameters`` the key
    hyper-parameters as canonical JSON (1024 bytes at most). ``gpu``, ``provider``, ``theme``: 64 bytes, ``model``: 96.
    """

    run: int
    source: Hash
    price_per_hour: int
    parameter_count: int
    gpu: str
    provider: str
    model: str
    theme: str
    parameters: str


@dataclass(frozen=True)
class Result:
    """What came of it: ``manifest`` is the finished model's, ``table`` the hash of what each peer used, or zero."""

    manifest: Hash
    table: Hash
    training_seconds: int
    gpu_seconds: int
    peers: int


@dataclass(frozen=True)
class Record:
    """A record: what the ledger knows, and what was claimed. Times are ledger time; ``closed_at`` zero while open."""

    number: int
    sender: Address
    requested_at: int
    stage: Stage
    run: int
    closed_at: int
    round: int
    state_root: Hash
    result: Result
    request: Request


class RecordsClient(Contract):
    """Training records on a chain."""

    artifact = "TrainingRecords"

    async def open(self, request: Request) -> int:
        """Open a record, as the run's owner if it is of a run; gives its number, from 1."""
        return int(
            self._said(await self._send("open", astuple(request), once=True), "RecordOpened", "record")
        )

    async def reach(self, record: int, stage: Stage, evidence: Hash) -> bool:
        """Say how far a training has come, as the record's sender. False: it has come that far already."""
        return await self._send_unless("WrongStage", "reach", record, int(stage), evidence) is not None

    async def close_record(self, record: int, result: Result) -> bool:
        """Close a record, as its sender. False: it was closed with this result already."""
        sent = await self._send_unless("RecordIsClosed", "close", record, astuple(result))
        return sent is not None or await self._closed_with(record, result)

    async def close_by_seats(self, record: int, result: Result, signatures: Sequence[SignatureBytes]) -> bool:
        """Close the record of a run; ``signatures`` over ``closing_digest`` of two thirds of its seats, by signer."""
        values = astuple(result), b"".join(signatures)
        sent = await self._send_unless("RecordIsClosed", "closeBySeats", record, *values)
        return sent is not None or await self._closed_with(record, result)

    async def closing_digest(self, record: int, result: Result) -> Hash:
        """What the seats sign to close the record of a run as it is now."""
        return Hash((await self._view("closingDigest", record, astuple(result)))[0])

    async def count(self, block: int | None = None) -> int:
        """How many records there are."""
        return int((await self._view("recordCount", block=block))[0])

    async def get(self, record: int, block: int | None = None) -> Record:
        """A record. Raises LedgerRefused (UnknownRecord)."""
        entry, request = await self._view("getRecord", record, block=block)
        sender, requested_at, stage, _data, run, closed_at, round_number, state_root, result = entry
        times = (requested_at, Stage(stage), run, closed_at)
        return Record(record, sender, *times, round_number, state_root, Result(*result), Request(*request))

    async def _closed_with(self, record: int, result: Result) -> bool:
        """False if the record was closed with this result; raises LedgerRefused if with another."""
        if (await self.get(record)).result != result:
            raise LedgerRefused("RecordIsClosed", (record,))
        return False


def read_claims(run: int, claims: bytes) -> Request:
    """The request of a RecordOpened event. Raises BadAnswer.

    Packed: source (32 bytes), price (8), count (8), and the five texts, each after its length (2).
    """
    price, count = (int.from_bytes(claims[at : at + 8], "big") for at in (32, 40))
    texts, at = [], 48
    try:
        for _ in range(5):
            end = at + 2 + int.from_bytes(claims[at : at + 2], "big")
            if end > len(claims) or at + 2 > len(claims):
                raise BadAnswer("the claims of a training record are cut off")
            texts.append(claims[at + 2 : end].decode())
            at = end
    except UnicodeDecodeError as error:
        raise BadAnswer(f"the claims of a training record are no text: {error}") from error
    gpu, provider, model, theme, parameters = texts
    return Request(run, Hash(claims[:32]), price, count, gpu, provider, model, theme, parameters)
