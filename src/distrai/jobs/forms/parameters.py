"""The parameters of a template: what a value must be, and one clear sentence where it is not."""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

TYPES: Final = ("str", "int", "float", "bool", "path")
"""``path`` is a file or folder of this machine if there is one of that name, else a name (of a model on a hub)."""
TEXT_MAX = 64 << 10
_INT_MAX = 2**63 - 1
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class BadParameter(ValueError):
    """A value that a template does not take; the message names the parameter and says what to do."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"parameter {name}: {why}")
        self.name = name


class _Missing(Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""The default of a parameter that must be given."""


@dataclass(frozen=True)
class Parameter:
    """One field of the form. Bounds are part of what is allowed; ``choices`` empty: anything of the type."""

    type: str
    default: Any = MISSING
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] = field(default=())
    help: str = ""

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    def check(self, name: str, value: Any) -> Any:
        """The value as a script gets it. Raises BadParameter."""
        value = self._typed(name, value)
        if self.choices and value not in self.choices:
            raise BadParameter(
                name, f"{_shown(value)} is no choice; {_near_or_all(str(value), self.choices)}"
            )
        if self.min is not None and value < self.min:
            raise BadParameter(name, f"{_shown(value)} is too small; give at least {self.min:.15g}")
        if self.max is not None and value > self.max:
            raise BadParameter(name, f"{_shown(value)} is too large; give at most {self.max:.15g}")
        return value

    def parse(self, name: str, text: str) -> Any:
        """A value as it is typed. Raises BadParameter."""
        if self.type in {"str", "path"}:
            return self.check(name, text)
        if self.type == "bool":
            return self.check(name, _WORDS.get(text.strip().lower(), text))
        for kind in (int, float):
            try:
                return self.check(name, kind(text))
            except (ValueError, OverflowError) as error:
                if isinstance(error, BadParameter):
                    raise
        raise self._wrong(name, text)

    def _typed(self, name: str, value: Any) -> Any:
        if self.type == "bool":
            fits = isinstance(value, bool)
        elif self.type == "int":
            fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INT_MAX
        elif self.type == "float":
            fits = isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
        else:
            fits = isinstance(value, str) and len(value) <= TEXT_MAX and "\0" not in value
        if not fits:
            raise self._wrong(name, value)
        return float(value) if self.type == "float" else value

    def _wrong(self, name: str, value: Any) -> BadParameter:
        wanted = {"int": "a whole number", "float": "a finite number", "bool": "true or false"}
        return BadParameter(name, f"{_shown(value)} is not {wanted.get(self.type, 'a text')}")


def validate(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter with its value, in the order of the template. Raises BadParameter."""
    for name in values:
        known(parameters, name)
    complete = {}
    for name, parameter in parameters.items():
        value = values.get(name, parameter.default)
        if value is MISSING:
            raise BadParameter(
                name, f"this template needs it; give it with --set {name}={_example(parameter)}"
            )
        complete[name] = parameter.check(name, value)
    return complete


def known(parameters: Mapping[str, Parameter], name: str) -> Parameter:
    """The parameter of this name. Raises BadParameter."""
    if name in parameters:
        return parameters[name]
    raise BadParameter(name, f"this template has none of that name; {_near_or_all(name, list(parameters))}")


def parse_settings(parameters: Mapping[str, Parameter], settings: list[str]) -> dict[str, Any]:
    """Values from ``name=value`` texts; a later one wins. Raises BadParameter."""
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise BadParameter(setting, "write it as NAME=VALUE")
        values[name.strip()] = known(parameters, name.strip()).parse(name.strip(), text)
    return values


def locate(parameters: Mapping[str, Parameter], values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The same values; of type ``path``, what exists as seen from ``base`` becomes absolute."""
    found = dict(values)
    for name, value in values.items():
        if parameters[name].type == "path" and value and (path := base / Path(value).expanduser()).exists():
            found[name] = str(path.resolve())
    return found


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _example(parameter: Parameter) -> str:
    return str(parameter.choices[0]) if parameter.choices else parameter.type.upper()


def _near_or_all(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, [str(item) for item in names], n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(str(item) for item in names)}" if names else "it has no parameters"
