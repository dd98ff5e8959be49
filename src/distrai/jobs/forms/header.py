"""The header of a template: a PEP 723 block of TOML in comments, read as text. Nothing of the file is executed.

# /// script
# requires-python = ">=3.11"
# dependencies = ["transformers>=5.4,<6"]
# [tool.distrai]
# title = "Supervised fine-tuning"
# kind = "sft"
# [tool.distrai.parameters]
# learning_rate = {type = "float", default = 2e-4, min = 0, max = 1, help = "peak of the schedule"}
# [tool.distrai.presets.smoke]
# max_steps = 15
# ///
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from distrai.jobs.forms.parameters import MISSING, TYPES, BadParameter, Parameter, validate

SCRIPT_BYTES_MAX = 1 << 20
ITEMS_MAX = 100
_BEGIN, _END = "# /// script", "# ///"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PRESET = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_OWN = {"title", "kind", "constraints", "parameters", "presets"}
_FIELDS = {"type", "default", "min", "max", "choices", "help"}


class BadHeader(ValueError):
    """A template whose header cannot be used; the message says where and what to do."""


class NoHeader(BadHeader):
    """A script without a header: it can be run by its command, but has no form."""


@dataclass(frozen=True)
class Header:
    """What a template says of itself. ``constraints``: whether packages are held to the versions of the project."""

    requires_python: str
    dependencies: tuple[str, ...]
    parameters: dict[str, Parameter]
    title: str
    kind: str
    presets: dict[str, dict[str, Any]]
    constraints: bool = True

    @property
    def environment_hash(self) -> str:
        """SHA-256 over what the environment of the script depends on."""
        what = [self.requires_python, sorted(self.dependencies), self.constraints]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def values(self, preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Complete values: defaults, then those of the preset (if named), then those given. Raises BadParameter."""
        if preset and preset not in self.presets:
            raise BadParameter(
                "--preset", f"{preset!r} is none of this template; {_hint(preset, self.presets)}"
            )
        return validate(self.parameters, {**self.presets.get(preset, {}), **given})


def script_bytes(path: Path) -> bytes:
    """The bytes of a script, if it is a small text file. Raises BadHeader."""
    if not path.is_file():
        raise BadHeader(f"there is no file {path}")
    with path.open("rb") as file:
        data = file.read(SCRIPT_BYTES_MAX + 1)
    if len(data) > SCRIPT_BYTES_MAX:
        raise BadHeader(f"{path} is larger than {SCRIPT_BYTES_MAX} bytes: that is no training script")
    return data


def script_hash(data: bytes) -> str:
    """What a version of a script is known by: SHA-256."""
    return hashlib.sha256(data).hexdigest()


def read_header(data: bytes, name: str = "this script") -> Header:
    """The header in the text of a script. Raises BadHeader, or NoHeader if there is none."""
    try:
        block = _block(data.decode(), name)
    except UnicodeDecodeError:
        raise BadHeader(f"{name} is no text in UTF-8") from None
    try:
        table = tomllib.loads(block)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadHeader(f"the header of {name} is no TOML: {error}") from None
    try:
        return _header(table)
    except (BadParameter, BadHeader) as error:
        raise BadHeader(f"the header of {name}: {error}") from None


def _block(text: str, name: str) -> str:
    blocks = _blocks(text.replace("\r\n", "\n").split("\n"))
    if not blocks:
        raise NoHeader(
            f"{name} has no header: write its parameters between `# /// script` and `# ///` "
            "(`distrai jobs new blank` makes one), or run it with --command"
        )
    if len(blocks) > 1:
        raise BadHeader(f"{name} has {len(blocks)} headers: leave one `# /// script` block")
    return "".join(f"{line[2:]}\n" for line in blocks[0])


def _blocks(lines: list[str]) -> list[list[str]]:
    """The comment lines between ``# /// script`` and the last ``# ///`` that follows without a gap, of each block."""
    blocks, begun = [], None
    for number, line in enumerate([*lines, ""]):
        if begun is None:
            begun = number + 1 if line == _BEGIN else None
        elif line != "#" and not line.startswith("# "):
            ends = [at for at in range(begun, number) if lines[at] == _END]
            if ends:
                blocks.append(lines[begun : ends[-1]])
            begun = None
    return blocks


