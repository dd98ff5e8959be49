"""Training records: what was asked for, how far it came, and what is bound to the ledger."""

import pytest

from contracts.support.evm import CHAIN_ID, Reverted
from contracts.support.money import Economy
from contracts.support.players import NOBODY, Key, Running, refused
from distrai.protocol.body import quorum
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import ZERO_HASH, Address
from distrai.protocol.typed_data import Domain, struct_hash, type_hash

SENDER, STRANGER = Key("sender").address, Key("stranger").address
REQUESTED, STARTED, TRAINED, SAVED, PUBLISHED, CLOSED = range(1, 7)
TEXTS = (
    "8 x NVIDIA H100 80GB",
    "a friend's garage ü",
    "distrai/teacher-1b",
    "code",
    '{"lr":0.0004,"width":2048}',
)
RECIPE = keccak(b"recipe")
LIMITS = (64, 64, 96, 64, 1024)
RESULT = (keccak(b"manifest"), keccak(b"table"), 3_600, 28_800, 8)
CLOSING = type_hash(
    "Closing(uint256 record,uint64 run,uint64 round,bytes32 stateRoot,bytes32 manifest,bytes32 table,"
    "uint64 trainingSeconds,uint64 gpuSeconds,uint32 peers)"
)


def request(run=0, texts=TEXTS, source=RECIPE):
    return (run, source, 2_490_000, 1_300_000_000, *texts)


def opened(economy: Economy, run=0, sender=SENDER) -> int:
    return int(economy.records.send(sender, "open", request(run)).returned[0])


def packed(texts=TEXTS) -> bytes:
    raw = [text.encode() for text in texts]
    parts = b"".join(len(text).to_bytes(2, "big") + text for text in raw)
    return keccak(b"recipe") + (2_490_000).to_bytes(8, "big") + (1_300_000_000).to_bytes(8, "big") + parts


def test_a_request_is_kept_in_full(economy: Economy):
    outcome = economy.records.send(SENDER, "open", request())
    said = {"record": 1, "sender": SENDER, "run": 0, "source": keccak(b"recipe"), "claims": packed()}
    assert (outcome.log.name, outcome.log.arguments) == ("RecordOpened", said)
    entry, claims = economy.records.read("getRecord", 1)
    assert claims == request()
    sender, requested_at, stage, data, *rest = entry
    assert (sender, requested_at, stage) == (SENDER, economy.evm.now, REQUESTED)
    assert data != NOBODY
    assert rest == [0, 0, 0, ZERO_HASH, (ZERO_HASH, ZERO_HASH, 0, 0, 0)]
    assert economy.records.read("recordCount") == 1


def test_nothing_and_the_longest_are_kept_as_well(economy: Economy):
    for texts in (("",) * 5, tuple("x" * limit for limit in LIMITS)):
        record = economy.records.send(SENDER, "open", request(texts=texts)).returned[0]
        assert economy.records.read("getRecord", record)[1] == request(texts=texts)


@pytest.mark.parametrize("at", range(5))
def test_texts_have_limits(economy: Economy, at: int):
    texts = list(TEXTS)
    texts[at] = "x" * (LIMITS[at] + 1)
    with refused("TextTooLong", LIMITS[at] + 1, LIMITS[at]):
        economy.records.send(SENDER, "open", request(texts=texts))


def test_a_request_names_its_source_and_an_own_run(economy: Economy):
    with refused("MissingSource"):
        economy.records.send(SENDER, "open", request(source=ZERO_HASH))
    run = economy.world.open()
    with refused("NotRunOwner", run, SENDER):
        opened(economy, run)
    with refused("NotRunOwner", 99, SENDER):
        opened(economy, 99)
    assert opened(economy, run, economy.world.owner.address) == 1


def test_stages_come_in_order(economy: Economy):
    record = opened(economy)
    for stage in (STARTED, TRAINED, PUBLISHED):
        outcome = economy.records.send(SENDER, "reach", record, stage, keccak(b"%d" % stage))
        assert outcome.log.arguments == {"record": record, "stage": stage, "evidence": keccak(b"%d" % stage)}
        for earlier in range(stage + 1):
            with refused("WrongStage", earlier, stage):
                economy.records.send(SENDER, "reach", record, earlier, ZERO_HASH)
    with refused("WrongStage", CLOSED, PUBLISHED):
        economy.records.send(SENDER, "reach", record, CLOSED, ZERO_HASH)


