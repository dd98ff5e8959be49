"""How the contracts are set up: windows, roles, token. Read from TOML, kept in the deployment's file, checked on chain.

```toml
[windows]                        # seconds of ledger time
audit_seconds = 172800
dispute_seconds = 86400
activation_seconds = 345600      # more than audit and dispute together
settle_seconds = 259200
slash_seconds = 604800
unbond_seconds = 1814400         # more than settle, activation and slash together
dead_seconds = 1209600

[roles]
guardian = "nobody"              # or the address of a multisig: it can pause entry and kill an epoch, never move money
treasury = "burn"                # or an address: gets nine tenths of what is slashed

[token]
address = "0x..."                # an ERC-20 that is there; without it a new one is made
name = "DisTrAI"
symbol = "DTR"
supply = "1000000000"            # whole tokens; all of them go to who deploys
```
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

from distrai.protocol.amounts import BadAmount, format_amount, parse_amount
from distrai.protocol.primitives import ADDRESS_SIZE, Address
from distrai.protocol.recipe.reading import Length, Range, RecipeError, read

NEW_TOKEN_DECIMALS = 18
COIN_DECIMALS = 18
"""Of every chain's own coin."""
NOBODY = Address(bytes(ADDRESS_SIZE))
"""No address: a role that nobody has."""
BURN = Address(bytes.fromhex("000000000000000000000000000000000000dead"))
"""An address whose key nobody has: what goes there is gone."""
_SECONDS_MAX = 10 * 365 * 86_400
_AMOUNT_BITS = 96
"""Stakes and terms are kept in so many bits: a token's whole supply must fit."""

Seconds = Annotated[int, Range(0, _SECONDS_MAX)]


class BadSettings(ValueError):
    """Settings by which no contracts can be deployed; the message says what to write instead."""


@dataclass(frozen=True)
class Windows:
    """How long everything takes, in seconds of ledger time (contracts/README.md says what each is for)."""

    audit_seconds: Seconds
    dispute_seconds: Seconds
    activation_seconds: Seconds
    settle_seconds: Seconds
    slash_seconds: Seconds
    unbond_seconds: Seconds
    dead_seconds: Seconds

    def check(self) -> None:
        """Raises BadSettings where a contract would refuse them: there nothing could be mended."""
        needed = self.audit_seconds + self.dispute_seconds
        if self.activation_seconds <= needed:
            raise BadSettings(
                f"activation_seconds is {self.activation_seconds}: audits and disputes must be over before anybody is "
                f"paid, so make it more than {needed}"
            )
        needed = self.settle_seconds + self.activation_seconds + self.slash_seconds
        if self.unbond_seconds <= needed:
            raise BadSettings(
                f"unbond_seconds is {self.unbond_seconds}: a stake must outlast rewards and faults that are still "
                f"open, so make it more than {needed}"
            )
        for name in ("settle_seconds", "slash_seconds", "dead_seconds"):
            if getattr(self, name) == 0:
                raise BadSettings(f"{name} is 0: give it at least one second")


@dataclass(frozen=True)
class NewToken:
    """A token to make, all of which goes to who deploys. ``supply`` is base units, of which 10^18 are a token."""

    name: str = "DisTrAI"
    symbol: str = "DTR"
    supply: int = 10**9 * 10**NEW_TOKEN_DECIMALS