def _header(table: dict[str, Any]) -> Header:
    _only(table, {"requires-python", "dependencies", "tool"}, "")
    own = _table(_table(table.get("tool", {}), "tool").get("distrai", {}), "tool.distrai")
    direct = {key: value for key, value in own.items() if key not in _OWN and _is_parameter(value)}
    _only({key: 0 for key in own if key not in direct}, _OWN, "tool.distrai.")
    stated = {**_table(own.get("parameters", {}), "tool.distrai.parameters"), **direct}
    parameters = {name: _parameter(name, value) for name, value in _few(stated, "parameters").items()}
    constraints = own.get("constraints", True)
    if not isinstance(constraints, bool):
        raise BadHeader("tool.distrai.constraints is true or false")
    return Header(
        requires_python=_python(_text(table.get("requires-python", ""), "requires-python")),
        dependencies=_dependencies(table.get("dependencies", [])),
        parameters=parameters,
        title=_text(own.get("title", ""), "tool.distrai.title"),
        kind=_text(own.get("kind", ""), "tool.distrai.kind"),
        presets=_presets(_table(own.get("presets", {}), "tool.distrai.presets"), parameters),
        constraints=constraints,
    )


def _parameter(name: str, stated: Any) -> Parameter:
    if not _NAME.fullmatch(name):
        raise BadHeader(f"{name[:70]!r} is no name of a parameter: use small letters, digits and _")
    table = _table(stated, f"parameter {name}")
    _only(table, _FIELDS, f"parameter {name}: ")
    kind = table.get("type")
    if kind not in TYPES:
        raise BadHeader(f"parameter {name}: its type is one of {', '.join(TYPES)}, not {kind!r}")
    bounds = {key: _bound(name, kind, key, table[key]) for key in ("min", "max") if key in table}
    plain = Parameter(kind, help=_text(table.get("help", ""), f"parameter {name}: help"))
    choices = table.get("choices", [])
    if not isinstance(choices, list) or len(choices) > ITEMS_MAX or ("choices" in table and not choices):
        raise BadHeader(f"parameter {name}: choices is a list of 1 to {ITEMS_MAX} values")
    checked = tuple(plain.check(name, choice) for choice in choices)
    made = Parameter(kind, MISSING, bounds.get("min"), bounds.get("max"), checked, plain.help)
    if "default" not in table:
        return made
    default = made.check(name, table["default"])
    return Parameter(kind, default, made.min, made.max, checked, made.help)


def _bound(name: str, kind: str, key: str, value: Any) -> float:
    if kind not in {"int", "float"}:
        raise BadHeader(f"parameter {name}: {key} is for numbers, not for {kind}")
    bound = Parameter("float").check(f"{name}.{key}", value)
    return int(value) if kind == "int" and isinstance(value, int) else float(bound)


def _presets(stated: dict[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, dict[str, Any]]:
    presets: dict[str, dict[str, Any]] = {}
    for name, values in _few(stated, "presets").items():
        if not _PRESET.fullmatch(name):
            raise BadHeader(f"{name[:70]!r} is no name of a preset: use small letters, digits, - and _")
        table = _table(values, f"preset {name}")
        for key in table:
            if key not in parameters:
                raise BadHeader(f"preset {name}: there is no parameter {key}; {_hint(key, parameters)}")
        presets[name] = {
            key: parameters[key].check(f"{key} of preset {name}", value) for key, value in table.items()
        }
    return presets


def _dependencies(stated: Any) -> tuple[str, ...]:
    if not isinstance(stated, list) or len(stated) > ITEMS_MAX:
        raise BadHeader(f"dependencies is a list of at most {ITEMS_MAX} texts")
    for text in stated:
        try:
            Requirement(_text(text, "a dependency"))
        except InvalidRequirement as error:
            raise BadHeader(f"the dependency {text!r} cannot be read: {str(error).splitlines()[0]}") from None
    return tuple(stated)


def _python(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise BadHeader(f'requires-python = "{text}" cannot be read: write it like ">=3.11"') from None
    return text


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > 1000 or not value.replace("\n", " ").isprintable():
        raise BadHeader(f"{what} is a printable text of at most 1000 characters")
    return value


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadHeader(f"{what} is a table, like {{type = 'int', default = 3}}")
    return value


def _few(table: dict[str, Any], what: str) -> dict[str, Any]:
    if len(table) > ITEMS_MAX:
        raise BadHeader(f"{len(table)} {what} are more than {ITEMS_MAX}")
    return table


def _is_parameter(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value


def _only(table: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise BadHeader(f"{where}{key} means nothing here; {_hint(key, allowed)}")


def _hint(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names)) or 'none'}"
