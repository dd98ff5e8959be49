"""What an archive has published of a run, read for a replay: nothing is believed but the head that anchors it.

Every head commits to the one before, so the chain is proved from its end: the anchor proves the body of the last
certificate, which proves the one before, down to genesis. What does not fit is thereby named exactly, whatever was
forged to match it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from distrai.network.store import BlobStore
from distrai.peer.plan import Plan
from distrai.peer.records import CertificateRecord, GenesisRecord, RollCallRecord
from distrai.peer.store import PublicFolder
from distrai.protocol.blobs import BlobRef
from distrai.protocol.body import Genesis, check_body, start_head
from distrai.protocol.canonical import decode_canonical
from distrai.protocol.errors import MalformedMessage, WrongBlob, WrongHead, WrongRound, WrongStateRoot
from distrai.protocol.lists import CertifiedList, decode_list
from distrai.protocol.merkle import state_root
from distrai.protocol.primitives import ADDRESS_SIZE, HASH_SIZE, Hash
from distrai.protocol.recipe import ResolvedRecipe
from distrai.protocol.standing import Seat, Standing


class ReplayFailed(ValueError):
    """The published bytes are not the run: ``culprit`` is what is wrong or missing, ``rule`` the error's name."""

    def __init__(self, culprit: str, rule: str, why: str, round_number: int) -> None:
        super().__init__(f"{culprit}: {rule}: {why}")
        self.culprit, self.rule, self.why, self.round = culprit, rule, why, round_number


class Missing(ValueError):
    """A published file or blob is not there."""


@dataclass(frozen=True)
class Anchor:
    """The head that is believed, and how many rounds lead to it (None: as many as it takes).

    ``roll_calls``: which of the rounds the ledger says were ended by one (None: nobody says).
    """

    head: Hash
    rounds: int | None = None
    roll_calls: frozenset[int] | None = None


Link = CertificateRecord | RollCallRecord
"""What ends a round."""


@contextmanager
def blaming(culprit: str, round_number: int) -> Iterator[None]:
    """Say what was being looked at when a rule was found broken. Raises ReplayFailed."""
    try:
        yield
    except ReplayFailed:
        raise
    except (ValueError, OSError, msgspec.MsgspecError) as error:
        raise ReplayFailed(culprit, type(error).__name__, str(error), round_number) from error


