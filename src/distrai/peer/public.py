"""What an archive publishes: how the run began, and what ended every round; and how files are written that may be read
at any time.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from distrai.peer.records import CertificateRecord, GenesisRecord, RollCallRecord
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Hash


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True)
class PublicFolder:
    """Certificates and lists by round: with the blobs, all that a replay reads."""

    path: Path

    @property
    def genesis_path(self) -> Path:
        """Where genesis and first seats are."""
        return self.path / "genesis.msgpack"

    def certificate_path(self, round_number: int) -> Path:
        """Where the certificate of a round is."""
        return self.path / "certificates" / f"{round_number:08d}.msgpack"

    def roll_call_path(self, round_number: int) -> Path:
        """Where the roll call that ended a round is, if one did."""
        return self.path / "roll_calls" / f"{round_number:08d}.msgpack"

    def list_path(self, round_number: int) -> Path:
        """Where the list of a round is."""
        return self.path / "lists" / f"{round_number:08d}.msgpack"

    def list_rounds(self) -> list[int]:
        """The rounds whose lists are here, in order."""
        return sorted(int(path.stem) for path in (self.path / "lists").glob("*.msgpack"))

    def read_list(self, round_number: int) -> CertifiedList:
        """The list of a round, as it was written here."""
        return msgspec.msgpack.decode(self.list_path(round_number).read_bytes(), type=CertifiedList)

    # Publishing

    def save_certificate(self, record: CertificateRecord) -> None:
        """Publish a certificate (an archive does). What a reorg has put it in the place of goes."""
        number = record.body.round
        write_atomically(self.certificate_path(number), msgspec.msgpack.encode(record))
        self.roll_call_path(number).unlink(missing_ok=True)

    def save_roll_call(self, record: RollCallRecord) -> None:
        """Publish a roll call in the place of a certificate."""
        write_atomically(self.roll_call_path(record.round), msgspec.msgpack.encode(record))
        self.certificate_path(record.round).unlink(missing_ok=True)

    def published_head(self, number: int) -> Hash | None:
        """The head that what is published of a round made; None if nothing is, or it is damaged."""
        certificate, roll_call = self.certificate_path(number), self.roll_call_path(number)
        with suppress(msgspec.DecodeError):
            if roll_call.exists():
                return msgspec.msgpack.decode(roll_call.read_bytes(), type=RollCallRecord).head
            if certificate.exists():
                return msgspec.msgpack.decode(certificate.read_bytes(), type=CertificateRecord).body.head
        return None

    def save_genesis(self, record: GenesisRecord) -> None:
        """Publish how the run began."""
        write_atomically(self.genesis_path, msgspec.msgpack.encode(record))

    def genesis(self) -> GenesisRecord:
        """What was published of how the run began."""
        return msgspec.msgpack.decode(self.genesis_path.read_bytes(), type=GenesisRecord)
