"""The absolute checks on messages: whatever fails one of them is refused by name, before it can cost anybody anything.

They depend only on the message, the head it follows and the recipe, so every honest peer decides alike. Checks on the
decoded payload (sizes, finite values, norm) belong to the codec, relative ones to aggregation.
"""

from dataclasses import dataclass
from itertools import pairwise

from distrai.protocol.bases import Base
from distrai.protocol.errors import (
    AlreadyListed,
    BadSignature,
    ForeignHead,
    ForeignRun,
    MalformedMessage,
    NotASeat,
    NotATrainer,
    TooManySteps,
    UnsortedList,
    WrongBase,
    WrongBlobSize,
    WrongCodec,
    WrongFragment,
    WrongRound,
    WrongTokenCount,
)
from distrai.protocol.messages import UPDATE_VERSION, Have, Message, Proposal, Signed, Update
from distrai.protocol.primitives import ZERO_HASH, Address
from distrai.protocol.standing import Standing

OF_AN_UPDATE = ("update", "key")
"""Kinds of messages that belong to an update, whatever round it is listed in."""


@dataclass(frozen=True)
class WorkRules:
    """What the recipe fixes about an update: its encoding, its exact size in bytes, its largest and countable work.

    ``sealed_bytes`` has a size for each fragment of the model: round r synchronises fragment (r - 1) mod their number.
    ``overlap`` is how many inner steps may be taken before the state that a round starts from is certified.
    """

    codec: str
    sealed_bytes: tuple[int, ...]
    inner_steps_max: int
    tokens_per_step: int
    overlap: int = 0

    def fragment_of(self, round_number: int) -> int:
        """Which fragment a round synchronises."""
        return (round_number - 1) % len(self.sealed_bytes)


def base_of(message: Message, standing: Standing) -> Base:
    """The head that an update, or its key, starts from, which may be an earlier one. Raises if it may not be."""
    if message.run != standing.run:
        raise ForeignRun(f"a message of run {message.run}, not of run {standing.run}")
    base = standing.base_at(message.round - 1)
    if base is None:
        raise WrongRound(f"an update of round {message.round} cannot be listed in round {standing.round + 1}")
    if message.previous_head != base.head:
        raise ForeignHead(f"a message that follows head {message.previous_head.hex()[:12]}")
    return base


def check_place(message: Message, standing: Standing) -> None:
    """Raise unless the message belongs to the round that follows ``standing``.

    An update, and its key, belongs to every round that may list it.
    """
    if message.kind in OF_AN_UPDATE:
        base_of(message, standing)
        return
    if message.run != standing.run:
        raise ForeignRun(f"a message of run {message.run}, not of run {standing.run}")
    if message.round != standing.round + 1:
        raise WrongRound(f"a message of round {message.round}, not of round {standing.round + 1}")
    if message.previous_head != standing.head:
        raise ForeignHead(f"a message that follows head {message.previous_head.hex()[:12]}")


def author_key(message: Message, standing: Standing) -> Address | None:
    """The key that must sign a message of the round: a trainer's for its work, else a seat's; None without that part.

    They differ for one round where a seat was just given a new key. Work is signed with the key of the head that it
    starts from.
    """
    if message.kind in OF_AN_UPDATE:
        base = standing.base_at(message.round - 1)
        return None if base is None else base.trainer_key(message.member)
    return standing.seat_key(message.member)


def check_author(signed: Signed, standing: Standing) -> None:
    """Raise unless the member that the message names signed it, and may."""
    message = signed.message
    trains = message.kind in OF_AN_UPDATE
    key = author_key(message, standing)
    if key is None and trains:
        raise NotATrainer(f"member {message.member.hex()[:12]} does not train in round {message.round}")
    if key is None:
        raise NotASeat(f"member {message.member.hex()[:12]} has no seat in round {message.round}")
    if key != signed.signer:
        raise BadSignature(f"not signed by the key of member {message.member.hex()[:12]}")


def check_update(update: Update, standing: Standing, rules: WorkRules) -> None:
    """Raise unless the update may be listed in the round that follows ``standing``, as far as it tells of itself.

    ``rules`` are the recipe's.
    """
    base = base_of(update, standing)
    if update.version != UPDATE_VERSION:
        raise MalformedMessage(f"an update of version {update.version}; this peer knows {UPDATE_VERSION}")
    if (update.base_round, update.base_state_root) != (base.round, base.state_root):
        raise WrongBase("the update does not start from the state of the head it follows")
    if update.codec != rules.codec:
        raise WrongCodec(f"codec {update.codec!r}; the recipe says {rules.codec!r}")
    fragment = rules.fragment_of(update.round)
    ahead = {0, rules.overlap} if update.round > 1 and update.inner_steps >= rules.overlap else {0}
    if update.fragment != fragment or update.tau not in ahead or update.trace_root != ZERO_HASH:
        raise WrongFragment(
            f"fragment {update.fragment}, overlap {update.tau}: round {update.round} is of fragment {fragment}, the "
            f"recipe's overlap is {rules.overlap}, and there is no trace"
        )
    if update.blob_size != rules.sealed_bytes[fragment]:
        raise WrongBlobSize(
            f"{update.blob_size} bytes; the recipe's layout gives {rules.sealed_bytes[fragment]}"
        )
    if not 1 <= update.inner_steps <= rules.inner_steps_max:
        raise TooManySteps(f"{update.inner_steps} inner steps; 1 to {rules.inner_steps_max} were assigned")
    if update.tokens != update.inner_steps * rules.tokens_per_step:
        raise WrongTokenCount(f"{update.tokens} tokens in {update.inner_steps} steps")
    if (update.member, update.base_round) in standing.spent:
        raise AlreadyListed(f"an update of this member from round {update.base_round} was listed before")


def may_be_listed(update: Update, standing: Standing) -> bool:
    """Whether an update that was well made is one of those that the round after ``standing`` may list."""
    base = standing.base_at(update.round - 1)
    is_spent = (update.member, update.base_round) in standing.spent
    return base is not None and base.head == update.previous_head and not is_spent


def check_have(have: Have) -> None:
    """Raise unless the hashes of a Have are a sorted set."""
    if have.content is not None:
        raise MalformedMessage("a Have whose hashes are in a blob: no run is large enough for that yet")
    if any(first >= second for first, second in pairwise(have.updates)):
        raise UnsortedList("the hashes of a Have are sorted, each once")


def check_proposal(proposal: Proposal) -> None:
    """Raise unless the parts of a proposal are well formed."""
    if proposal.content is not None:
        raise MalformedMessage("a proposal whose lists are in a blob: no run is large enough for that yet")
    if len(set(proposal.updates)) != len(proposal.updates):
        raise UnsortedList("a proposal lists each update once")
