"""Publishing a finished model on the Hugging Face Hub, and getting one from there, with its own client.

Pushing: private unless said otherwise, never into a public repository by mistake, one commit with all files or none,
no pickle, no secret, and afterwards every file is compared with what the hub says it has. Pulling: no
pickle, every file compared with the manifest before the model is in the store.
"""

import hashlib
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distrai import __version__
from distrai.jobs.estimates.counting import count_parameters
from distrai.jobs.hub.errors import BadRepository, HubFailed, hub_errors
from distrai.jobs.hub.token import HubToken, Scope, TokenMayNot, check_push, find_token, read_scope
from distrai.jobs.models.contents import check_contents
from distrai.jobs.models.manifest import MANIFEST, FileEntry
from distrai.jobs.models.store import ModelStore, Saved

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_LOOK_S = 5.0
_LEFT = "; {repo}, which was made for it, is there and empty: the next push goes into it"
_ENDPOINT = "https://huggingface.co"
_SAFE = re.compile(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)")


class RepositoryIsPublic(ValueError):
    """A model that should stay private would be pushed where everybody sees it."""


class UnsafeEndpoint(ValueError):
    """A hub is reached in a way that gives the token away."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed: every file is confirmed. ``others`` are files of the repository that are not the model's."""

    repo: str
    commit: str
    url: str
    private: bool
    others: tuple[str, ...]
    note: str


def check_repo(repo: str) -> None:
    """Raise BadRepository unless it is ``OWNER/NAME``."""
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".")):
        raise BadRepository(
            f"{repo[:100]!r} is no name of a repository: it is OWNER/NAME, as in alice/my-model"
        )


def open_api(token: HubToken | None, *, quiet: bool = True) -> "HfApi":
    """The hub's client, for $HF_ENDPOINT or the public hub; without a token it never takes one from elsewhere."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if quiet or not sys.stderr.isatty():
        disable_progress_bars()
    endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
    if token is not None and not _SAFE.match(endpoint):
        raise UnsafeEndpoint(
            f"a token is not sent to {endpoint}, which anyone on the way could read: use https://"
        )
    given = token.value if token else False  # None would look for one
    return HfApi(endpoint=endpoint, token=given, library_name="distrai", library_version=__version__)


def token_scope(token: HubToken, repo: str = "this repository") -> Scope:
    """What a token may do, from the hub. Raises BadToken, HubFailed, HubUnreachable."""
    api = open_api(token)
    with hub_errors(api.endpoint, repo, token.source):
        return read_scope(api.whoami())


def check_for_rented(token: HubToken, repo: str) -> None:
    """Before a token is sent to a rented machine. Raises TokenTooWide, TokenMayNot, BadToken, ..."""
    check_repo(repo)
    check_push(token_scope(token, repo), repo, rented=True)


def push_model(
    store: ModelStore,
    saved: Saved,
    repo: str,
    token: HubToken,
    *,
    public: bool,
    rented: bool,
    quiet: bool = True,
) -> Pushed:
    """Push a model to ``OWNER/NAME``, which is made if it is not there.

    Raises DamagedModel, PickleRefused, SecretRefused, BadRepository, RepositoryIsPublic, and what ``hub_errors`` and
    ``check_push`` raise. Whatever is raised, the store is as it was.
    """
    check_repo(repo)
    with store.opened(saved) as folder:
        names = [*saved.manifest.files, MANIFEST]
        check_contents(folder, names, token.value)
        api = open_api(token, quiet=quiet)
        with hub_errors(api.endpoint, repo, token.source):
            scope = read_scope(api.whoami())
            check_push(scope, repo, rented=rented)
            private, parent, made = _prepared(api, repo, public=public)
            with hub_errors(api.endpoint, repo, token.source, left=_LEFT.format(repo=repo) if made else ""):
                commit = _commit(api, folder, saved, repo, parent)
            others = _confirm(api, folder, saved, repo, commit)
    note = (
        "" if scope.is_only(repo) else f"the token {scope.told}: one that may only write to {repo} is safer"
    )
    return Pushed(repo, commit, f"{api.endpoint}/{repo}", private, others, note)


def _prepared(api: "HfApi", repo: str, *, public: bool) -> tuple[bool, str, bool]:
    """Make the repository if need be; whether it is private, its newest commit, and whether it was made now."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    made = False
    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError:
        made = True
        try:
            api.create_repo(repo, private=not public)
        except HfHubHTTPError as error:
            if error.response.status_code != 403:
                raise
            raise TokenMayNot(
                f"{repo} does not exist (or is hidden), and the token may not make it: make it in the browser, "
                f"{'public' if public else 'private'} and empty, or check the name"
            ) from None
        info = api.model_info(repo)
    if not info.private and not public:
        raise RepositoryIsPublic(
            f"{repo} is public, so everybody would see the model: say --public if they may, or make it private first"
        )
    return bool(info.private), str(info.sha), made


def _commit(api: "HfApi", folder: Path, saved: Saved, repo: str, parent: str) -> str:
    """One commit with every file: all of them or none. It must follow what was seen, so nobody's work is undone."""
    from huggingface_hub import CommitOperationAdd

    names = [*saved.manifest.files, MANIFEST]
    done = api.create_commit(
        repo,
        [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names],
        commit_message=f"{saved.name.split('/')[1]}, manifest {saved.manifest.hash[:16]}",
        parent_commit=parent,
    )
    return str(done.oid)


def _confirm(api: "HfApi", folder: Path, saved: Saved, repo: str, commit: str) -> tuple[str, ...]:
    """Compare what the hub has with the model; files that are not the model's. Raises HubFailed."""
    there = tree_of(api, repo, commit)
    for name, entry in saved.manifest.files.items():
        if not _is_same(there.get(name), folder / name, entry):
            raise HubFailed(
                f"{repo} does not have {name} as it was sent: push again; the model in the store is whole"
            )
    if MANIFEST not in there:
        raise HubFailed(f"{repo} does not have {MANIFEST}: push again; the model in the store is whole")
    return tuple(sorted(there.keys() - saved.manifest.files.keys() - {MANIFEST, ".gitattributes"}))


def tree_of(api: "HfApi", repo: str, commit: str) -> dict[str, Any]:
    """The files of a commit, by path."""
    listed = api.list_repo_tree(repo, recursive=True, revision=commit)
    return {item.path: item for item in listed if hasattr(item, "blob_id")}


def _is_same(item: Any, path: Path, entry: FileEntry) -> bool:
    if item is None or item.size != entry.size:
        return False
    if item.lfs is not None:
        return bool(item.lfs.sha256 == entry.sha256)
    digest = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)  # as git names small files
    digest.update(path.read_bytes())
    return bool(item.blob_id == digest.hexdigest())


def parameters_on_hub(repo: str) -> int:
    """How many parameters a model has by its name: counted in the cache, else as the hub says; 0 if neither tells."""
    from huggingface_hub import constants, snapshot_download

    with suppress(ValueError, OSError):
        check_repo(repo)
        with suppress(ValueError, OSError):
            return count_parameters(Path(snapshot_download(repo, local_files_only=True))) or _counted(repo)
        return 0 if constants.HF_HUB_OFFLINE else _counted(repo)
    return 0


def _counted(repo: str) -> int:
    token = find_token()
    api = open_api(token)
    with hub_errors(api.endpoint, repo, token.source if token else ""):
        told = api.model_info(repo, timeout=_LOOK_S).safetensors
    return int(told.total) if told is not None else 0
