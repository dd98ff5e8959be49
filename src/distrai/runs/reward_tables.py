"""The tables behind the roots of rewards: looked for on this machine, then at the peers, and believed if they fit.

Whoever sends a table is nobody to trust: its bytes must have the name that the seats signed (``data_hash``), and its
leaves must make the root. With the second check a table that seats published falsely is found, too.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distrai.ledger.keys import NodeKey
from distrai.ledger.reader import LedgerReader
from distrai.network.http import HttpTransport
from distrai.network.interface import Endpoint, FetchFailed, Transport
from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.circle import Circle, History
from distrai.peer.feed import LedgerFeed
from distrai.peer.reach import is_private
from distrai.protocol.blobs import BlobRef
from distrai.protocol.errors import ProtocolError, WrongBlob
from distrai.protocol.money_events import EpochSettled
from distrai.protocol.primitives import Hash
from distrai.protocol.rewards import TABLE_BYTES_MAX, Earnings, decode_reward_table, rewards_root
from distrai.protocol.signatures import recover
from distrai.protocol.typed_data import Domain
from distrai.runs.folder import RunFolder

FETCH_S = 60.0


class NoTable(ValueError):
    """The table of an epoch is nowhere."""


class WrongTable(ValueError):
    """What the seats published as the table of an epoch is not what they signed."""


@dataclass(frozen=True)
class Tables:
    """Where to look for tables: stores of this machine in order, then ``holders``, into the first store."""

    stores: tuple[BlobStore, ...]
    transport: Transport | None = None
    holders: tuple[Endpoint, ...] = ()

    @classmethod
    def of_folder(cls, folder: RunFolder) -> "Tables":
        """The stores of all peers in a run's folder; another process may be at work in them."""
        homes = [*sorted(folder.path.glob("peers/peer-*")), *sorted(folder.path.glob("joined*"))]
        return cls(tuple(BlobStore(home / "blobs") for home in homes if (home / "blobs").is_dir()))

    def held(self, settled: EpochSettled, domain: Domain) -> Earnings:
        """What members earned until an epoch, by a table of this machine. Raises NoTable or WrongTable."""
        for store in self.stores:
            try:
                size = store.manifest(settled.data_hash)[0]
                if size > TABLE_BYTES_MAX:  # seats may name any blob, also one that fills the memory
                    raise WrongTable(
                        f"what the seats published as the table of epoch {settled.epoch} has {size} bytes, and no "
                        f"table is longer than {TABLE_BYTES_MAX}"
                    )
                data = store.read(BlobRef(settled.data_hash, size))
            except (MissingBlob, WrongBlob):  # another store may have what this one lost
                continue
            return check_table(data, settled, domain)
        raise NoTable(
            f"the table of epoch {settled.epoch} (blob {settled.data_hash.hex()[:12]}) is not on this machine"
        )

    async def earnings(self, settled: EpochSettled, domain: Domain) -> Earnings:
        """The same, from peers if it is not here. Raises NoTable or WrongTable."""
        try:
            return self.held(settled, domain)
        except NoTable as missing:
            if self.transport is None or not self.stores:
                raise
            try:
                data = await self._fetched(settled.data_hash, self.transport)
            except FetchFailed as error:
                raise NoTable(f"{missing}, and no peer gave it: {error}") from None
        return check_table(data, settled, domain)

    async def _fetched(self, name: Hash, transport: Transport) -> bytes:
        blob = await transport.resolve(name, self.holders, TABLE_BYTES_MAX, FETCH_S)
        await transport.fetch(blob, self.holders, FETCH_S, "data")
        return self.stores[0].read(blob)


def check_table(data: bytes, settled: EpochSettled, domain: Domain) -> Earnings:
    """What a table says, if it is the one that an epoch's root was made from. Raises WrongTable."""
    number = settled.epoch
    try:
        table = decode_reward_table(data)
    except ProtocolError as error:
        raise WrongTable(f"the table that the seats published for epoch {number} is none: {error}") from None
    if (table.run, table.epoch) != (settled.run, number):
        raise WrongTable(
            f"the table that the seats published for epoch {number} of run {settled.run} is of epoch {table.epoch} of "
            f"run {table.run}"
        )
    earnings = table.earnings
    if rewards_root(domain, settled.run, earnings.amounts) != settled.root:
        raise WrongTable(
            f"the table that the seats published for epoch {number} does not make its root 0x{settled.root.hex()}"
        )
    return earnings


@asynccontextmanager
async def reaching(
    tables: Tables, ledger: LedgerReader, url: str, run: int, into: Path
) -> AsyncIterator[Tables]:
    """The same tables, and those that the run's peers hold: whoever announced itself on the ledger, and whom they name.

    ``url`` is the ledger's address: peers in private networks are asked only where it is in one. What is fetched is
    kept in ``into/blobs``.
    """
    key, store = NodeKey.generate(), BlobStore(into / "blobs")
    transport = HttpTransport(
        store,
        host="127.0.0.1",
        port=0,
        address=key.address,
        sign=key.sign,
        recover=recover,
        local=is_private(url),
        rng=random.Random(),  # noqa: S311
    )
    try:
        history = History(await LedgerFeed(ledger, run).next())
        circle = Circle(transport, ledger.domain, run, key.address)
        circle.introduce(history.endpoints())
        await circle.ask(history.roster())
        holders = tuple(circle.endpoints.values())
        yield replace(tables, stores=(store, *tables.stores), transport=transport, holders=holders)
    finally:
        await transport.close()
