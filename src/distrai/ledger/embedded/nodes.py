"""The state trie's nodes in the form in which py-evm wants its database."""

from collections.abc import Iterator
from contextlib import contextmanager

from eth.abc import AtomicWriteBatchAPI
from eth.db.backends.base import BaseAtomicDB

from distrai.ledger.embedded.store import ChainStore

_CACHED_NODES = 4096


class NodeDatabase(BaseAtomicDB):
    """Nodes and code by their hash, read through a small cache. Nothing is ever deleted: old states stay readable.

    Writing is only done inside ``ChainStore.commit``, which makes it atomic with the block that the nodes belong to.
    """

    def __init__(self, store: ChainStore) -> None:
        self._store = store
        self._cache: dict[bytes, bytes] = {}

    def forget(self) -> None:
        """Empty the cache: what it read during a commit that failed is not on disk."""
        self._cache.clear()

    def __getitem__(self, key: bytes) -> bytes:
        found = self._cache.get(key)
        if found is None:
            found = self._store.node(key)
            if found is None:
                raise KeyError(key)
            self._remember(key, found)
        return found

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._store.put_node(key, value)
        self._remember(key, value)

    def __delitem__(self, key: bytes) -> None:
        """Leave the node where it is: another state may refer to it."""

    def _remember(self, key: bytes, value: bytes) -> None:
        if len(self._cache) >= _CACHED_NODES:
            self._cache.clear()  # what is in use is back at once, and SQLite has a cache of its own
        self._cache[key] = value

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    @contextmanager
    def atomic_batch(self) -> Iterator[AtomicWriteBatchAPI]:
        """Write straight through: the store's commit is the batch."""
        yield self  # type: ignore[misc]
