"""Where a run listens, and what it tells others of that."""

import pytest

from distrai.runs.listening import CannotListen, Listening


def test_without_more_nothing_leaves_this_machine() -> None:
    listening = Listening()
    assert not listening.is_open
    assert listening.told("http://127.0.0.1:5") == "http://127.0.0.1:5"
    assert "--name" not in listening.ledger_arguments()
    assert listening.peer_arguments(3)[:4] == ["--host", "127.0.0.1", "--port", "0"]


def test_ports_follow_each_other() -> None:
    listening = Listening("192.0.2.7", port=4100)
    assert listening.is_open
    assert listening.ledger_arguments() == ["--listen", "192.0.2.7", "--port", "4100"]
    assert [listening.peer_arguments(number)[3] for number in range(2)] == ["4101", "4102"]


@pytest.mark.parametrize(
    ("advertise", "url"),
    [
        ("192.0.2.7", "http://192.0.2.7:4100"),
        ("2001:db8::1", "http://[2001:db8::1]:4100"),
        ("run.example", "http://run.example:4100"),
    ],
)
def test_others_are_told_what_they_see(advertise: str, url: str) -> None:
    listening = Listening("0.0.0.0", advertise)
    assert listening.told("http://127.0.0.1:4100") == url
    assert listening.peer_arguments(0)[-2:] == ["--advertise", advertise]
    assert ("--name" in listening.ledger_arguments()) == (advertise == "run.example")


@pytest.mark.parametrize(
    ("address", "advertise", "port"),
    [
        ("", "", 0),
        ("my-machine", "", 0),
        ("0.0.0.0", "", 0),
        ("::", "", 0),
        ("0.0.0.0", "0.0.0.0", 0),
        ("0.0.0.0", "run.example:80", 0),
        ("0.0.0.0", "http://run.example", 0),
        ("0.0.0.0", "a@b", 0),
        ("0.0.0.0", "a b", 0),
        ("127.0.0.1", "", -1),
        ("127.0.0.1", "", 65536),
    ],
)
def test_what_cannot_be_is_said(address: str, advertise: str, port: int) -> None:
    with pytest.raises(CannotListen, match="--(listen|advertise|port)"):
        Listening(address, advertise, port)
