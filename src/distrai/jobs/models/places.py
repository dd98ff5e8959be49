"""Any place for files that fsspec knows; S3, Google and Azure through obstore where fsspec alone cannot reach them."""

import contextlib
import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_THROUGH_OBSTORE = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_STREAMED = ("s3", "gs")
_BLOCK = 1 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_PASSWORD = re.compile(r"[a-z0-9+.-]+://[^/@]*:[^/]*@", re.IGNORECASE)


class StoreUnusable(ValueError):
    """The place for models cannot be reached, or cannot be used like this."""


class StoreFull(OSError):
    """There is no room for a model."""


@dataclass(frozen=True)
class Place:
    """A folder of this machine, or a URL (``s3://bucket/models``). Nothing is opened before it is used."""

    url: str

    def __post_init__(self) -> None:
        if _PASSWORD.match(self.url):
            raise StoreUnusable(
                "this address has a password in it: leave it out, and set it as the service says"
            )

    @property
    def fs(self) -> Any:
        """The file system. Raises StoreUnusable."""
        return self._opened[0]

    @property
    def root(self) -> str:
        """The path in it, without a slash at the end. Raises StoreUnusable."""
        return self._opened[1]

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Where something in it is."""
        return f"{self.root}/{name}"

    def folders(self, name: str) -> list[str]:
        """Names of the folders in a folder of it, sorted; none if there is no such folder."""
        path = self.path(name).rstrip("/")
        try:
            found = self.fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            str(item["name"]).rstrip("/").rpartition("/")[2] for item in found if item["type"] == "directory"
        )

    def reading(self, path: str) -> Any:
        """A file of it, to read from start to end."""
        protocol = self._protocol
        if protocol in _STREAMED and not _has_own(protocol):
            bucket, _, key = path.partition("/")
            return contextlib.closing(_Stream(f"{protocol}://{bucket}", key))
        return self.fs.open(path, "rb")

    @contextmanager
    def errors(self, size: int = 0) -> Iterator[None]:
        """Errors of the file system become one sentence; ``size`` bytes were to be written."""
        try:
            yield
        except StoreFull:
            raise
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise self.full(size) from None
            raise StoreUnusable(f"{self.url} cannot be used: {error.strerror or error}") from None
        except Exception as error:
            if not type(error).__module__.startswith("obstore"):
                raise
            raise StoreUnusable(f"{self.url} cannot be used: {str(error).splitlines()[0]}") from None

    def full(self, size: int) -> StoreFull:
        """There is no room for so many bytes."""
        need = f"the model needs {size / 1e6:,.1f} MB" if size else "it needs more"
        return StoreFull(
            f"no room is left in {self.url}: {need}; free some, or choose another place (--store)"
        )

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0].lower() if "://" in self.url else "file"

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        if "://" not in self.url:
            return url_to_fs("file:///")[0], str(
                Path(self.url).expanduser().absolute()
            )  # whatever signs it has
        try:
            if self._protocol in _THROUGH_OBSTORE and not _has_own(self._protocol):
                from obstore.fsspec import register

                register(self._protocol)
            system, path = url_to_fs(self.url)
        except (ValueError, ImportError, OSError) as error:
            raise StoreUnusable(f"{self.url} is no place for models: {error}") from None
        return system, str(path).rstrip("/")


def _has_own(protocol: str) -> bool:
    """Whether fsspec's own package for a protocol is installed."""
    return find_spec(_THROUGH_OBSTORE[protocol]) is not None


class _Stream:
    """An object of a bucket, read block by block in one request: not every server serves ranges as it should."""

    def __init__(self, bucket: str, key: str) -> None:
        from obstore import get
        from obstore.store import from_url

        self._blocks: Iterator[Any] = iter(get(from_url(bucket), key).stream(min_chunk_size=_BLOCK))
        self._rest = b""

    def read(self, size: int) -> bytes:
        """The next bytes, at most ``size``; none at the end."""
        if not self._rest:
            self._rest = bytes(next(self._blocks, b""))
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def close(self) -> None:
        """Ask for no more."""
        self._blocks = iter(())
