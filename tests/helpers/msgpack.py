"""MessagePack written by hand, so that tests can spell a value in other ways than the canonical one."""

from collections.abc import Iterator

import msgspec

Value = None | bool | int | str | bytes | list["Value"]


def integer(value: int, width: int) -> bytes:
    """An unsigned integer in a field of ``width`` bytes."""
    return bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[width]]) + value.to_bytes(width, "big")


def sized(kind: str, size: int, width: int) -> bytes:
    """The header of bytes, text or an array with its length in ``width`` bytes."""
    first = {"bytes": 0xC4, "text": 0xD9, "array": 0xDB}[kind]
    return bytes([first + {1: 0, 2: 1, 4: 2}[width]]) + size.to_bytes(width, "big")


def spellings(value: Value) -> Iterator[bytes]:
    """Every way to write ``value`` with exactly one part of it longer than need be."""
    shortest = msgspec.msgpack.encode(value)
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int):
        others = [integer(value, width) for width in (1, 2, 4, 8) if value < 1 << 8 * width]
        others += [b"\xd3" + value.to_bytes(8, "big")] if value < 1 << 63 else []  # eight bytes with a sign
        yield from (data for data in others if data != shortest)
    elif isinstance(value, bytes | str):
        kind, raw = ("bytes", value) if isinstance(value, bytes) else ("text", value.encode())
        longer = (sized(kind, len(raw), width) + raw for width in (1, 2, 4) if len(raw) < 1 << 8 * width)
        yield from (data for data in longer if len(data) > len(shortest))
    else:
        items = [msgspec.msgpack.encode(item) for item in value]
        longer = (sized("array", len(items), width) + b"".join(items) for width in (2, 4))
        yield from (data for data in longer if len(data) > len(shortest))
        head = shortest[: len(shortest) - sum(map(len, items))]
        for place, item in enumerate(value):
            for other in spellings(item):
                yield head + b"".join([*items[:place], other, *items[place + 1 :]])
