"""What a hub or the way to it does, each as one sentence that says what to do and never has a token in it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from distrai.jobs.hub.token import BadToken, TokenMayNot
from distrai.jobs.models.places import StoreFull


class BadRepository(ValueError):
    """What is given is no name of a repository."""


class NoRepository(ValueError):
    """The hub has no such repository, or does not show it to this token."""


class RepositoryChanged(ValueError):
    """Somebody else wrote to a repository at the same time."""


class HubFailed(OSError):
    """The hub answered with an error that is its own."""


class HubUnreachable(OSError):
    """The hub does not answer."""


_TRANSPORT = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}


@contextmanager
def hub_errors(endpoint: str, repo: str, source: str, left: str = "") -> Iterator[None]:
    """Errors of the hub's client become ours; ``source`` is where the token comes from.

    ``left`` says at the end of the sentence what is on the hub now all the same.
    """
    try:
        yield
    except Exception as error:
        ours = _ours(error, endpoint, repo, source)
        if ours is error:
            raise
        if left and not isinstance(ours, RepositoryChanged):  # then it is not as we left it
            ours = type(ours)(f"{ours}{left}")
        raise ours from None


def _ours(error: Exception, endpoint: str, repo: str, source: str) -> Exception:
    from huggingface_hub import errors as hub

    for cause in _causes(error):
        if type(cause).__module__.startswith("distrai."):
            return cause
        if isinstance(cause, hub.RepositoryNotFoundError | hub.RevisionNotFoundError):
            what = "revision" if isinstance(cause, hub.RevisionNotFoundError) else "repository"
            return NoRepository(
                f"{endpoint} has no such {what} of {repo}, or does not show it {_shown_to(source)}: check the name"
            )
        if isinstance(cause, hub.HFValidationError):
            return BadRepository(f"{repo[:100]!r} is no name of a repository: it is OWNER/NAME")
        if isinstance(cause, hub.HfHubHTTPError) and cause.response is not None:
            return _of_status(cause.response.status_code, endpoint, repo, source)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreFull("no room is left on this disk: free some, or choose another place (--store)")
        if (
            type(cause) is ConnectionError
        ):  # all that the client of its storage says, which is at another address
            return HubUnreachable(
                f"the storage of {endpoint} does not answer, though it does itself: check the network, or set "
                "HF_HUB_DISABLE_XET=1 to send files without it"
            )
        if type(cause).__module__.split(".")[0] in _TRANSPORT or isinstance(cause, ConnectionError):
            return HubUnreachable(
                f"{endpoint} does not answer ({type(cause).__name__}): check the network, and try again"
            )
    if isinstance(error, RuntimeError):
        return HubFailed(f"{endpoint} and its client did not understand each other at {repo}: {error}")
    return error


def _shown_to(source: str) -> str:
    return f"to the token of {source}" if source else "without a token"


def _of_status(status: int, endpoint: str, repo: str, source: str) -> Exception:
    if status == 401 and not source:
        return BadToken(
            f"{endpoint} wants a token for {repo}: set HF_TOKEN, or name a file with --token-file"
        )
    if status == 401:
        return BadToken(
            f"{endpoint} does not know the token of {source}: make a new one in the settings of your account"
        )
    if status == 403:
        return TokenMayNot(
            f"{f'the token of {source}' if source else 'whoever has no token'} may not do this in {repo}: "
            "check the name, or make a token that may"
        )
    if status == 412:
        return RepositoryChanged(
            f"somebody else wrote to {repo} at the same time: look at it, and push again"
        )
    if status == 413:
        return HubFailed(f"{endpoint} refuses {repo} as too large: a file or the account is above its limit")
    if status == 429:
        return HubFailed(f"{endpoint} was asked too often: try again in some minutes")
    return HubFailed(f"{endpoint} failed with status {status} at {repo}: nothing is lost, try again later")


def _causes(error: BaseException) -> Iterator[Exception]:
    seen: set[int] = set()
    following: BaseException | None = error
    while isinstance(following, Exception) and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