def test_only_the_sender_goes_on(economy: Economy):
    record = opened(economy)
    for function, rest in (("reach", (STARTED, ZERO_HASH)), ("close", (RESULT,))):
        with refused("NotSender", record, STRANGER):
            economy.records.send(STRANGER, function, record, *rest)
        with refused("UnknownRecord", 9):
            economy.records.send(SENDER, function, 9, *rest)
    with refused("UnknownRecord", 9):
        economy.records.read("getRecord", 9)


def test_a_closed_record_stays_as_it_is(economy: Economy):
    record = opened(economy)
    outcome = economy.records.send(SENDER, "close", record, RESULT)
    said = {"record": record, "round": 0, "stateRoot": ZERO_HASH, "result": RESULT, "bySeats": False}
    assert outcome.log.arguments == said
    entry, claims = economy.records.read("getRecord", record)
    assert claims == request()
    assert entry[2] == CLOSED
    assert entry[4:] == (0, economy.evm.now, 0, ZERO_HASH, RESULT)
    with refused("RecordIsClosed", record):
        economy.records.send(SENDER, "close", record, RESULT)
    with refused("RecordIsClosed", record):
        economy.records.send(SENDER, "reach", record, SAVED, ZERO_HASH)


def test_the_record_of_a_run_binds_its_last_state(economy: Economy):
    running = economy.world.started(1)
    record = opened(economy, running.run, economy.world.owner.address)
    running.certify()
    outcome = economy.records.send(economy.world.owner.address, "close", record, RESULT)
    assert outcome.log.arguments["stateRoot"] == running.state.state_root
    assert outcome.log.arguments["round"] == 1


def closing(economy: Economy, record: int, running: Running, domain: Domain | None = None) -> bytes:
    domain = domain or Domain(CHAIN_ID, Address(economy.records.address))
    types = ["uint256", "uint64", "uint64", *["bytes32"] * 3, "uint64", "uint64", "uint32"]
    values = [record, running.run, running.state.round, running.state.state_root, *RESULT]
    digest = domain.digest(struct_hash(CLOSING, types, values))
    keys = sorted(
        (seat.key for seat in running.seats[: quorum(len(running.seats))]), key=lambda key: key.address
    )
    return b"".join(key.sign(digest) for key in keys)


def test_the_seats_close_the_record_of_their_run(economy: Economy):
    running = economy.world.started(3)
    record = opened(economy, running.run, economy.world.owner.address)
    running.certify()
    good = closing(economy, record, running)
    with refused("NotEnoughSignatures", 1, 3):
        economy.records.send(NOBODY, "closeBySeats", record, RESULT, good[:65])
    foreign = closing(economy, record, running, Domain(CHAIN_ID, Address(b"\1" * 20)))
    with refused("NotASeatKey"):
        economy.records.send(NOBODY, "closeBySeats", record, RESULT, foreign)
    outcome = economy.records.send(NOBODY, "closeBySeats", record, RESULT, good)
    assert outcome.log.arguments["bySeats"] is True
    with refused("RecordIsClosed", record):
        economy.records.send(NOBODY, "closeBySeats", record, RESULT, good)


def test_the_seats_close_for_one_state_only(economy: Economy):
    running = economy.world.started(1)
    record = opened(economy, running.run, economy.world.owner.address)
    running.certify()
    old = closing(economy, record, running)
    running.certify()
    with refused("NotASeatKey"):
        economy.records.send(NOBODY, "closeBySeats", record, RESULT, old)


def test_a_job_has_no_seats(economy: Economy):
    record = opened(economy)
    with refused("NoSeats", record):
        economy.records.send(NOBODY, "closeBySeats", record, RESULT, b"")


def test_a_request_is_kept_in_full_or_not_at_all(economy: Economy):
    """With too little gas the inner creation fails, and the rest of the transaction has enough left to go on."""
    longest = request(texts=tuple("x" * limit for limit in LIMITS))
    data = economy.records.abi.call_data("open", [longest])
    with refused("NotStored"):
        try:
            economy.evm.send(SENDER, economy.records.address, data, gas=300_000)
        except Reverted as reverted:
            raise economy.records.abi.refusal(reverted.data) from None
    assert economy.records.read("recordCount") == 0
