"""The resolved recipe: a recipe with nothing left open, whose hash is on the ledger.

Its canonical bytes are the JSON of the recipe (every setting of the algorithm written out, so that a preset
may change later without changing an old run) and of what opening the run fixed: corpus, tokenizer, initial
state, layout, and the frozen models that training reads.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from distrai.protocol.amounts import DECIMALS_MAX
from distrai.protocol.blobs import BlobRef, blob_ref
from distrai.protocol.canonical import canonical_json, decode_canonical_json
from distrai.protocol.errors import MessageTooLarge, NotCanonical
from distrai.protocol.primitives import Address, Hash
from distrai.protocol.recipe.money import Contracts
from distrai.protocol.recipe.reading import Length, Range, RecipeError, read, read_dataclass
from distrai.protocol.recipe.rules import check_rules
from distrai.protocol.recipe.sections import (
    ADDED_LATER,
    Positive,
    Recipe,
    Text,
    canonical_mapping,
    to_mapping,
)

RESOLVED_BYTES_MAX = 4 << 20
"""Longest resolved recipe that is read: room for tens of thousands of tensors."""

_ADDRESSES = ("token", "stakes", "rewards", "records")
TensorLayout = tuple[str, tuple[int, ...]]
"""Name and shape of one exchanged tensor."""


@dataclass(frozen=True, slots=True)
class _Hex:
    """A 32-byte hash as text: 0x and 64 lower-case digits."""

    def check(self, value: str, path: str) -> None:
        if not re.fullmatch(r"0x[0-9a-f]{64}", value):
            raise RecipeError(
                path, f"{value[:80]!r} is no hash", "write 0x and 64 lower-case hexadecimal digits"
            )


@dataclass(frozen=True, slots=True)
class _HexAddress:
    """An address as text: 0x and 40 lower-case digits, not all of them zero."""

    def check(self, value: str, path: str) -> None:
        if not re.fullmatch(r"0x[0-9a-f]{40}", value) or not int(value, 16):
            raise RecipeError(
                path, f"{value[:80]!r} is no address", "write 0x and 40 lower-case hexadecimal digits"
            )


_At = Annotated[str, _HexAddress()]
_HexHash = Annotated[str, _Hex()]
_Shape = Annotated[tuple[Positive, ...], Length(0, 16)]
_Layout = Annotated[tuple[tuple[Text, _Shape], ...], Length(1, 1 << 16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    hash: _HexHash
    size: Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class _State(_Blob):
    root: _HexHash


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frozen:
    base: _Blob | None = None
    teacher: _Blob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contracts:
    token: _At
    stakes: _At
    rewards: _At
    records: _At
    decimals: Annotated[int, Range(0, DECIMALS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What resolving adds, as it is in the JSON."""

    corpus: _Blob
    tokenizer_hash: _HexHash
    initial_state: _State
    layout: _Layout
    frozen: _Frozen | None = None
    contracts: _Contracts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRecipe:
    """A recipe that every peer reads alike.

    Raises RecipeError if a setting of the algorithm is left to the preset, or if the layout is impossible.
    """

    recipe: Recipe
    corpus: BlobRef
    """The manifest of the data shards."""
    tokenizer_hash: Hash
    initial_state: BlobRef
    """The state before round 1 (``Algorithm.state_bytes``)."""
    initial_root: Hash
    """The state root over those bytes."""
    layout: tuple[TensorLayout, ...]
    """The exchanged tensors, in the order of every payload and state."""
    contracts: Contracts | None = None
    """Where the money is; None for a run that neither pays nor asks for stakes."""
    base: BlobRef | None = None
    """The manifest of what of the model is not in the state: its configuration, and the weights that stay as they are.
    None where the recipe's own configuration says everything.
    """
    teacher: BlobRef | None = None
    """The manifest of the model that is learned from."""

    def __post_init__(self) -> None:
        for item in fields(self.recipe.algorithm):
            if getattr(self.recipe.algorithm, item.name) is None:
                hint = f'write out what preset "{self.recipe.algorithm.preset}" says'
                raise RecipeError(f"algorithm.{item.name}", "missing in a resolved recipe", hint)
        _check_layout(self.layout)
        _check_money(self.recipe, self.contracts)
        _check_frozen(self)

    @property
    def algorithm(self) -> Mapping[str, Any]:
        """Every setting of the algorithm, without the name of the preset it came from."""
        return self.recipe.algorithm.overrides

    def to_bytes(self) -> bytes:
        """The canonical JSON bytes."""
        return canonical_json(canonical_mapping(self.recipe) | to_mapping(_facts(self)))

    @property
    def blob(self) -> BlobRef:
        """Name and size of the canonical bytes; the hash is the recipe hash of the ledger."""
        return blob_ref(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> "ResolvedRecipe":
        """Read canonical bytes.

        Raises MessageTooLarge, MalformedMessage (no JSON), NotCanonical (another spelling) or RecipeError.
        """
        if len(data) > RESOLVED_BYTES_MAX:
            raise MessageTooLarge(
                f"a resolved recipe has at most {RESOLVED_BYTES_MAX} bytes, this one {len(data)}"
            )
        table = decode_canonical_json(data)
        names = {item.name for item in fields(_Facts)}
        facts, recipe = _split(table, names)
        resolved = _join(_filled(parse_recipe(recipe)), read_dataclass(_Facts, facts, ""))
        if resolved.to_bytes() != data:
            raise NotCanonical("this resolved recipe leaves out defaults or spells numbers in another way")
        return resolved


def parse_recipe(mapping: object) -> Recipe:
    """A recipe from plain data (what is in a TOML file).

    Raises RecipeError with the path of the key, what is wrong with it and what to write instead.
    """
    recipe = read_dataclass(Recipe, mapping, "")
    check_rules(recipe)
    return recipe


def recipe_bytes(recipe: Recipe) -> bytes:
    """The canonical JSON bytes of a recipe that is not resolved; ``parse_recipe`` reads them back."""
    return canonical_json(to_mapping(recipe))


def _filled(recipe: Recipe) -> Recipe:
    """A recipe read from canonical bytes, with the keys of the algorithm that they leave out."""
    later = ADDED_LATER["algorithm"]
    missing: dict[str, Any] = {key: later[key] for key in later if getattr(recipe.algorithm, key) is None}
    return replace(recipe, algorithm=replace(recipe.algorithm, **missing))


def _split(table: object, names: set[str]) -> tuple[object, object]:
    if not isinstance(table, dict):
        return table, table
    facts = {key: value for key, value in table.items() if key in names}
    return facts, {key: value for key, value in table.items() if key not in names}


def _facts(resolved: ResolvedRecipe) -> _Facts:
    state = resolved.initial_state
    return _Facts(
        corpus=_named(resolved.corpus),
        tokenizer_hash=_hex(resolved.tokenizer_hash),
        initial_state=_State(hash=_hex(state.hash), size=state.size, root=_hex(resolved.initial_root)),
        layout=resolved.layout,
        frozen=_frozen(resolved),
        contracts=None if resolved.contracts is None else _written(resolved.contracts),
    )


def _frozen(resolved: ResolvedRecipe) -> _Frozen | None:
    base, teacher = (None if blob is None else _named(blob) for blob in (resolved.base, resolved.teacher))
    return None if base is None and teacher is None else _Frozen(base=base, teacher=teacher)


def _join(recipe: Recipe, facts: _Facts) -> ResolvedRecipe:
    frozen = facts.frozen or _Frozen()
    return ResolvedRecipe(
        recipe=recipe,
        corpus=_ref(facts.corpus),
        tokenizer_hash=_unhex(facts.tokenizer_hash),
        initial_state=_ref(facts.initial_state),
        initial_root=_unhex(facts.initial_state.root),
        layout=facts.layout,
        contracts=None if facts.contracts is None else _read_contracts(facts.contracts),
        base=None if frozen.base is None else _ref(frozen.base),
        teacher=None if frozen.teacher is None else _ref(frozen.teacher),
    )


def _named(blob: BlobRef) -> _Blob:
    return _Blob(hash=_hex(blob.hash), size=blob.size)


def _ref(written: _Blob) -> BlobRef:
    return BlobRef(_unhex(written.hash), written.size)


def _written(contracts: Contracts) -> _Contracts:
    addresses = {name: "0x" + getattr(contracts, name).hex() for name in _ADDRESSES}
    return _Contracts(**addresses, decimals=contracts.decimals)


def _read_contracts(written: _Contracts) -> Contracts:
    addresses = {name: Address(bytes.fromhex(getattr(written, name)[2:])) for name in _ADDRESSES}
    return Contracts(**addresses, decimals=written.decimals)


def _check_money(recipe: Recipe, contracts: Contracts | None) -> None:
    if contracts is None:
        if recipe.rewards is not None or recipe.stake is not None:
            hint = "deploy them first: `distrai ledger deploy`"
            raise RecipeError("contracts", "missing where a run pays or asks for stakes", hint)
        return
    read(_Contracts, to_mapping(_written(contracts)), "contracts")
    if recipe.rewards is not None:
        recipe.rewards.terms(contracts.decimals)
    if recipe.stake is not None:
        recipe.stake.units(contracts.decimals)


def _check_frozen(resolved: ResolvedRecipe) -> None:
    """What is frozen is named by its hash, and nothing is that the recipe does not speak of.

    Runs of old had no base where parameters were frozen: that stays possible.
    """
    model = resolved.recipe.model
    if resolved.base is not None and model == replace(model, source="config", adapter=None, trainable=("*",)):
        raise RecipeError("frozen.base", "of no use where all of a new model is trained", "leave it out")
    if resolved.base is None and model.adapter is not None:
        raise RecipeError(
            "frozen.base", "missing where an adapter is trained", "open the run again: that fills it in"
        )
    if (resolved.teacher is None) != (resolved.recipe.teacher is None):
        problem = "missing where a teacher is learned from" if resolved.teacher is None else "of no use"
        raise RecipeError("frozen.teacher", problem, "open the run again: that fills it in")


def _check_layout(layout: tuple[TensorLayout, ...]) -> None:
    read(_Layout, layout, "layout")
    names = Counter(name for name, _ in layout)
    name, times = names.most_common(1)[0]
    if times > 1:
        raise RecipeError("layout", f'tensor "{name}" is there {times} times', "name every tensor once")


def _hex(value: Hash) -> str:
    return "0x" + value.hex()


def _unhex(text: str) -> Hash:
    return Hash(bytes.fromhex(text[2:]))
