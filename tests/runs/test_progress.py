"""What is shown while a run goes on follows from its events alone, whatever they are."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from distrai.runs.display import JsonLines, LiveDisplay, display_for
from distrai.runs.progress import Progress

OPENED = {"event": "opened", "name": "quick", "preset": "prime", "peers": 2, "rounds": 10, "link": ""}
A, B = "aa" * 32, "bb" * 32


def applied(number: int, peer: int, members: list[str], root: str = "0x12", up: int = 1000) -> dict[str, Any]:
    return {
        "event": "applied",
        "from": f"peer-{peer}",
        "round": number,
        "state_root": root,
        "members": members,
        "bytes": {"up": {"updates": up, "data": 0}, "down": {}},
    }


def trained(number: int, peer: int, loss: float) -> dict[str, Any]:
    return {"event": "trained", "from": f"peer-{peer}", "round": number, "loss": loss, "tokens": 600}


def begun(clock: Any = lambda: 0.0) -> Progress:
    progress = Progress(clock)
    progress.take(OPENED)
    progress.take({"event": "ready", "from": "ledger", "url": "", "chain_id": 1})
    for number, member in enumerate((A, B)):
        progress.take({"event": "ready", "from": f"peer-{number}", "member": member})
    progress.take({"event": "started", "members": {}})
    return progress


def test_the_ledger_is_no_peer() -> None:
    assert sorted(begun().peers) == ["peer-0", "peer-1"]


def test_marks_say_who_was_in_the_newest_certificate() -> None:
    progress = begun()
    progress.take(applied(1, 0, [A, B]))
    progress.take(applied(2, 0, [B]))
    progress.take(applied(1, 1, [A, B]))  # a peer that is late changes nothing of it
    assert progress.round == 2
    assert progress.marks() == [("peer-0", False), ("peer-1", True)]


def test_agreement_counts_peers_and_roots() -> None:
    progress = begun()
    progress.take(applied(1, 0, [A]))
    assert progress.agreement == (1, 2, True)
    progress.take(applied(1, 1, [A], root="0x34"))
    assert progress.agreement == (2, 2, False)


def test_loss_is_shown_in_bits_per_byte() -> None:
    progress = begun()
    progress.take(trained(1, 0, 2.0))
    progress.take(trained(1, 1, 4.0))
    assert progress.train_bits == pytest.approx(3.0 / 0.6931471805599453)
    progress.take({"event": "evaluated", "from": "peer-0", "round": 1, "loss": 3.0, "bits_per_byte": 1.5})
    assert (progress.held_out, progress.train_bits) == (1.5, pytest.approx(1.5))  # tokens longer than a byte


def test_tokens_per_second_are_those_of_all_peers() -> None:
    now = [0.0]
    progress = begun(lambda: now[0])
    for number in range(1, 4):
        for peer in range(2):
            progress.take(trained(number, peer, 1.0))
        now[0] += 3.0
        progress.take(applied(number, 0, [A]))
    assert progress.tokens_per_s == pytest.approx(2 * 600 / 3)


def test_bytes_are_a_mean_over_peers() -> None:
    progress = begun()
    progress.take(applied(1, 0, [A], up=3000))
    progress.take(applied(1, 1, [A], up=1000))
    assert progress.sent_per_peer == 2000


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(
    [
        "opened",
        "resumed",
        "ready",
        "member",
        "step",
        "trained",
        "applied",
        "evaluated",
        "refused",
        "failed",
        "x",
    ]
)
keys = st.sampled_from(
    ["from", "round", "loss", "member", "members", "bytes", "state_root", "name", "rounds", "why"]
)


@given(st.lists(st.tuples(kinds, st.dictionaries(keys, json_values, max_size=6)), max_size=8))
def test_no_event_stops_the_display(events: list[tuple[str, dict[str, Any]]]) -> None:
    out = io.StringIO()
    display = LiveDisplay(Console(file=out, force_terminal=True, width=100))
    for kind, facts in events:
        display.report({**facts, "event": kind})
        Console(file=io.StringIO(), width=100).print(display.picture())


def test_a_terminal_shows_rounds_losses_bytes_and_certificates() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=110)
    display = display_for(console, out, json_lines=False)
    assert isinstance(display, LiveDisplay)
    for event in (
        OPENED,
        {"event": "ready", "from": "peer-0", "member": A},
        {"event": "ready", "from": "peer-1", "member": B},
        {"event": "started"},
        trained(3, 0, 2.0),
        {"event": "evaluated", "loss": 2.0, "bits_per_byte": 2.9},
        applied(3, 0, [A], root="0x1234567890", up=2_000_000),
        applied(3, 1, [A], root="0x1234567890", up=2_000_000),
        {"event": "refused", "from": "peer-0", "rule": "BadSignature"},
        {"event": "restarting", "from": "peer-1"},
    ):
        display.report(event)
    picture = io.StringIO()
    Console(file=picture, width=110).print(display.picture())
    text = picture.getvalue()
    for part in (
        "quick · prime · 2 peers · trusted · training",
        "3/10",
        "held-out 2.900",
        "2 MB sent",
        "certificate 3: ●○",
    ):
        assert part in text
    assert "state root 0x12345678… reported by 2 of 2 peers" in text
    assert "refused so far: 1 messages (last: BadSignature)" in text
    assert "peer-1 ended and is started again" in out.getvalue()


def test_elsewhere_every_event_is_a_line_of_json() -> None:
    out = io.StringIO()
    display = display_for(Console(file=out), out, json_lines=False)
    assert isinstance(display, JsonLines)
    with display:
        display.report(OPENED)
        display.report({"event": "x", "why": "ü"})
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [OPENED, {"event": "x", "why": "ü"}]


def test_json_may_be_asked_for_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(display_for(console, io.StringIO(), json_lines=True), JsonLines)


def test_who_stops_reading_does_not_stop_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    JsonLines(Gone()).report(OPENED)
