"""Check the licences of everything that an installed DisTrAI brings along.

Policy: what users get with ``pip install distrai[jobs]`` may be used, changed and sold together with it. Permissive
licences are allowed. MPL-2.0 is copyleft for its own files only; it is allowed for the packages named below,
which we use unchanged. Everything else (GPL, LGPL, AGPL, unknown) is refused until a person has read it and
changed this file. Tools of developers (the ``dev`` extra) are not shipped and not looked at.

Run: ``python tools/check_licences.py`` in the environment to check.
"""

import re
import sys
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
}
FILE_LEVEL = {"MPL-2.0": {"certifi", "tqdm"}}
"""Licence -> packages that may have it."""
SPELLINGS = {
    "apache": "Apache-2.0",  # of accelerate and peft, whose files of the licence are those of 2.0
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd, public domain": "BSD-2-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What authors wrote before there were SPDX expressions."""
ROOT = "distrai[jobs]"


def is_allowed(expression: str, package: str) -> bool:
    """Whether an SPDX expression leaves us a licence of the policy: every part of AND, one part of OR."""
    text = expression.strip()
    while text.startswith("(") and _closes_at_end(text):
        text = text[1:-1].strip()
    for word, combine in (("OR", any), ("AND", all)):
        parts = _split(text, word)
        if len(parts) > 1:
            return combine(is_allowed(part, package) for part in parts)
    licence = SPELLINGS.get(text.lower(), text)
    return licence in ALLOWED or package in FILE_LEVEL.get(licence, set())


def licence_of(package: metadata.Distribution) -> str:
    """The licence that a package states: an expression, its free text if short, or its classifiers."""
    fields = package.metadata
    text = fields.get("License-Expression") or fields.get("License") or ""
    if text.strip() and "\n" not in text.strip():
        return text.strip()
    classifiers = (line.split(" :: ") for line in fields.get_all("Classifier") or [])
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 2]
    return " AND ".join(SPELLINGS.get(name.lower(), name) for name in named) or "unknown"


def shipped(root: str) -> list[metadata.Distribution]:
    """The packages that installing ``root`` brings (with its extras), by name, without ``root``."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        found[name] = metadata.distribution(wanted.name)
        waiting += _needed(found[name].requires or [], wanted.extras)
    return [found[name] for name in sorted(found) if name != canonicalize_name(Requirement(root).name)]


def main() -> int:
    """Exit code 1 and the names where a licence is outside of the policy."""
    packages = shipped(ROOT)
    stated = [(canonicalize_name(package.metadata["Name"]), licence_of(package)) for package in packages]
    refused = [(name, licence) for name, licence in stated if not is_allowed(licence, name)]
    for name, licence in refused:
        print(f"{name}: licence {licence!r} is not in the policy of tools/check_licences.py", file=sys.stderr)
    print(f"{len(stated) - len(refused)} of {len(stated)} shipped packages have a licence of the policy")
    return 1 if refused else 0


def _needed(requires: Iterable[str], extras: set[str]) -> list[Requirement]:
    parsed = [Requirement(line) for line in requires]
    environments = [{"extra": extra} for extra in {"", *extras}]
    return [item for item in parsed if item.marker is None or any(map(item.marker.evaluate, environments))]


def _split(text: str, word: str) -> list[str]:
    """Split at ``word`` outside of parentheses."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"\(|\)|\b{word}\b", text):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if match[0] == word and depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def _closes_at_end(text: str) -> bool:
    depth = 0
    for index, sign in enumerate(text):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth == 0:
            return index == len(text) - 1
    return False


if __name__ == "__main__":
    sys.exit(main())
