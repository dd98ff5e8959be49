"""One exception class per rule that a payload or a state can break."""


class PayloadError(ValueError):
    """A payload is not what the recipe's codec and layout say it must be."""


class WrongPayloadSize(PayloadError):
    """The payload is longer or shorter than the layout gives; it is refused unread."""


class NonFinitePayload(PayloadError):
    """A value, table entry or block scale is NaN or infinite."""


class IndexOutOfBounds(PayloadError):
    """A sparse index points outside its tensor."""


class IndicesNotSorted(PayloadError):
    """The indices of a chunk are repeated or not in ascending order."""


class NonZeroPadding(PayloadError):
    """Bits that carry nothing are not zero."""


class NonCanonicalCodes(PayloadError):
    """Codes decode to something, but no encoder writes it in this form."""


class MomentsOutOfBounds(PayloadError):
    """A block scale of the averaged moments is negative or above its bound."""


class NormAboveCeiling(PayloadError):
    """The L2 norm of the decoded update is above the recipe's ceiling."""


class StateError(ValueError):
    """Bytes or tensors are not a state of this layout: wrong size, NaN, infinite, or not in canonical form."""
