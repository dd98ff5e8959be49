"""From plain tables (TOML, JSON) to frozen dataclasses: strict, and with an answer to every mistake.

The fields of a dataclass say what a table may hold; ``Annotated`` with a Range or a Length says what a value
may be. Nothing is coerced except a whole number where a decimal is wanted.
"""

import difflib
import functools
import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from distrai.protocol.errors import ProtocolError

T = TypeVar("T")

INTEGER_MAX = (1 << 53) - 1
"""The largest whole number that every JSON reader reads alike."""
DEPTH_MAX = 8
"""How deep free tables (a model's configuration, a codec's options) may nest."""
EXAMPLES: dict[object, tuple[str, str]] = {
    str: ("text", 'text in quotes, like "10" (in a shell with quotes around it all: \'key="10"\')'),
    int: ("a whole number", "a whole number, like 4"),
    float: ("a number", "a number, like 0.5"),
    bool: ("true or false", "true or false"),
}


class RecipeError(ProtocolError):
    """A recipe that cannot be run: which key, what is wrong with it, and what to write instead."""

    def __init__(self, path: str, problem: str, suggestion: str) -> None:
        super().__init__(f"{path}: {problem}; {suggestion}")
        self.path = path
        self.problem = problem
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number; an open end is itself not allowed."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def check(self, value: float, path: str) -> None:
        """Raises RecipeError where ``value`` is outside."""
        low = value > self.low or (value == self.low and not self.open_low)
        high = value < self.high or (value == self.high and not self.open_high)
        if not (low and high):
            lower = f"above {self.low}" if self.open_low else f"at least {self.low}"
            upper = f"below {self.high}" if self.open_high else f"at most {self.high}"
            raise RecipeError(path, f"{value} is impossible", f"use a number {lower} and {upper}")


@dataclass(frozen=True, slots=True)
class Length:
    """Bounds of the length of a text (characters) or of a list (items)."""

    low: int
    high: int

    def check(self, value: str | tuple[object, ...], path: str) -> None:
        """Raises RecipeError where ``value`` is too short or too long."""
        if self.low <= len(value) <= self.high:
            return
        unit = "characters" if isinstance(value, str) else "items"
        raise RecipeError(path, f"has {len(value)} {unit}", f"give it {self.low} to {self.high} {unit}")


def read(kind: Any, value: object, path: str) -> object:
    """``value`` as ``kind``: a dataclass, str, int, float, Literal, tuple, Mapping, or one of them annotated.

    An optional (``kind | None``) is read as ``kind``: None is for keys that are not there.
    Raises RecipeError with ``path`` or a path below it.
    """
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *rules = get_args(kind)
        result = read(inner, value, path)
        for rule in rules:
            rule.check(result, path)
        return result
    if origin in (types.UnionType, Union):
        return read(get_args(kind)[0], value, path)
    if origin is Literal:
        return _read_choice(get_args(kind), value, path)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, path)
    if is_dataclass(kind):
        return read_dataclass(cast(type[object], kind), value, path)
    return _read_free_table(value, path) if kind not in EXAMPLES else _read_scalar(kind, value, path)


def read_dataclass(kind: type[T], value: object, path: str) -> T:
    """A table as the dataclass ``kind``: no unknown key, no missing one."""
    table = _table(value, path)
    schema = _schema(cast(Any, kind))
    for key in table:
        if key not in schema:
            raise RecipeError(join(path, key), "unknown key", _did_you_mean(key, schema, path))
    required = [field.name for field in fields(cast(Any, kind)) if _is_required(field)]
    for key in required:
        if key not in table:
            nested = is_dataclass(schema[key])
            hint = f"add a [{join(path, key)}] table" if nested else f"add `{key} = ...`{_under(path)}"
            raise RecipeError(join(path, key), "missing", hint)
    return kind(**{key: read(schema[key], item, join(path, key)) for key, item in table.items()})


def join(path: str, key: str) -> str:
    """The path of ``key`` in the table at ``path``."""
    return f"{path}.{key}" if path else key


@functools.cache
def _schema(kind: type[object]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _under(path: str) -> str:
    return f" under [{path}]" if path else " at the top of the file"


def _table(value: object, path: str) -> dict[str, object]:
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    where = f"[{path}] with its keys below it" if path else "a recipe as a table of keys"
    raise RecipeError(path or "recipe", f"expected a table, got {_kind_name(value)}", f"write {where}")


def _kind_name(value: object) -> str:
    if isinstance(value, str | int | float):
        return f"{'true/false' if isinstance(value, bool) else EXAMPLES[type(value)][0]} ({value!r})"
    return {list: "a list", dict: "a table", type(None): "nothing"}.get(type(value), type(value).__name__)


def _did_you_mean(key: str, schema: Mapping[str, Any], path: str) -> str:
    tables = [name for name, kind in schema.items() if is_dataclass(kind) and key in _schema(cast(Any, kind))]
    if tables:
        return f"did you mean `{join(join(path, tables[0]), key)}`?"
    close = difflib.get_close_matches(key, list(schema), n=1)
    return f"did you mean `{join(path, close[0])}`?" if close else f"the keys here are {', '.join(schema)}"


def _read_choice(choices: tuple[str | int, ...], value: object, path: str) -> object:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    names = [json.dumps(choice) for choice in choices]
    close = difflib.get_close_matches(json.dumps(value), names, n=1) if isinstance(value, str) else []
    hint = f"did you mean {close[0]}?" if close else "use " + " or ".join(names)
    raise RecipeError(path, f"{_kind_name(value)} is not one of the choices", hint)


def _read_tuple(kinds: tuple[Any, ...], value: object, path: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise RecipeError(path, f"expected a list, got {_kind_name(value)}", "write it in brackets: [...]")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise RecipeError(path, f"has {len(value)} items", f"give it exactly {len(kinds)} items")
    return tuple(
        read(kind, item, f"{path}[{index}]")
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _read_scalar(kind: type[object], value: object, path: str) -> str | int | float:
    if kind is float and type(value) is int and abs(value) <= INTEGER_MAX:
        value = float(value)
    if type(value) is not kind:
        return _refuse_type(kind, value, path)
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise RecipeError(path, f"{value} is too large", f"use a whole number up to {INTEGER_MAX}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(path, f"{value} is no number to compute with", "use a finite number")
    return cast(str | int, value)


def _refuse_type(kind: type[object], value: object, path: str) -> str:
    wanted, example = EXAMPLES[kind]
    if isinstance(value, str) and kind is not str:
        example += ", without quotes"
    raise RecipeError(path, f"expected {wanted}, got {_kind_name(value)}", f"write {example}")


def _read_free_table(value: object, path: str, depth: int = 1) -> dict[str, object]:
    table = _table(value, path)
    return {key: _read_free(item, join(path, key), depth) for key, item in table.items()}


def _read_free(value: object, path: str, depth: int) -> object:
    if depth > DEPTH_MAX:
        raise RecipeError(path, "nested too deeply", f"use at most {DEPTH_MAX} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return _read_free_table(value, path, depth + 1)
    if isinstance(value, list | tuple):
        return [_read_free(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if type(value) not in EXAMPLES:
        raise RecipeError(
            path, f"{_kind_name(value)} cannot be written in a recipe", "use text, numbers, lists or tables"
        )
    return _read_scalar(type(value), value, path)
