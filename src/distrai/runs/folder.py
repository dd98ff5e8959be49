"""The folder of a local run: what is where, and what a run is known by.

``DIR/run.json`` names the run, ``ledger/`` is the embedded chain (not there if the run is on another one),
``deployment.json`` the contracts, ``owner.json`` the opener's key, ``peers/peer-N/`` the homes (peer-0 is the archive),
``index.sqlite`` what the ledger said of money, ``model/`` the exported model, ``summary.json`` what came of it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distrai.peer.link import Link, parse_link
from distrai.peer.store import write_atomically

FORMAT = 1


class NoRun(ValueError):
    """A folder holds no run, or one that this version cannot read."""


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` says.

    ``external``: the run is on a chain that was there before, and not on one of its own. ``wallet``: the keystore of
    who opened it, where that is not the folder's.
    """

    link: str
    preset: str
    peers: int
    rounds: int
    recipe_hash: str
    name: str
    format: int = FORMAT
    external: bool = False
    wallet: str = ""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder."""

    path: Path

    @property
    def ledger(self) -> Path:
        """The embedded chain's folder."""
        return self.path / "ledger"

    @property
    def owner_key(self) -> Path:
        """The keystore of who opened the run."""
        return self.path / "owner.json"

    @property
    def deployment(self) -> Path:
        """Which contracts the run uses, where it uses more than a registry."""
        return self.path / "deployment.json"

    @property
    def opening(self) -> Path:
        """Which run is just being opened: there from before the ledger is told until ``run.json`` is written."""
        return self.path / "opening.json"

    @property
    def index(self) -> Path:
        """The index of what the ledger said."""
        return self.path / "index.sqlite"

    @property
    def manifest(self) -> Path:
        """The names of the exported model's files."""
        return self.path / "model.json"

    @property
    def archive(self) -> Path:
        """The home of the peer that keeps everything."""
        return self.peer(0)

    def peer(self, number: int) -> Path:
        """The home of a peer."""
        return self.path / "peers" / f"peer-{number}"

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.path / "model"

    @property
    def summary(self) -> Path:
        """What came of the run."""
        return self.path / "summary.json"

    def exists(self) -> bool:
        """Whether a run was opened here."""
        return (self.path / "run.json").exists()

    def is_finished(self) -> bool:
        """Whether the run here has done all its rounds."""
        return bool(self.told().get("finished"))

    def is_settled(self) -> bool:
        """Whether nothing is left to do here: all rounds are done, and all that was earned is paid."""
        told = self.told()
        return bool(told.get("finished")) and bool((told.get("money") or {}).get("done", True))

    def told(self) -> dict[str, Any]:
        """The content of ``summary.json``; empty if there is none."""
        return dict(json.loads(self.summary.read_bytes())) if self.summary.exists() else {}

    def write(self, info: RunInfo) -> None:
        """Remember which run this is."""
        write_json(self.path / "run.json", asdict(info))

    def read(self) -> RunInfo:
        """Which run this is. Raises NoRun."""
        try:
            content = json.loads((self.path / "run.json").read_bytes())
            info = RunInfo(**content)
        except FileNotFoundError:
            raise NoRun(f"{self.path} holds no run: give the folder that `distrai run` printed") from None
        except (ValueError, TypeError) as error:
            raise NoRun(f"{self.path / 'run.json'} is damaged: {error}") from None
        if info.format != FORMAT:
            raise NoRun(
                f"{self.path} was made by another version of distrai (format {info.format}, not {FORMAT})"
            )
        return info

    def link(self) -> Link:
        """The run's link. Raises NoRun."""
        return parse_link(self.read().link)


def make_home(home: Path, user: int | None = None) -> None:
    """Make a peer's home, which only its owner may read; hand it over, with what is in it, to ``user`` where given."""
    home.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    if user is not None and home.stat().st_uid != user:
        # The home last: then a handing over that was interrupted is begun again.
        for path in (*home.rglob("*"), home):
            os.chown(path, user, user, follow_symlinks=False)


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file that people may read."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def free_folder(base: Path, name: str) -> RunFolder:
    """The folder for a run of this name: an unfinished one to go on with, or the first that is free."""
    number = 1
    while True:
        folder = RunFolder(base / (name if number == 1 else f"{name}-{number}"))
        if not folder.is_settled():
            return folder
        number += 1
