"""What a joined peer does, in lines for people."""

import shlex
from pathlib import Path
from typing import Any, TextIO

from distrai.runs.earnings_text import estimate_text
from distrai.runs.money_text import at_time
from distrai.runs.telling import duration, size


class JoinText:
    """Writes a line for every event that a user wants to know of."""

    def __init__(self, home: Path, out: TextIO) -> None:
        self.home, self.out = home, out

    def report(self, event: dict[str, Any]) -> None:
        """Take an event; most kinds say nothing."""
        line = line_of(event)
        if line:
            print(line, file=self.out, flush=True)


def line_of(event: dict[str, Any]) -> str:
    """An event in words, or nothing."""
    handler = _LINES.get(str(event["event"]))
    return "" if handler is None else handler(event)


def _downloading(event: dict[str, Any]) -> str:
    if event["what"] == "snapshot":
        return (
            f"downloading the snapshot of round {event['round']} ({size(event['bytes'])}) from {event['holders']} "
            "peers at once"
        )
    if event["what"] in ("base", "teacher"):
        whose = {"base": "what the model is based on", "teacher": "the teacher"}[event["what"]]
        return f"downloading {whose} ({size(event['bytes'])}) from {event['holders']} peers"
    return f"downloading recipe, tokenizer and data from {event['holders']} peers"


def _applied(event: dict[str, Any]) -> str:
    count = len(event["members"])
    place = "with this peer" if event["own"] else "without this peer"
    what = "roll call" if event["roll_call"] else f"{count} updates, {place}"
    sent = sum(event.get("bytes", {}).get("up", {}).values())
    return f"round {event['round']}: {what}, {event['seats']} seats, {size(sent)} sent so far"


def _ask_owner(event: dict[str, Any]) -> str:
    return (
        f"this run is by invitation. Ask its owner to type:\n\n    {event['command']}\n\n"
        "with RUN the folder of the run, and paste what it prints here:"
    )


def _over(event: dict[str, Any]) -> str:
    how = {
        "finished": "the run has done all its rounds",
        "left": "this peer has left the run",
        "stopped": "this peer has stopped; the same command goes on",
    }[str(event["how"])]
    return f"{how}. Its home is {shlex.quote(str(event['home']))}"


_LINES = {
    "estimate": lambda event: estimate_text(event),
    "connecting": lambda event: f"connected to the ledger, which names {event['known']} peers to ask first",
    "downloading": _downloading,
    "snapshot": lambda event: (
        f"begins from the state after round {event['round']}; the run is at {event['newest']}"
    ),
    "snapshot-refused": lambda event: (
        f"the snapshot of round {event['round']} cannot be used: {event['why']}"
    ),
    "beginning-again": lambda event: f"takes a newer snapshot: {event['why']}",
    "liar": lambda event: f"member {event['member'][:12]} {event['why']}: it is not asked any more",
    "ask-owner": _ask_owner,
    "joined": lambda event: f"joined as member {event['member'][:12]} in round {event['round'] + 1}",
    "ready": lambda event: f"ready on {event['device']} at {event['url']}, round {event['round']}",
    "applied": _applied,
    "silent": lambda event: f"its log was lost: it says nothing up to round {event['through']}",
    "ledger": lambda event: f"the ledger: {event['why']}",
    "advice": lambda event: f"{event['why']}",
    "stake-needed": lambda event: (
        f"waits for a stake of {event['amount']} tokens: they are to be sent to 0x{event['address']}"
    ),
    "staked": lambda event: f"staked {event['amount']} tokens",
    "stake-inactive": lambda _: (
        "its stake counts for no seat any more: it takes no part in later rounds. `distrai earnings` and `distrai "
        "stake` say more"
    ),
    "gas-needed": lambda event: f"{event['why']}",
    "settling": lambda event: f"the run has done its rounds; now {event['what']}",
    "epoch-settled": lambda event: (
        f"epoch {event['epoch']} is settled, for the rounds until {event['last_round']}: payable from "
        f"{at_time(event['active_from'])} on"
    ),
    "leaving": lambda event: (
        f"leaving: attests until a certificate drops its seat (at most {duration(event['patience_s'])}); Ctrl-C again "
        "ends at once"
    ),
    "left": lambda _: "no head counts on this peer any more",
    "not-dropped": lambda event: f"leaves all the same: {event['why']}",
    "failed": lambda event: f"failed: {event['why']}",
    "over": _over,
}
