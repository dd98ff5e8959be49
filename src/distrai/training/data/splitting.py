"""Which split something falls into: by hash alone, so that names, order and the machine do not matter."""

from collections.abc import Sequence

from distrai.training.data.documents import Split
from distrai.training.errors import CorpusTooSmall


def splits_of(
    sizes: Sequence[int], held_out_fraction: float, tuning_fraction: float, what: str
) -> list[Split]:
    """The split of each of the things with these sizes, which are in the order of their hashes.

    The first ones are held out until the held-out share of the sizes is reached, the next ones are for tuning, the
    rest is trained on; a part with a fraction above 0 gets at least one. ``what`` says in the plural what they are.
    Raises CorpusTooSmall.
    """
    needed = 1 + (held_out_fraction > 0) + (tuning_fraction > 0)
    if len(sizes) < needed:
        raise CorpusTooSmall(
            f"{what.format(len(sizes))}, but {needed} are needed to train, tune and measure on different ones"
        )
    total = sum(sizes)
    shares: list[tuple[Split, float]] = [("held_out", held_out_fraction), ("tuning", tuning_fraction)]
    splits: list[Split] = []
    for at, (split, share) in enumerate(shares):
        wanted, left_for_others = share * total, 1 + (at == 0 and tuning_fraction > 0)
        while wanted > 0 and len(splits) < len(sizes) - left_for_others:
            wanted -= sizes[len(splits)]
            splits.append(split)
    return splits + ["train"] * (len(sizes) - len(splits))
