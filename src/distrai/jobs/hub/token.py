"""Tokens of the Hugging Face Hub: where they come from, what they may do, and where they may be.

A token is never an argument, is in no text that is printed or logged, and on a rented machine it is used only if it
can write to one repository and to nothing else: whoever owns that machine can read it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RENTED_VARIABLE = "DISTRAI_RENTED"
"""Set on rented machines by whoever sets them up."""
TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105  # the name of one
_TOKEN = re.compile(r"[!-~]{4,512}")
_LOOKS_LIKE_ONE = re.compile(r"(?:hf|api_org)_[A-Za-z0-9]{16,}")
_EVERYWHERE = "*"


class NoToken(ValueError):
    """Nothing gives a token."""


class BadToken(ValueError):
    """A token is none, or the hub does not know it."""


class TokenMayNot(ValueError):
    """A token does not allow what is asked."""


class TokenTooWide(ValueError):
    """A token may do more than a rented machine can be trusted with."""


class TokenInArguments(ValueError):
    """A token was given where every program of this machine can read it."""


@dataclass(frozen=True, repr=False)
class HubToken:
    """A token, and where it comes from. Its text is in no ``repr``."""

    value: str
    source: str

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.value):
            raise BadToken(
                f"what {self.source} gives is no token of a hub: make one in the settings of your account"
            )

    def __repr__(self) -> str:
        return f"HubToken(from {self.source})"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token may do: whose it is, and what it may write to (``*``, ``model:owner/name``, ``user:name``)."""

    user: str
    role: str
    writes: frozenset[str]

    def may_write(self, repo: str) -> bool:
        """Whether it may write to a model, as far as the hub says."""
        owner = repo.split("/")[0]
        allowed = {_EVERYWHERE, f"model:{repo}", f"user:{owner}", f"org:{owner}"}
        return bool({_plain(name) for name in allowed} & self.writes)

    def is_only(self, repo: str) -> bool:
        """Whether it can write to this model and to nothing else."""
        return self.writes == {_plain(f"model:{repo}")}

    @property
    def told(self) -> str:
        """In a few words."""
        if not self.writes:
            return "may only read"
        if _EVERYWHERE in self.writes:
            return "may write everywhere"
        return f"may write to {', '.join(sorted(self.writes))}"


def find_token(file: Path | None = None, environment: Mapping[str, str] | None = None) -> HubToken | None:
    """The token of a file, else of $HF_TOKEN, else of `hf auth login`; None if there is none. Raises BadToken."""
    environment = os.environ if environment is None else environment
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").split()
        except OSError as error:
            raise NoToken(f"{file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadToken(f"what {file} gives is no token of a hub: its first word must be one") from None
        return HubToken(lines[0] if lines else "", str(file))
    if value := environment.get(TOKEN_VARIABLE, "").strip():
        return HubToken(value, f"${TOKEN_VARIABLE}")
    from huggingface_hub import get_token

    kept = get_token()
    return HubToken(kept, "`hf auth login`") if kept else None


def need_token(file: Path | None = None) -> HubToken:
    """The token. Raises NoToken or BadToken."""
    if (token := find_token(file)) is None:
        raise NoToken(
            f"no token of the hub is given: set {TOKEN_VARIABLE}, name a file with --token-file, or say "
            "`hf auth login`; best is a fine-grained one that may write to this one repository"
        )
    return token


def refuse_token(*arguments: str) -> None:
    """Raise TokenInArguments if a token was typed as an argument; it is not repeated."""
    if any(_LOOKS_LIKE_ONE.search(argument) for argument in arguments):
        raise TokenInArguments(
            "this looks like a token, and arguments can be read by others and stay in the shell's history: "
            f"replace that token, and give the new one in {TOKEN_VARIABLE} or with --token-file"
        )


def is_rented(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this machine is a rented one."""
    return (os.environ if environment is None else environment).get(RENTED_VARIABLE, "") not in ("", "0")


def read_scope(whoami: Mapping[str, Any]) -> Scope:
    """What a token may do, from what ``whoami`` says. What is not understood counts as leave to write everywhere."""
    user = str(whoami.get("name", ""))
    access = _dict(_dict(whoami.get("auth")).get("accessToken"))
    role = str(access.get("role", "unknown"))
    if role == "read":
        return Scope(user, role, frozenset())
    fine = access.get("fineGrained")
    if role != "fineGrained" or not isinstance(fine, dict):
        return Scope(user, role, frozenset({_EVERYWHERE}))
    writes = {f"everywhere ({name})" for name in fine.get("global") or () if not _only_reads(name)}
    for scope in fine.get("scoped") or ():
        entity = _dict(_dict(scope).get("entity"))
        if not all(map(_only_reads, _dict(scope).get("permissions") or ("",))):
            writes.add(_plain(f"{entity.get('type', 'unknown')}:{entity.get('name', '')}"))
    return Scope(user, "fine-grained", frozenset(writes))


def check_push(scope: Scope, repo: str, *, rented: bool) -> None:
    """Raise TokenMayNot or TokenTooWide unless this token may be used to push to ``repo`` from here."""
    if not scope.may_write(repo):
        raise TokenMayNot(
            f"the token of {scope.user} {scope.told}, and not write to {repo}: check the name, or make a token that may"
        )
    check_presence(scope, repo, rented=rented)


def check_presence(scope: Scope, repo: str, *, rented: bool) -> None:
    """Raise TokenTooWide if this machine is rented and the token may write to more than ``repo``."""
    if rented and scope.writes and not scope.is_only(repo):
        raise TokenTooWide(
            f"the token of {scope.user} {scope.told}, and this machine is rented: whoever owns it could use the token. "
            f"Replace it by one that may write to nothing but {repo}, or do this on your own machine"
        )


def _only_reads(permission: object) -> bool:
    return isinstance(permission, str) and permission.endswith(".read")


def _plain(name: str) -> str:
    return name.casefold()


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
