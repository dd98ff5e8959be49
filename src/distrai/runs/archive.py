"""What the archive of a run has published, opened to be read: recipe, certificates, lists, states."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from distrai.network.store import BlobStore, MissingBlob
from distrai.peer.records import GenesisRecord
from distrai.peer.store import PublicFolder
from distrai.protocol.blobs import BlobRef
from distrai.protocol.lists import CertifiedList
from distrai.protocol.primitives import Hash
from distrai.protocol.recipe import ResolvedRecipe


class NothingPublished(ValueError):
    """The archive does not have what is asked for (yet)."""


@dataclass(frozen=True)
class Archive:
    """The home of the peer that keeps everything."""

    home: Path

    @property
    def blobs(self) -> BlobStore:
        """Its blobs."""
        return BlobStore(self.home / "blobs")

    @property
    def public(self) -> PublicFolder:
        """Its certificates and lists."""
        return PublicFolder(self.home / "public")

    def genesis(self) -> GenesisRecord:
        """How the run began. Raises NothingPublished."""
        try:
            data = self.public.genesis_path.read_bytes()
            return msgspec.msgpack.decode(data, type=GenesisRecord)
        except FileNotFoundError:
            raise NothingPublished(f"{self.home} has not published how the run began: run it first") from None
        except msgspec.MsgspecError as error:
            raise NothingPublished(f"{self.public.genesis_path} is damaged: {error}") from None

    def recipe(self, name: Hash) -> ResolvedRecipe:
        """The resolved recipe with this hash. Raises NothingPublished."""
        return ResolvedRecipe.from_bytes(self.blob(name, "the recipe"))

    def blob(self, name: Hash, what: str) -> bytes:
        """The bytes of a blob that is known by its hash alone. Raises NothingPublished, WrongBlob."""
        blobs = self.blobs
        try:
            return blobs.read(BlobRef(name, blobs.manifest(name)[0]))
        except MissingBlob as error:
            raise NothingPublished(f"{what} is not in {self.home / 'blobs'}: {error}") from None

    def lists(self) -> Iterator[tuple[int, CertifiedList]]:
        """The certified lists by round, in order."""
        for path in sorted((self.public.path / "lists").glob("*.msgpack")):
            yield int(path.stem), msgspec.msgpack.decode(path.read_bytes(), type=CertifiedList)

    def roll_calls(self, through: int) -> int:
        """How many of the rounds up to this one a roll call ended."""
        return sum(int(path.stem) <= through for path in (self.public.path / "roll_calls").glob("*.msgpack"))

    def state(self, resolved: ResolvedRecipe) -> tuple[int, bytes]:
        """The newest state, and the last round that changed it (0 for the initial one)."""
        paths = sorted((self.home / "states").glob("*.bin"))
        if paths:
            return int(paths[-1].stem), paths[-1].read_bytes()
        return 0, self.initial_state(resolved)

    def initial_state(self, resolved: ResolvedRecipe) -> bytes:
        """The state before round 1. Raises NothingPublished."""
        return self.blob(resolved.initial_state.hash, "the initial state")
