"""JSON that others wrote, without trusting how deep it is nested.

The parser of the standard library recurses in C. What stops it is Python's recursion limit, and libraries that raise
that limit (py-evm does) turn a line of brackets into a crash of the process. So the depth is looked at first.
"""

import json
import re
from typing import Any

DEPTH_MAX = 64
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""Strings, to step over them (to the end if one does not end), and brackets."""


class TooDeep(ValueError):
    """JSON is nested deeper than anything of use."""


def check_depth(content: bytes) -> None:
    """Raise TooDeep if arrays and objects are nested deeper than ``DEPTH_MAX``."""
    if content.count(b"[") + content.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for token in _TOKENS.finditer(content):
        sign = token[0]
        if sign in (b"[", b"{"):
            depth += 1
            if depth > DEPTH_MAX:
                raise TooDeep(f"it is nested deeper than {DEPTH_MAX}")
        elif sign in (b"]", b"}"):
            depth -= 1


def load_json(content: bytes, **hooks: Any) -> Any:
    """The value of UTF-8 JSON. Raises TooDeep, UnicodeDecodeError, JSONDecodeError, or what a hook raises."""
    text = content.decode("utf-8-sig")
    check_depth(content)
    return json.loads(text, **hooks)
