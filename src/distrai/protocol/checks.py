"""The absolute checks on messages: whatever fails one of them is refused by name, before it can cost anybody anything.

They depend only on the message, the head it follows and the recipe, so every honest peer decides alike. Checks on the
decoded payload (sizes, finite values, norm) belong to the codec, relative ones to aggregation.
"""

from dataclasses import dataclass
from itertools import pairwise

from distrai.protocol.errors import (
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


@dataclass(frozen=True)
class WorkRules:
    """What the recipe fixes about an update: its encoding, its exact size in bytes, its largest and countable work."""

    codec: str
    sealed_bytes: int
    inner_steps_max: int
    tokens_per_step: int


def check_place(message: Message, standing: Standing) -> None:
    """Raise unless the message belongs to the round that follows ``standing``."""
    if message.run != standing.run:
        raise ForeignRun(f"a message of run {message.run}, not of run {standing.run}")
    if message.round != standing.round + 1:
        raise WrongRound(f"a message of round {message.round}, not of round {standing.round + 1}")
    if message.previous_head != standing.head:
        raise ForeignHead(f"a message that follows head {message.previous_head.hex()[:12]}")


def author_key(message: Message, standing: Standing) -> Address | None:
    """The key that must sign a message of the round: a trainer's for its work, else a seat's; None without that part.

    They differ for one round where a seat was just given a new key.
    """
    if message.kind in ("update", "key"):
        return standing.trainer_key(message.member)
    return standing.seat_key(message.member)


def check_author(signed: Signed, standing: Standing) -> None:
    """Raise unless the member that the message names signed it, and may."""
    message = signed.message
    trains = message.kind in ("update", "key")
    key = author_key(message, standing)
    if key is None and trains:
        raise NotATrainer(f"member {message.member.hex()[:12]} does not train in round {message.round}")
    if key is None:
        raise NotASeat(f"member {message.member.hex()[:12]} has no seat in round {message.round}")
    if key != signed.signer:
        raise BadSignature(f"not signed by the key of member {message.member.hex()[:12]}")


def check_update(update: Update, standing: Standing, rules: WorkRules) -> None:
    """Raise unless what the update says of itself is possible. ``rules`` are the recipe's."""
    if update.version != UPDATE_VERSION:
        raise MalformedMessage(f"an update of version {update.version}; this peer knows {UPDATE_VERSION}")
    if (update.base_round, update.base_state_root) != (standing.round, standing.state_root):
        raise WrongBase("the update does not start from the state of the head it follows")
    if update.codec != rules.codec:
        raise WrongCodec(f"codec {update.codec!r}; the recipe says {rules.codec!r}")
    if update.fragment != 0 or update.tau != 0 or update.trace_root != ZERO_HASH:
        raise WrongFragment("the recipe has no fragments, no overlap and no trace")
    if update.blob_size != rules.sealed_bytes:
        raise WrongBlobSize(f"{update.blob_size} bytes; the recipe's layout gives {rules.sealed_bytes}")
    if not 1 <= update.inner_steps <= rules.inner_steps_max:
        raise TooManySteps(f"{update.inner_steps} inner steps; 1 to {rules.inner_steps_max} were assigned")
    if update.tokens != update.inner_steps * rules.tokens_per_step:
        raise WrongTokenCount(f"{update.tokens} tokens in {update.inner_steps} steps")


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
