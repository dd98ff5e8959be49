"""What can be told of a run while it goes on, from the events of its processes alone. No drawing here."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

SPEED_ROUNDS = 5
"""Rounds that tokens per second are averaged over."""


@dataclass
class PeerView:
    """What is known of one peer."""

    name: str
    member: str = ""
    doing: str = "starting"
    sent: int = 0
    """Bytes at the socket until now."""
    loss: float | None = None


@dataclass
class Progress:
    """The run as its events have told it so far; ``take`` them in order."""

    clock: Callable[[], float] = time.monotonic
    name: str = ""
    preset: str = ""
    rounds: int = 0
    round: int = 0
    doing: str = "starting the ledger"
    peers: dict[str, PeerView] = field(default_factory=dict)
    roots: dict[int, dict[str, str]] = field(default_factory=dict)
    """State roots of the newest rounds, as each peer reported them."""
    certified: frozenset[str] = frozenset()
    """Members in the newest certificate."""
    epochs: int = 0
    """How many epochs are settled, ..."""
    settled_round: int = 0
    """... and their last round."""
    held_out: float | None = None
    """Bits per byte."""
    refused: int = 0
    last_refusal: str = ""
    notices: list[str] = field(default_factory=list)
    _bits: float = 1 / math.log(2)
    _losses: dict[int, list[float]] = field(default_factory=dict)
    _tokens: dict[int, int] = field(default_factory=dict)
    _landed: list[tuple[int, float]] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """Go on with the next event. Unknown ones, and ones that lack what is told of them, say nothing."""
        handler = getattr(self, f"_on_{str(event.get('event')).replace('-', '_')}", None)
        if handler is not None:
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                handler(event)

    @property
    def train_bits(self) -> float | None:
        """Training loss of the newest round that anyone finished, as bits per byte (about, with long tokens)."""
        if not self._losses or math.isnan(self._bits):
            return None
        losses = self._losses[max(self._losses)]
        return sum(losses) / len(losses) * self._bits

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens that all peers together trained on in a second, over the newest rounds."""
        if len(self._landed) < 2:
            return None
        (first, began), (last, ended) = self._landed[0], self._landed[-1]
        tokens = sum(self._tokens.get(number, 0) for number in range(first + 1, last + 1))
        return tokens / (ended - began) if ended > began else None

    @property
    def sent_per_peer(self) -> float:
        """Mean bytes that a peer has sent, at the socket."""
        return sum(peer.sent for peer in self.peers.values()) / max(1, len(self.peers))

    @property
    def agreement(self) -> tuple[int, int, bool]:
        """Of the newest round: how many peers have applied it, of how many, and whether their roots are one."""
        reported = self.roots.get(self.round, {})
        return len(reported), len(self.peers), len(set(reported.values())) <= 1

    @property
    def root(self) -> str:
        """The newest state root."""
        return next(iter(self.roots.get(self.round, {}).values()), "")

    def marks(self) -> list[tuple[str, bool]]:
        """Each peer, and whether it was in the newest certificate."""
        return [(name, peer.member in self.certified) for name, peer in sorted(self.peers.items())]

    def _peer(self, event: dict[str, Any]) -> PeerView:
        name = str(event.get("from", ""))
        return self.peers.setdefault(name, PeerView(name))

    def _on_opened(self, event: dict[str, Any]) -> None:
        self.name, self.preset, self.rounds = str(event["name"]), str(event["preset"]), int(event["rounds"])
        self.doing = f"starting {event['peers']} peers"

    _on_resumed = _on_opened

    def _on_preparing(self, event: dict[str, Any]) -> None:
        self.doing = str(event["what"])

    _on_exporting = _on_stopping = _on_settling = _on_waiting = _on_preparing

    def _on_measuring(self, event: dict[str, Any]) -> None:
        self.doing, self.round = (
            str(event["what"]),
            max(self.round, self.rounds),
        )  # all of them are done by now

    def _on_pot_opened(self, event: dict[str, Any]) -> None:
        self.notices.append(f"this run pays {event['price']} tokens for a million accepted tokens of work")

    def _on_epoch_settled(self, event: dict[str, Any]) -> None:
        if int(event["epoch"]) > self.epochs:
            self.epochs, self.settled_round = int(event["epoch"]), int(event["last_round"])

    def _on_claimed(self, event: dict[str, Any]) -> None:
        member = str(event["member"]).removeprefix("0x")
        names = (peer.name for peer in self.peers.values() if peer.member == member)
        self.doing = f"paid {event['amount']} tokens to {next(names, member[:8])}"

    def _on_gas_sent(self, event: dict[str, Any]) -> None:
        self.notices.append(f"sent gas to {event['to']}")

    def _on_settlement_given_up(self, event: dict[str, Any]) -> None:
        self.notices.append(f"the last rounds are not settled: {event['why']}")

    def _on_started(self, event: dict[str, Any]) -> None:
        self.doing = "training"

    def _on_advice(self, event: dict[str, Any]) -> None:
        self.notices.append(f"advice: {event['why']}")

    def _on_data(self, event: dict[str, Any]) -> None:
        self.notices.append(f"data: {event['what']}")

    def _on_downloading(self, event: dict[str, Any]) -> None:
        self._peer(event).doing = f"fetching {event['what']}"

    def _on_invitation(self, event: dict[str, Any]) -> None:
        who = "other machines join" if event["open"] else "peers on this machine join"
        self.notices.append(f"{who} with: distrai join '{event['link']}'")

    def _on_member(self, event: dict[str, Any]) -> None:
        self._peer(event).member = str(event["member"])

    def _on_ready(self, event: dict[str, Any]) -> None:
        if "member" in event:  # the ledger has none
            peer = self._peer(event)
            peer.member, peer.doing = str(event["member"]), "ready"
            self.round = max(self.round, int(event["round"]))

    def _on_step(self, event: dict[str, Any]) -> None:
        peer = self._peer(event)
        peer.doing, peer.loss = f"step {event['step']}", float(event["loss"])

    def _on_trained(self, event: dict[str, Any]) -> None:
        peer, number = self._peer(event), int(event["round"])
        peer.doing, peer.loss = "waiting", float(event["loss"])
        self._losses.setdefault(number, []).append(float(event["loss"]))
        self._tokens[number] = self._tokens.get(number, 0) + int(event["tokens"])
        _keep_newest(self._losses, 2)
        _keep_newest(self._tokens, 2 * SPEED_ROUNDS)

    def _on_applied(self, event: dict[str, Any]) -> None:
        peer, number = self._peer(event), int(event["round"])
        peer.doing, peer.sent = "applied", sum(event.get("bytes", {}).get("up", {}).values())
        self.roots.setdefault(number, {})[peer.name] = str(event["state_root"])
        _keep_newest(self.roots, 4)
        if number <= self.round:
            return
        self.round = number
        self.certified = frozenset(event["members"])
        self._landed = [*self._landed[-SPEED_ROUNDS:], (number, self.clock())]

    def _on_evaluated(self, event: dict[str, Any]) -> None:
        self.held_out = float(event["bits_per_byte"])
        if event.get("accuracy") is not None:
            self._bits = float("nan")  # the loss of a pair is no length of text
        elif float(event["loss"]) > 0:
            self._bits = self.held_out / float(event["loss"])

    def _on_refused(self, event: dict[str, Any]) -> None:
        self.refused += 1
        self.last_refusal = str(event.get("rule", ""))

    _on_equivocation = _on_refused

    def _on_restarting(self, event: dict[str, Any]) -> None:
        if str(event["from"]).startswith("peer-"):
            self._peer(event).doing = "restarting"
        self.notices.append(f"{event['from']} ended and is started again")

    def _on_failed(self, event: dict[str, Any]) -> None:
        self.notices.append(f"{event.get('from', '')}: {event.get('why', '')}")


def _keep_newest(items: dict[int, Any], count: int) -> None:
    for number in sorted(items)[:-count]:
        del items[number]
