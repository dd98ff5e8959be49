"""Who may see and change what on a fake hub, and the errors that it answers with."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web

if TYPE_CHECKING:
    from helpers.fake_hub import FakeHub, Repo, Token

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KINDS = {"models": "model", "datasets": "dataset"}


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message

    def answer(self) -> web.Response:
        headers = {
            name: value
            for name, value in (("X-Error-Code", self.code), ("X-Error-Message", self.message))
            if value
        }
        return web.json_response({"error": self.message or self.code}, status=self.status, headers=headers)


class Access:
    """Looks at each request first: is it asked to fail, whose token is it, may that token do this."""

    def __init__(self, hub: "FakeHub") -> None:
        self.hub = hub

    def guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            from helpers.fake_hub import Asked

            asked = Asked(request.method, request.path_qs, request.headers.get("Authorization", ""))
            self.hub.asked.append(asked)
            if status := self.hub.failure(request.method, request.path):
                return Refused(status, message="as asked").answer()
            try:
                return await handler(request)
            except Refused as refused:
                return refused.answer()

        return answer

    def token(self, request: web.Request) -> "Token | None":
        said = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not said:
            return None
        if said not in self.hub.tokens:
            raise Refused(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens[said]

    def repo(self, request: web.Request, *, write: bool = False) -> "Repo":
        parts = request.match_info
        kind = KINDS.get(
            parts.get("kinds", ""), "dataset" if request.path.startswith("/datasets/") else "model"
        )
        name = f"{parts['owner']}/{parts['name']}"
        token, repo = self.token(request), self.hub.repos.get((kind, name))
        hidden = repo is None or (repo.private and not (token and token.may_read(name)))
        if repo is None or hidden:
            raise Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        if write and not (token and token.may_write(name)):
            raise Refused(403, message="This token may not write to this repository")
        return repo

    def files(self, request: web.Request) -> tuple[str, dict[str, Any]]:
        found = self.repo(request).at(unquote(request.match_info.get("revision", "main")))
        if found is None:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        return found
