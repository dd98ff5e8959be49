"""Where members can be reached: records signed by node keys, passed on with whatever peers say anyway."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec

from distrai.network.interface import Endpoint
from distrai.network.records import EndpointRecord, open_record, seal_record
from distrai.peer.identity import Identity
from distrai.protocol.errors import ProtocolError
from distrai.protocol.primitives import Address, MemberId

RECORDS_TOLD_MAX = 16
RECORDS_KEPT_MAX = 4096


class Directory:
    """The newest endpoint record of every member, the own one among them."""

    def __init__(
        self,
        identity: Identity,
        run: int,
        keys: Callable[[], Mapping[Address, MemberId]],
        remember: Callable[[tuple[bytes, ...]], None] = lambda _: None,
    ) -> None:
        """``keys`` says whose key each is of those who take part now (one may have two): only their records are kept.

        ``remember`` is given all of them whenever one is new, for the next start.
        """
        self.identity, self.run, self.keys, self.remember = identity, run, keys, remember
        self._raw: dict[MemberId, bytes] = {}
        self._known: set[bytes] = set()
        self._records: dict[MemberId, tuple[EndpointRecord, Address]] = {}
        self._bootstrap: dict[MemberId, Endpoint] = {}
        self._turn = 0

    def announce_self(
        self, sequence: int, urls: tuple[str, ...], fingerprint: bytes = b"", earlier: Iterable[bytes] = ()
    ) -> None:
        """Say where this peer is, with which TLS certificate.

        ``sequence`` must grow with every new record: it is above that of the own one among ``earlier`` ones in any
        case, so that a clock that was set back does no harm.
        """
        me = self.identity
        sequence = max([sequence, *(number + 1 for number in self._own_numbers(earlier))])
        record = EndpointRecord(
            run=self.run, member=me.member, sequence=sequence, urls=urls, fingerprint=fingerprint
        )
        self._keep(seal_record(record, me.domain, me.sign), record, me.address)

    def _own_numbers(self, records: Iterable[bytes]) -> Iterator[int]:
        """The sequence numbers of own records, whichever of the own keys signed them."""
        me = self.identity
        for raw in records:
            with suppress(ProtocolError):
                record, signer = open_record(raw, me.domain, me.recover)
                if record.member == me.member and me.owns(signer):
                    yield record.sequence

    def introduce(self, endpoint: Endpoint) -> None:
        """Take an address from the ledger, until the member's own record says more."""
        self._bootstrap.setdefault(endpoint.member, endpoint)

    def learn(self, raw: bytes) -> None:
        """Take a record that somebody passed on; what is forged, foreign or old is ignored."""
        if raw in self._known:
            return  # as nearly always: no signature is checked twice
        try:
            record, signer = open_record(raw, self.identity.domain, self.identity.recover)
        except ProtocolError:
            return
        known = self._records.get(record.member)
        is_newer = known is None or known[0].sequence < record.sequence
        if record.run == self.run and self.keys().get(signer) == record.member and is_newer:
            self._keep(raw, record, signer)

    def _keep(self, raw: bytes, record: EndpointRecord, signer: Address) -> None:
        if record.member in self._records or len(self._records) < RECORDS_KEPT_MAX:
            self._known.discard(self._raw.get(record.member, b""))
            self._known.add(raw)
            self._raw[record.member] = raw
            self._records[record.member] = (record, signer)
            self.remember(tuple(self._raw.values()))

    def move(self, endpoint: Endpoint) -> None:
        """The ledger was just told where a member is now: what its last record says is over."""
        member = endpoint.member
        if member == self.identity.member:
            return
        self._bootstrap[member] = endpoint
        if member in self._records and set(endpoint.urls) <= set(self._records[member][0].urls):
            return  # its record says the same, and more
        self._raw.pop(member, None)
        if member in self._records:
            record, signer = self._records[member]
            moved = msgspec.structs.replace(record, urls=endpoint.urls, fingerprint=endpoint.fingerprint)
            self._records[member] = (moved, signer)

    def endpoint(self, member: MemberId) -> Endpoint | None:
        """Where a member can be reached, if that is known."""
        known = self._records.get(member)
        return self._bootstrap.get(member) if known is None else known[0].endpoint(known[1])

    def records(self, count: int) -> tuple[bytes, ...]:
        """The own record and others, for whoever asks."""
        own = self.identity.member
        members = sorted(self._raw, key=lambda member: (member != own, member))
        return tuple(self._raw[member] for member in members[:count])

    def records_to_tell(self) -> tuple[bytes, ...]:
        """The own record and some others, in turn."""
        others = [raw for member, raw in sorted(self._raw.items()) if member != self.identity.member]
        own = self._raw.get(self.identity.member)
        self._turn = (self._turn + RECORDS_TOLD_MAX) % max(1, len(others))
        chosen = (others[self._turn :] + others[: self._turn])[: RECORDS_TOLD_MAX - 1]
        return tuple(chosen) if own is None else (own, *chosen)
