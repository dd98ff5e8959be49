"""Templates: those that are shipped, the user's own copies with all their versions, and any file with a header.

A version is known by the SHA-256 of its text. What a stranger wrote runs only once its text was accepted.
"""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from distrai.jobs.files import user_folder, write_json
from distrai.jobs.forms.header import Header, NoHeader, read_header, script_bytes, script_hash
from distrai.network.files import write_whole

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
VERSIONS_SHOWN_MAX = 20


class NoTemplate(ValueError):
    """There is no template of this name; the message says which there are."""


class TemplateExists(ValueError):
    """There is a template of this name already."""


class NotAccepted(ValueError):
    """A script that nobody accepted yet is not run; the message says how to look at it and accept it."""


@dataclass(frozen=True)
class Template:
    """A script as it is now. ``path``: its file, None for a shipped one; ``origin``: the shipped one that it was."""

    name: str
    data: bytes
    path: Path | None = None
    origin: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of the text."""
        return script_hash(self.data)

    @property
    def is_shipped(self) -> bool:
        """Whether it came with DisTrAI as it is."""
        return self.path is None

    def header(self) -> Header:
        """What the script says of itself; nothing of it is executed. Raises BadHeader."""
        return read_header(self.data, self.name)


@dataclass(frozen=True)
class Library:
    """The templates of this user."""

    folder: Path = field(default_factory=lambda: user_folder() / "templates")

    def find(self, what: str) -> Template:
        """A template by its name (the user's own first), or a script by its path. Raises NoTemplate or BadHeader."""
        if "/" in what or what.endswith(".py"):
            return Template(Path(what).stem, script_bytes(Path(what)), Path(what).absolute())
        own = self.path(what) if _NAME.fullmatch(what) else None
        if own is not None and own.exists():
            return Template(what, script_bytes(own), own, self._origin(what))
        for template in shipped():
            if template.name == what:
                return template
        names = [template.name for template in self.all()]
        near = difflib.get_close_matches(what, names, n=1)
        hint = (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}; or name a file"
        )
        raise NoTemplate(f"there is no template {what!r}; {hint}")

    def all(self) -> list[Template]:
        """The user's own templates and the shipped ones that are not hidden by one of the same name."""
        own = {path.stem for path in self.folder.glob("*.py") if _NAME.fullmatch(path.stem)}
        mine = [
            Template(name, script_bytes(self.path(name)), self.path(name), self._origin(name)) for name in own
        ]
        return sorted(
            [*mine, *(item for item in shipped() if item.name not in own)], key=lambda item: item.name
        )

    def new(self, name: str, source: str) -> Template:
        """Make a copy of a template to change. Raises TemplateExists, NoTemplate or BadHeader."""
        if not _NAME.fullmatch(name):
            raise NoTemplate(f"{name!r} is no name of a template: use small letters, digits, - and _")
        if self.path(name).exists():
            raise TemplateExists(
                f"there is a template {name} already: change it with `distrai jobs edit {name}`"
            )
        template = self.find(source)
        template.header()
        self._versions(name).mkdir(parents=True, exist_ok=True)
        write_json(self._versions(name) / "origin.json", {"origin": template.origin or template.name})
        self._keep(name, template.data)
        write_whole(self.path(name), [template.data])
        if template.is_shipped or self.is_accepted(template):
            self.accept(self.find(name))
        return self.find(name)

    def save(self, name: str) -> Template:
        """Take the file of an own template as a new version, which its owner accepts. Raises BadHeader."""
        template = self.find(name)
        template.header()
        self._keep(name, template.data)
        self.accept(template)
        return template

    def path(self, name: str) -> Path:
        """The file of an own template."""
        return self.folder / f"{name}.py"

    def versions(self, name: str) -> list[str]:
        """The hashes of the versions of an own template, the oldest first."""
        paths = [path for path in self._versions(name).glob("*.py") if _HASH.fullmatch(path.stem)]
        return [path.stem for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]

    def version(self, name: str, hash_: str) -> bytes:
        """The text of a version. Raises NoTemplate."""
        near = [known for known in self.versions(name) if hash_ and known.startswith(hash_)]
        if len(near) != 1:
            raise NoTemplate(
                f"there is no one version {hash_!r} of {name}: `distrai jobs show {name}` lists them"
            )
        return (self._versions(name) / f"{near[0]}.py").read_bytes()

    def diff(self, template: Template, against: str = "") -> str:
        """What was changed since the original (or a version, by its hash); the whole text if there is none."""
        if against:
            before, label = self.version(template.name, against), template.name
        else:
            originals = [item for item in shipped() if item.name == (template.origin or template.name)]
            before, label = (originals[0].data, originals[0].name) if originals else (b"", "nothing")
        old, new = (
            data.decode(errors="replace").splitlines(keepends=True) for data in (before, template.data)
        )
        names = (f"{label} {script_hash(before)[:12]}", f"{template.name} {template.hash[:12]}")
        return "".join(_ended(line) for line in difflib.unified_diff(old, new, *names))

    def is_accepted(self, template: Template) -> bool:
        """Whether the user may run this text without being asked."""
        return template.is_shipped or template.hash in self._accepted() or template.hash in _shipped_hashes()

    def accept(self, template: Template) -> None:
        """Remember that the user wants to run this text."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._accepted_path, sorted(self._accepted() | {template.hash}))

    def check_accepted(self, template: Template, accepted: str) -> None:
        """Accept a text whose hash the user names; raise NotAccepted for another than that, or one not accepted."""
        if not accepted and self.is_accepted(template):
            return
        if accepted and template.hash == accepted.lower().removeprefix("0x"):
            self.accept(template)
            return
        named = (
            f"{template.name} now has SHA-256 {template.hash}, and not {accepted[:70]}" if accepted else ""
        )
        raise NotAccepted(
            f"{named or f'{template.name} is a script that you did not accept yet'}: it would run as you, and may do "
            f"what you may. Look at it with `distrai jobs check {template.path} --diff`, then run it with "
            f"--accept {template.hash}"
        )

    def _keep(self, name: str, data: bytes) -> None:
        path = self._versions(name) / f"{script_hash(data)}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_whole(path, [data])

    def _versions(self, name: str) -> Path:
        return self.folder / "versions" / name

    def _origin(self, name: str) -> str:
        try:
            return str(json.loads((self._versions(name) / "origin.json").read_bytes())["origin"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def _accepted_path(self) -> Path:
        return self.folder / "accepted.json"

    def _accepted(self) -> set[str]:
        try:
            return {str(item) for item in json.loads(self._accepted_path.read_bytes())}
        except (OSError, ValueError, TypeError):
            return set()


def shipped() -> Iterator[Template]:
    """The templates that come with DisTrAI."""
    folder = resources.files("distrai.jobs") / "templates"
    for file in sorted(folder.iterdir(), key=lambda item: item.name) if folder.is_dir() else ():
        if file.name.endswith(".py") and not file.name.startswith("_"):
            yield Template(file.name.removesuffix(".py").replace("_", "-"), file.read_bytes())


def title_of(template: Template) -> str:
    """The title for a list, or what is wrong with the header."""
    try:
        return template.header().title
    except NoHeader:
        return "(no header)"
    except ValueError as error:
        return f"({error})"


def _shipped_hashes() -> set[str]:
    return {template.hash for template in shipped()}


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
