"""A small hub on loopback that speaks the API of the Hugging Face Hub, so that its real clients can be tested offline.

Set ``HF_ENDPOINT`` to ``FakeHub.url`` before the client is imported (that is, in a new process), or give it to
``HfApi(endpoint=...)``. Repositories, commits, large files, private and public, tokens with roles and scopes are kept
in memory and checked as the real hub does; ``fail`` and ``damage`` make it misbehave.
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from helpers.fake_hub_api import routes

LARGE = (".safetensors", ".bin", ".gguf", ".pt", ".parquet", ".arrow")


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """As git names it; of a large file, what git has is a pointer."""
        text = self.content
        if self.large:
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(text)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()


@dataclass
class Repo:
    """A repository: its commits, oldest first, each a name and all files."""

    kind: str
    name: str
    private: bool
    commits: list[tuple[str, dict[str, Blob]]] = field(default_factory=list)

    def commit(self, files: dict[str, Blob]) -> str:
        told = "".join(f"{path}{blob.oid}" for path, blob in sorted(files.items()))
        name = hashlib.sha1(f"{self.name}{len(self.commits)}{told}".encode()).hexdigest()
        self.commits.append((name, files))
        return name

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, Blob]:
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, Blob]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass(frozen=True)
class Token:
    """A token: whose, and what it may do (``read``, ``write`` or ``fineGrained`` with what ``whoami`` shows of it)."""

    user: str
    role: str
    fine: dict[str, Any] = field(default_factory=dict)

    def may_write(self, repo: str) -> bool:
        if self.role == "write":
            return repo.split("/")[0] == self.user
        return any("repo.write" in scope["permissions"] for scope in self._scopes(repo))

    def may_read(self, repo: str) -> bool:
        if self.role in ("read", "write"):
            return repo.split("/")[0] == self.user
        return any("repo.content.read" in scope["permissions"] for scope in self._scopes(repo))

    def may_create(self, owner: str) -> bool:
        if self.role == "write":
            return owner == self.user
        scopes = [scope for scope in self.fine.get("scoped", []) if scope["entity"]["name"] == owner]
        return any("repo.write" in scope["permissions"] for scope in scopes)

    def _scopes(self, repo: str) -> list[dict[str, Any]]:
        return [s for s in self.fine.get("scoped", []) if s["entity"]["name"] in (repo, repo.split("/")[0])]


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    authorization: str


class FakeHub:
    """What the hub knows. Use it through ``fake_hub()``."""

    def __init__(self) -> None:
        self.url = ""
        self.tokens: dict[str, Token] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self._failures: list[tuple[str, str, int]] = []
        self.meanwhile: Callable[[], object] | None = None
        """Done once, before the next commit: what somebody else does at the same time."""

    def token(self, user: str, role: str = "write", *scopes: tuple[str, str, str]) -> str:
        """A new token; ``scopes`` of a fine-grained one: (type of entity, its name, permissions with commas)."""
        value = "hf_" + hashlib.sha256(f"{user}{role}{scopes}{len(self.tokens)}".encode()).hexdigest()[:34]
        scoped = [
            {"entity": {"_id": name, "type": kind, "name": name}, "permissions": permissions.split(",")}
            for kind, name, permissions in scopes
        ]
        fine = {"canReadGatedRepos": False, "global": [], "scoped": scoped} if role == "fineGrained" else {}
        self.tokens[value] = Token(user, role, fine)
        return value

    def one_repository(self, user: str, repo: str) -> str:
        """A token that may read and write one model, and nothing else."""
        return self.token(user, "fineGrained", ("model", repo, "repo.content.read,repo.write"))

    def create(self, name: str, kind: str = "model", *, private: bool = False) -> Repo:
        """A new repository, with the one file that the hub makes."""
        repo = Repo(kind, name, private)
        repo.commit(
            {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", large=False)}
        )
        self.repos[kind, name] = repo
        return repo

    def put(self, name: str, files: dict[str, bytes], kind: str = "model", *, private: bool = False) -> Repo:
        """Commit files without asking."""
        repo = self.repos.get((kind, name)) or self.create(name, kind, private=private)
        blobs = {path: Blob(content, path.endswith(LARGE)) for path, content in files.items()}
        self.large.update({blob.sha256: blob.content for blob in blobs.values() if blob.large})
        repo.commit({**repo.files, **blobs})
        return repo

    def fail(self, method: str, part: str, status: int) -> None:
        """Answer the next request of this method whose path has ``part`` in it with an error."""
        self._failures.append((method, part, status))

    def failure(self, method: str, path: str) -> int:
        for failure in self._failures:
            if failure[0] == method and failure[1] in path:
                self._failures.remove(failure)
                return failure[2]
        return 0

    def damage(self, name: str, path: str) -> None:
        """Change one bit of a file of the newest commit."""
        repo = self.repos["model", name]
        blob = repo.files[path]
        changed = Blob(bytes([blob.content[0] ^ 1]) + blob.content[1:], blob.large)
        self.large[changed.sha256] = changed.content
        repo.commit({**repo.files, path: changed})

    def leaked(self) -> list[str]:
        """Requests with a token where it does not belong: in a path, or sent to the store of large files."""
        return [
            f"{asked.method} {asked.path}"
            for asked in self.asked
            if any(token in asked.path for token in self.tokens)
            or (asked.path.startswith("/large/") and asked.authorization)
        ]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that answers on loopback, in a thread of its own."""
    hub = FakeHub()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    runners: list[web.AppRunner] = []

    async def start() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(routes(hub))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runners[0].cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