@dataclass(frozen=True)
class Published:
    """The public folder and the blobs of an archive."""

    public: PublicFolder
    blobs: BlobStore

    def genesis(self) -> GenesisRecord:
        """How the run began; not proved yet. Raises ReplayFailed."""
        with blaming("genesis", 0):
            record = decode_canonical(_read(self.public.genesis_path, "how the run began"), GenesisRecord)
            _check_genesis(record)
            return record

    def links(self, anchor: Anchor, first: Standing) -> list[Link]:
        """What leads, round by round, from the first head to the anchor, its heads proved. Raises ReplayFailed."""
        rounds = anchor.rounds if anchor.rounds is not None else self._rounds_to(anchor.head, first.head)
        found: list[Link] = []
        head = anchor.head
        for number in range(rounds, 0, -1):
            link = self._link_to(number, head, anchor.roll_calls)
            with blaming(name_of(link, number), number):
                if head_of(link) != head:
                    raise WrongHead(
                        f"it makes the head 0x{head_of(link).hex()}, and not 0x{head.hex()} as "
                        f"{'what is believed' if number == rounds else 'the next one'} says: it was changed, or is of "
                        "another run"
                    )
                if round_of(link) != number:
                    raise WrongRound(f"it is of round {round_of(link)}")
            head = previous_of(link)
            found.append(link)
        with blaming("genesis", 0):
            if first.head != head:
                raise WrongHead(
                    f"it leads to the first head 0x{first.head.hex()}, and not 0x{head.hex()} as what follows says: it "
                    "was changed, or is of another run"
                )
        return found[::-1]

    def _rounds_to(self, head: Hash, first: Hash) -> int:
        """How many rounds lead to a head that is believed. Raises ReplayFailed."""
        number, reached = 0, {first}
        while head not in reached:
            number += 1
            there = self._published(number)
            if not there:
                raise ReplayFailed(
                    _certificate_of(number),
                    "Missing",
                    f"what is published ends at 0x{min(reached).hex()}, and 0x{head.hex()} is believed: certificates "
                    "are missing, were changed, or are of another run",
                    number,
                )
            reached = {head_of(link) for link in there}
        return number

    def _link_to(self, number: int, head: Hash, roll_calls: frozenset[int] | None) -> Link:
        """What is published of a round: if two things are, the one that makes this head. Raises ReplayFailed."""
        there = self._published(number)
        if roll_calls is not None:
            is_call = number in roll_calls
            there = [link for link in there if isinstance(link, RollCallRecord) == is_call]
            if not there and is_call:
                raise ReplayFailed(f"roll call of round {number}", "Missing", "it was not published", number)
        if not there:
            self._certificate(number)  # says what is missing
        return next((link for link in there if head_of(link) == head), there[0])

    def _published(self, number: int) -> list[Link]:
        """What is published of a round: a certificate or a roll call, or none; both if a crash came in between."""
        found: list[Link] = []
        if self.public.certificate_path(number).exists():
            found.append(self._certificate(number))
        if self.public.roll_call_path(number).exists():
            found.append(self._roll_call(number))
        return found

    def _certificate(self, number: int) -> CertificateRecord:
        with blaming(_certificate_of(number), number):
            path = self.public.certificate_path(number)
            record = decode_canonical(_read(path, f"the {_certificate_of(number)}"), CertificateRecord)
            check_body(record.body)
            return record

    def _roll_call(self, number: int) -> RollCallRecord:
        with blaming(f"roll call of round {number}", number):
            data = _read(self.public.roll_call_path(number), "the roll call")
            record = decode_canonical(data, RollCallRecord)
            names: list[bytes] = [record.previous_head, record.state_root, *record.drops]
            if any(len(item) != HASH_SIZE for item in names) or not 0 < record.round < 1 << 64:
                raise MalformedMessage("a roll call has a round and names of 32 bytes")
            return record

    def certified_list(self, number: int) -> CertifiedList:
        """The list of a round; not proved yet. Raises ReplayFailed."""
        with blaming(f"list of round {number}", number):
            return decode_list(_read(self.public.list_path(number), f"the list of round {number}"))

    def plan(self, genesis: Genesis) -> Plan:
        """What follows from the recipe that genesis names. Raises ReplayFailed."""
        with blaming("recipe", 0):
            name = genesis.recipe_hash
            resolved = ResolvedRecipe.from_bytes(self.blobs.read(BlobRef(name, self.blobs.manifest(name)[0])))
            agreed = (resolved.corpus.hash, resolved.tokenizer_hash, resolved.initial_root)
            if agreed != (genesis.data_hash, genesis.tokenizer_hash, genesis.state_root):
                raise WrongBlob("the recipe names another corpus, tokenizer or initial state than genesis")
            return Plan.of(resolved)

    def initial_state(self, plan: Plan) -> bytes:
        """The bytes of the state before round 1: the only state that a replay reads. Raises ReplayFailed."""
        with blaming("initial state", 0):
            data = self.blobs.read(plan.resolved.initial_state)
            if state_root(data) != plan.resolved.initial_root:
                raise WrongStateRoot("the initial state is not the one of genesis")
            return data


def first_standing(record: GenesisRecord) -> Standing:
    """The standing at the first head, as genesis and the seats of the start give it."""
    genesis = record.genesis
    seats = tuple(Seat(seat.member, seat.key, 0) for seat in record.seats)
    head = start_head(genesis.head, [(seat.member, seat.key) for seat in record.seats])
    return Standing(
        genesis.run, 0, head, genesis.state_root, seats, record.seats, 0, record.seats, genesis.head
    )


def head_of(link: Link) -> Hash:
    """The head that it makes."""
    return link.head if isinstance(link, RollCallRecord) else link.body.head


def round_of(link: Link) -> int:
    """The round that it ends."""
    return link.round if isinstance(link, RollCallRecord) else link.body.round


def previous_of(link: Link) -> Hash:
    """The head that it follows."""
    return link.previous_head if isinstance(link, RollCallRecord) else link.body.previous_head


def name_of(link: Link, number: int) -> str:
    """What to call it when something is wrong with it."""
    return f"roll call of round {number}" if isinstance(link, RollCallRecord) else _certificate_of(number)


def _certificate_of(number: int) -> str:
    return f"certificate of round {number}"


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Missing(f"{what} is missing ({path.name} in {path.parent})") from None


def _check_genesis(record: GenesisRecord) -> None:
    """Raise MalformedMessage unless every field has a size that can be hashed."""
    genesis = record.genesis
    hashes: list[bytes] = [genesis.recipe_hash, genesis.state_root, genesis.data_hash]
    hashes += [genesis.tokenizer_hash, genesis.parent_head, *(seat.member for seat in record.seats)]
    addresses = [genesis.registry, *(seat.key for seat in record.seats)]
    numbers = (genesis.chain_id, genesis.run, genesis.parent_run, genesis.parent_round)
    if any(len(item) != HASH_SIZE for item in hashes) or any(len(item) != ADDRESS_SIZE for item in addresses):
        raise MalformedMessage("genesis has hashes of 32 bytes and addresses of 20")
    if any(not 0 <= number < 1 << 64 for number in numbers):
        raise MalformedMessage("genesis has numbers of 64 bits")
    if not record.seats:
        raise MalformedMessage("the run was opened, but its start was not published")
