"""A finished model on the hub as part of its job, and what its training record is told of that."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distrai.protocol.primitives import Hash

if TYPE_CHECKING:
    from distrai.jobs.hub.push import Pushed
    from distrai.jobs.models.store import Saved


@dataclass(frozen=True)
class Publishing:
    """Where to push what a job makes, and with which token (never its text)."""

    repo: str
    public: bool = False
    token_file: Path | None = None

    def check(self) -> None:
        """Before anything is trained: the name, the token, and that it may push there.

        Raises BadRepository, TokenInArguments, NoToken, BadToken, TokenMayNot, TokenTooWide or HubUnreachable.
        """
        from distrai.jobs.hub.push import check_repo, token_scope
        from distrai.jobs.hub.token import check_push, is_rented, need_token, refuse_token

        refuse_token(self.repo)
        check_repo(self.repo)
        check_push(token_scope(need_token(self.token_file), self.repo), self.repo, rented=is_rented())

    def push(self, store: str, saved: "Saved") -> "Pushed":
        """Push a saved model. Raises as ``push_model``; the model stays in its store."""
        from distrai.jobs.hub.push import push_model
        from distrai.jobs.hub.token import is_rented, need_token
        from distrai.jobs.models.store import ModelStore

        return push_model(
            ModelStore.at(store),
            saved,
            self.repo,
            need_token(self.token_file),
            public=self.public,
            rented=is_rented(),
        )


def evidence_of(done: "Pushed") -> Hash:
    """What the stage PUBLISHED says: SHA-256 of ``URL@COMMIT``, which anyone who knows the repository can recompute."""
    return Hash(hashlib.sha256(f"{done.url}@{done.commit}".encode()).digest())
