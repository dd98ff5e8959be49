"""The folder of a local run: what is where, and what a run is known by.

``DIR/run.json`` names the run, ``ledger/`` is the embedded chain, ``owner.json`` the opener's key,
``peers/peer-N/`` the homes (peer-0 is the archive), ``model/`` the exported model, ``summary.json`` what came of
it.
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
    """What ``run.json`` says."""

    link: str
    preset: str
    peers: int
    rounds: int
    recipe_hash: str
    name: str
    format: int = FORMAT


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
        return self.summary.exists() and bool(json.loads(self.summary.read_bytes()).get("finished"))

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
        if not folder.is_finished():
            return folder
        number += 1
