"""Whether code on a chain is that of a shipped contract.

It is compared byte for byte but for immutables, which solc leaves as zeros and the constructor fills in.
"""

from functools import cache

from distrai.ledger.abi import load_artifact

_PUSH1, _PUSH32 = 0x60, 0x7F
_WORD = 32
_INVALID = 0xFE
_OFFSET_SIZE = 2


def has_code_of(name: str, code: bytes) -> bool:
    """Whether this is the code of a shipped contract, whatever its immutables are."""
    return immutables(name, code) is not None


def immutables(name: str, code: bytes) -> set[bytes] | None:
    """The values that a constructor put into a shipped contract's code; None if the code is another."""
    return _filled_in(_made_by(load_artifact(name).bytecode), code)


@cache
def _made_by(creation: bytes) -> bytes:
    """The code that a creation puts on the chain, immutables zero.

    It is what the constructor copies and returns: behind an INVALID, at an offset and with a size that the constructor
    pushes, up to the end.
    """
    pushed = _pushed(creation)
    starts = {at for at in pushed if creation[at - 1] == _INVALID and len(creation) - at in pushed}
    (start,) = {at for at in starts if at}
    return creation[start:]


def _pushed(code: bytes) -> set[int]:
    """The numbers of one or two bytes, below its length, that the code pushes."""
    found, at = set(), 0
    while at < len(code):
        width = code[at] - _PUSH1 + 1 if _PUSH1 <= code[at] <= _PUSH32 else 0
        if 1 <= width <= _OFFSET_SIZE:
            found.add(int.from_bytes(code[at + 1 : at + 1 + width], "big"))
        at += 1 + width
    return {number for number in found if number < len(code)}


def _filled_in(template: bytes, code: bytes) -> set[bytes] | None:
    """The words of ``code`` where ``template`` pushes 32 zeros; None if they differ anywhere else."""
    if len(template) != len(code) or template[:_WORD] != code[:_WORD]:
        return None
    filled: set[bytes] = set()
    at = 0
    while at < len(template):
        if template[at] != code[at]:
            return None
        if template[at] == _PUSH32 and template[at + 1 : at + 1 + _WORD] == bytes(_WORD):
            filled.add(code[at + 1 : at + 1 + _WORD])
            at += 1 + _WORD
            continue
        width = template[at] - _PUSH1 + 1 if _PUSH1 <= template[at] <= _PUSH32 else 0
        if template[at : at + 1 + width] != code[at : at + 1 + width]:
            return None
        at += 1 + width
    return filled
