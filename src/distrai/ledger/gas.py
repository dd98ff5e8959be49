"""What the ledger refuses, said so that a user knows what to do; gas first of all, which everybody forgets once."""

import string
from datetime import UTC, datetime
from typing import Any

from distrai.ledger.errors import (
    BadAnswer,
    LedgerRefused,
    LedgerUnreachable,
    NodeError,
    NotMined,
    TooLittleGas,
)
from distrai.ledger.settings import COIN_DECIMALS
from distrai.protocol.amounts import format_amount

_SENTENCES = {
    # money that is not there
    "ERC20InsufficientBalance": "0x{0:hex} has {1:amount} and this takes {2:amount}: send it more, or use less",
    "ERC20InsufficientAllowance": "the contract may take {1:amount} and needs {2:amount}: give the same command again",
    "NothingSent": "nothing was to be paid in: give an amount above 0",
    "WrongAmountArrived": "{0:amount} were sent and {1:amount} arrived: a token that takes fees cannot be used here",
    "SafeERC20FailedOperation": "the token 0x{0:hex} refuses to move: ask whoever made it, or use another token",
    # stakes
    "BelowMinimum": "{0:amount} staked would be less than a seat needs: stake at least {1:amount} in all",
    "NoTerms": "run {0} asks for no stake: there is nothing to stake in it",
    "NotStaked": "run {0} asks for a stake, and this member has too little there: stake first, then join",
    "NotMemberController": "0x{1:hex} does not control this member: use the wallet that registered it",
    "NothingStaked": "this member has nothing staked in run {0}",
    "StillJoined": "this member takes part in run {0}: leave the run first, then ask for the stake",
    "SeatNotGivenUp": "the seat was not taken from this member yet: again when it is dropped, or from {0:time} on",
    "NothingUnbonding": "nothing of this member is on its way out of run {0}: unstake first",
    "NotReleased": "the stake is free from {0:time} on: give the same command again then",
    "TermsFixed": "what run {0} asks for was set before and stays: open a new run for other terms",
    "BadTerms": "price, cap, members, seconds, stake and fault must be above 0, the fault no more than the stake",
    "MembersEntered": "members joined run {0} already: a stake is asked for before anybody joins, so open a new run",
    "StakeAlreadyRequired": "run {0} asks for a stake at 0x{1:hex}, and keeps to it",
    "AlreadyPunished": "this fault was reported before; it is punished once",
    "SameUpdate": "both Updates are the same one: that is no fault",
    "NotMembersKey": "0x{1:hex} never was a key of this member: the evidence is somebody else's",
    "KeyTooOld": "the key 0x{0:hex} was replaced too long ago to report it",
    "RoundTooOld": "round {0} is over for too long: reports go back to round {1}, without it",
    "NothingToSlash": "this member has nothing in run {0} that could be taken",
    "NothingToCollect": "nothing is left to be collected",
    # pots
    "NoPot": "run {0} has no pot, it pays nothing: its owner opens one first",
    "PotExists": "run {0} has a pot with other terms: they stay as they are",
    "PotIsClosed": "the pot of run {0} is closed: no later round is paid",
    "NotPotOwner": "only who opened the pot of run {0} may do this, and 0x{1:hex} did not: use the owner's wallet",
    "NotRunOwner": "only the owner of run {0} may do this, and 0x{1:hex} is not: use the owner's wallet",
    "NotOwner": "only the owner of run {0} may do this, and 0x{1:hex} is not: use the owner's wallet",
    "TooManyMembers": "{0} members may earn already, as many as the pot's terms say: take one off the list first",
    "NoSuchMember": "there is no such member on this ledger: it registers first",
    "NotAllowed": "the owner of run {0} never let this member earn: ask it to be put on the list",
    "NotRefundable": "what nobody earned goes back from {0:time} on: give the same command again then",
    "NothingToRefund": "all of the pot is earned, paid or given back",
    "StillAlive": "the run is alive: only its owner closes its pot; anybody may from {0:time} on if no round follows",
    "EntryPaused": "the guardian has paused what comes in; what is owed still goes out, so wait or ask the guardian",
    # epochs and claims
    "NotActive": "this is payable from {0:time} on: until then the epoch may still be taken back; claim again then",
    "NotLive": "run {0} has no epoch {1}, or it was taken back: wait until its seats settle again, then claim",
    "NotInRoot": "the epoch's root 0x{0:hex} does not hold this amount: the table is of another run, epoch or ledger",
    "NothingToClaim": "{0:amount} were paid already, and nothing has been earned since",
    "AboveTotal": "claims would exceed what the epoch declares ({1:amount}): a later epoch was claimed, use the newest",
    "AboveEscrow": "the pot holds {1:amount} and {0:amount} are to be settled: its owner must fund it first",
    "AboveRate": "{0:amount} are more than these rounds can earn ({1:amount}): the seats must compute it anew",
    "WrongEpoch": "epoch {1} is due, not {0}: another one landed first, look again",
    "WrongKills": "an epoch was killed since the seats signed ({1} times now): they must sign again",
    "WrongPreviousRoot": "the epoch follows another root than the last live one: the seats must sign again",
    "NotMarked": "the head of round {0} is not marked, or a reorg took it back: mark the newest and settle until there",
    "NoNewRounds": "the epoch ends with round {0}, and round {1} is settled already: wait for more rounds",
    "TotalFalls": "an epoch cannot take back what was earned: {1:amount} before, {0:amount} now",
    "AlreadyActive": "the epoch is active since {0:time}: nobody can take it back",
    "NotStarted": "run {0} has not started: start it first",
    "NotEnoughSignatures": "{0} of {1} seats signed, and two thirds must: wait for more of them",
    "NotASeatKey": "0x{0:hex} is no key of a seat of now: who signed has left, or rotated its key",
    "NotGuardian": "only the guardian may do this, and 0x{0:hex} is not: use its wallet",
    "NotOffered": "the guardian's role was not offered to 0x{0:hex}",
    # members and runs
    "UnknownRun": "there is no run {0} on this ledger: check the link and the network",
    "UnknownMember": "there is no such member on this ledger: register first",
    "NotMember": "0x{1:hex} does not act for this member: use its own wallet",
    "NotController": "0x{1:hex} does not control this member: use the wallet that registered it",
    "AlreadyJoined": "this member takes part in run {0} already",
    "RunNotOpen": "run {0} has started or does not exist: this is done before the start",
    "RejoinOnlyByKey": "this member left run {0}: only its own key brings it back",
    # records
    "UnknownRecord": "there is no training record {0} on this ledger",
    "NotSender": "only who opened training record {0} may do this, and 0x{1:hex} did not: use that wallet",
    "RecordIsClosed": "training record {0} is closed: nothing of it changes any more",
    "WrongStage": "the training has come as far as that before: stages follow one another",
    "TextTooLong": "a text of the record has {0} bytes: shorten it to {1}",
}
"""By the contract's error. Fields are its arguments: plain, ``hex``, ``amount``, ``time``."""