@dataclass(frozen=True)
class DeploymentSettings:
    """How contracts are set up; ``token`` is one to make or the address of an ERC-20 that is there.

    An ERC-20 that takes fees or changes balances by itself cannot be used: the contracts refuse what arrives of it.
    ``guardian_may_be_key``: also an account with a single key may be the guardian, as in tests.
    """

    windows: Windows
    token: NewToken | Address = field(default_factory=NewToken)
    guardian: Address = NOBODY
    treasury: Address = BURN
    guardian_may_be_key: bool = False

    def check(self) -> None:
        """Raises BadSettings."""
        self.windows.check()
        if self.treasury == NOBODY:
            raise BadSettings('the treasury must be able to get tokens: give an address, or "burn"')
        if isinstance(self.token, NewToken) and not 0 < self.token.supply < 1 << _AMOUNT_BITS:
            raise BadSettings(
                f"a supply of {self.token.supply} base units: use 1 to {(1 << _AMOUNT_BITS) - 1}"
            )

    @classmethod
    def from_toml(cls, path: Path) -> "DeploymentSettings":
        """Read a settings file. Raises BadSettings, or OSError where it cannot be opened."""
        try:
            table = tomllib.loads(path.read_bytes().decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path} is not TOML: {error}") from None
        return cls.from_table(table)

    @classmethod
    def from_table(cls, table: object) -> "DeploymentSettings":
        """Settings from plain tables. Raises BadSettings."""
        try:
            found = cast(_Table, read(_Table, table, ""))
            settings = cls(
                found.windows,
                _token(found.token),
                NOBODY if found.roles.guardian == "nobody" else parse_address(found.roles.guardian),
                BURN if found.roles.treasury == "burn" else parse_address(found.roles.treasury),
                found.roles.guardian_may_be_key,
            )
        except (RecipeError, BadAmount) as error:
            raise BadSettings(str(error)) from None
        settings.check()
        return settings

    def to_table(self) -> dict[str, Any]:
        """As plain tables, for JSON and TOML alike."""
        token = self.token
        told = (
            {
                "name": token.name,
                "symbol": token.symbol,
                "supply": format_amount(token.supply, NEW_TOKEN_DECIMALS),
            }
            if isinstance(token, NewToken)
            else {"address": "0x" + token.hex()}
        )
        roles = {
            "guardian": "nobody" if self.guardian == NOBODY else "0x" + self.guardian.hex(),
            "treasury": "burn" if self.treasury == BURN else "0x" + self.treasury.hex(),
            "guardian_may_be_key": self.guardian_may_be_key,
        }
        return {"windows": dict(vars(self.windows)), "roles": roles, "token": told}


@dataclass(frozen=True)
class _Roles:
    guardian: str = "nobody"
    treasury: str = "burn"
    guardian_may_be_key: bool = False


@dataclass(frozen=True)
class _TokenTable:
    address: str = ""
    name: Annotated[str, Length(1, 64)] = NewToken.name
    symbol: Annotated[str, Length(1, 16)] = NewToken.symbol
    supply: str = format_amount(NewToken.supply, NEW_TOKEN_DECIMALS)


@dataclass(frozen=True)
class _Table:
    windows: Windows
    roles: _Roles = field(default_factory=_Roles)
    token: _TokenTable = field(default_factory=_TokenTable)


def parse_address(text: str) -> Address:
    """An address written as 0x and 40 hexadecimal digits. Raises BadSettings."""
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if not text.startswith("0x") or len(data) != ADDRESS_SIZE:
        raise BadSettings(f"{text[:80]!r} is no address: write 0x and 40 hexadecimal digits")
    return Address(data)


def _token(table: _TokenTable) -> NewToken | Address:
    if table.address:
        return parse_address(table.address)
    return NewToken(table.name, table.symbol, parse_amount(table.supply, NEW_TOKEN_DECIMALS))


LOCAL = DeploymentSettings(
    Windows(
        audit_seconds=0,
        dispute_seconds=0,
        activation_seconds=2,
        settle_seconds=3,
        slash_seconds=60,
        unbond_seconds=90,
        dead_seconds=86_400,
    ),
    NewToken("DisTrAI play token", "PLAY"),
)
"""For runs on one machine: an epoch is paid two seconds after it landed."""

_DAY = 86_400
PRODUCTION = DeploymentSettings(
    Windows(
        audit_seconds=2 * _DAY,
        dispute_seconds=_DAY,
        activation_seconds=4 * _DAY,
        settle_seconds=3 * _DAY,
        slash_seconds=7 * _DAY,
        unbond_seconds=21 * _DAY,
        dead_seconds=14 * _DAY,
    )
)
"""For runs with strangers; name a multisig as the guardian, or nobody can stop a false epoch before it is paid."""
