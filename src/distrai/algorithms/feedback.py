"""Error feedback as one pure transition: what a lossy codec did not send is kept and sent later
(arXiv:1901.09847).

    carried = decay * feedback + delta          (what the peer now owes)
    payload = encode(carried)
    feedback' = carried - decode(payload)       if the certificate accepted the update
              = carried                         if it is absent, refused, of weight 0, or the round was
              skipped

What a norm clip cut off is not given back.
"""

from collections.abc import Sequence

from torch import Tensor

from distrai.algorithms import arithmetic


def carry(delta: Sequence[Tensor], feedback: Sequence[Tensor] | None, decay: float) -> tuple[Tensor, ...]:
    """decay * feedback + delta; a first round has no feedback (None)."""
    if feedback is None:
        return tuple(arithmetic.positive_zero(x) for x in delta)
    return tuple(
        arithmetic.positive_zero(e * arithmetic.scalar(decay, e) + x).view(x.shape)
        for e, x in zip(feedback, delta, strict=True)
    )


def settle(carried: Sequence[Tensor], decoded: Sequence[Tensor], accepted: bool) -> tuple[Tensor, ...]:
    """The next feedback, once it is known whether the update counted."""
    if not accepted:
        return tuple(carried)
    return tuple(arithmetic.positive_zero(c - d) for c, d in zip(carried, decoded, strict=True))
