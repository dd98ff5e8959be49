"""What members, the owner and seats send to the simulated contract."""

from dataclasses import dataclass

from distrai.protocol.body import Body
from distrai.protocol.primitives import Address, MemberId, SignatureBytes


@dataclass(frozen=True)
class Join:
    """A member takes part, with the key that it has then."""

    member: MemberId


@dataclass(frozen=True)
class Leave:
    """A member asks to leave."""

    member: MemberId


@dataclass(frozen=True)
class Rotate:
    """A member gets another key."""

    member: MemberId
    key: Address


@dataclass(frozen=True)
class Start:
    """The owner starts the run with these seats (sorted): all that there are."""

    members: tuple[MemberId, ...]


@dataclass(frozen=True)
class Certify:
    """A certificate; signatures are sorted by signer."""

    body: Body
    signatures: tuple[SignatureBytes, ...]


@dataclass(frozen=True)
class CheckingIn:
    """Whoever holds this key is alive."""

    key: Address


@dataclass(frozen=True)
class Close:
    """The roll call ends without these seats."""

    drops: tuple[MemberId, ...]


Transaction = Join | Leave | Rotate | Start | Certify | CheckingIn | Close