def explain(error: BaseException, decimals: int = 18, symbol: str = "tokens") -> str:
    """What went wrong and what to do, in one sentence; amounts are whole ``symbol`` of so many ``decimals``."""
    match error:
        case LedgerRefused():
            return _refused(error, _Words(decimals, symbol))
        case TooLittleGas():
            return _too_little_gas(error)
        case NotMined():
            return f"{error}; nothing is paid twice if you give the same command again"
        case LedgerUnreachable():
            return f"{error}: check the address and your network; nothing is lost, give the same command again later"
        case NodeError():
            return f"{error}: the node refuses this, not the contract; try again, or another node"
        case BadAnswer():
            return f"{error}: check the address of the node, or use another one"
        case _:
            return str(error)


class _Words(string.Formatter):
    """Arguments of a contract's error as people read them."""

    def __init__(self, decimals: int, symbol: str) -> None:
        self._decimals, self._symbol = decimals, symbol

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec, value:
            case "amount", int():
                return f"{format_amount(value, self._decimals)} {self._symbol}"
            case "time", int():
                return _time(value)
            case "hex", bytes():
                return value.hex()
            case _:
                return str(value)


def _refused(error: LedgerRefused, words: _Words) -> str:
    sentence = _SENTENCES.get(error.name)
    if sentence is None:
        return str(error)
    try:
        return words.vformat(sentence, error.arguments, {})
    except (IndexError, ValueError):
        return str(error)  # another contract's error of the same name


def _too_little_gas(error: TooLittleGas) -> str:
    has, needed = (format_amount(amount, COIN_DECIMALS) for amount in (error.has, error.needed))
    more = format_amount(max(0, error.needed - error.has), COIN_DECIMALS)
    return (
        f"0x{error.account.hex()} has {has} of the chain's coin and this may cost {needed} in gas: "
        f"send it {more} or more, then give the same command again"
    )


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"second {seconds}"
