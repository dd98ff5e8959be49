"""Who a peer acts for, how it signs, and the local durations of a round."""

from collections.abc import Callable
from dataclasses import dataclass

from distrai.protocol.messages import Message, Signed, seal_envelope
from distrai.protocol.primitives import Address, Hash, MemberId, SignatureBytes
from distrai.protocol.typed_data import Domain

Sign = Callable[[Hash], SignatureBytes]
"""Signs a digest; pure: the same digest, the same signature."""

ROUNDING_S = 1e-6
"""Times of a local clock are added and subtracted: what should be equal may differ by far less than this."""


@dataclass(frozen=True)
class Identity:
    """A member's name on one ledger, and the functions of its node key. Both must be pure: same input, same output."""

    member: MemberId
    address: Address
    domain: Domain
    sign: Sign
    recover: Callable[[Hash, bytes], Address]
    also: tuple[tuple[Address, Sign], ...] = ()
    """Further own keys: after a rotation a seat attests with its old one until it is promoted with the new one."""

    def owns(self, key: Address | None) -> bool:
        """Whether this is one of the own keys."""
        return key == self.address or any(key == address for address, _ in self.also)

    def signs_with(self, key: Address | None) -> tuple[Address, Sign]:
        """The own key at this address, or the newest if it is none of them."""
        return next((own for own in self.also if own[0] == key), (self.address, self.sign))

    def seal(self, message: Message, key: Address | None = None) -> Signed:
        """Encode and sign an own message, with the own key at this address."""
        address, sign = self.signs_with(key)
        return seal_envelope(message, self.domain, sign, address)


@dataclass(frozen=True)
class Timing:
    """Local durations in seconds, all from the recipe: ``d0_s`` is the unit that the others scale with.

    ``cut_s``: when to stop waiting once two thirds of the ciphertexts are held; ``hard_s``: when to stop in any case.
    """

    d0_s: float
    cut_s: float
    hard_s: float

    @property
    def all_seats_wait_s(self) -> float:
        """How long to wait for trainers without a seat once the seats' ciphertexts are held."""
        return self.d0_s * 5 / 3

    @property
    def join_cut_s(self) -> float:
        """How long after two thirds have spoken to speak oneself."""
        return self.d0_s / 2

    @property
    def settle_s(self) -> float:
        """How long after two thirds have spoken proposals begin."""
        return self.d0_s * 2.5

    def attempt_s(self, attempt: int) -> float:
        """How long an attempt lasts: 8 s for the default unit of 3 s, growing to 40 s."""
        return self.d0_s / 3 * min(8 * 1.5 ** min(attempt, 64), 40)

    def delay_s(self, attempt: int) -> float:
        """How long before a proposal something must have been known for it to be missed."""
        return min(self.d0_s * 1.5 ** min(attempt, 64), self.d0_s * 20 / 3)

    def attempt_at(self, since_settled_s: float) -> tuple[int, float, float]:
        """The attempt that is on, when it started, and when it ends (seconds since settled; attempt 0 before)."""
        attempt, start = 0, 0.0
        while since_settled_s + ROUNDING_S >= start + self.attempt_s(attempt):
            start += self.attempt_s(attempt)
            attempt += 1
        return attempt, start, start + self.attempt_s(attempt)

    def attempt_start(self, attempt: int) -> float:
        """When an attempt starts, in seconds since settled."""
        return sum(self.attempt_s(index) for index in range(attempt))
