"""Which packages the project has and holds others to, against what the header of a script asks for."""

from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import distrai
from distrai.jobs.forms.header import Header


def missing(header: Header) -> list[str]:
    """The dependencies of a header that the project's own environment does not satisfy."""
    return [text for text in header.dependencies if not _is_satisfied(Requirement(text), set())]


def _is_satisfied(wanted: Requirement, seen: set[str]) -> bool:
    """Whether an installed package is as wanted, with the packages of the extras that are asked for."""
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    if wanted.url is not None or str(wanted) in seen:
        return wanted.url is None
    try:
        found = metadata.distribution(wanted.name)
    except metadata.PackageNotFoundError:
        return False
    if not wanted.specifier.contains(found.version, prereleases=True):
        return False
    extras = [Requirement(text) for text in found.requires or () if wanted.extras]
    return all(
        _is_satisfied(Requirement(str(part).partition(";")[0]), seen | {str(wanted)})
        for part in extras
        for extra in wanted.extras
        if part.marker is not None
        and part.marker.evaluate({"extra": extra})
        and not part.marker.evaluate({"extra": ""})
    )


def constraints_for(header: Header) -> list[str]:
    """The versions to hold pip to; not of what the header itself asks for in another version."""
    if not header.constraints:
        return []
    asked = {canonicalize_name(item.name): item.specifier for item in map(Requirement, header.dependencies)}
    return [
        line
        for line, pinned in _constraints()
        if all(
            asked.get(canonicalize_name(pinned.name), SpecifierSet()).contains(item.version, prereleases=True)
            for item in pinned.specifier
        )
    ]


def _constraints() -> Iterator[tuple[str, Requirement]]:
    """The lines of the project's ``constraints.txt``; of a project that was installed, the versions beside it."""
    path = Path(distrai.__file__).resolve().parents[2] / "constraints.txt"
    if path.is_file():
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    else:
        lines = sorted(f"{item.metadata['Name']}=={item.version}" for item in metadata.distributions())
    for line in lines:
        with suppress(InvalidRequirement):
            if line:
                yield line, Requirement(line)
