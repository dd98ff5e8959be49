"""Where this machine is, seen from a ledger."""

import socket

import pytest

from distrai.peer.__main__ import options
from distrai.peer.reach import is_private, own_address_towards

LINK = "distrai://0x" + "01" * 20 + "/1?rpc=http%3A%2F%2F127.0.0.1%3A1&chain=5"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8545", "http://localhost"])
def test_a_ledger_on_this_machine_is_asked_from_this_machine(url: str) -> None:
    assert own_address_towards(url) == "127.0.0.1"


def test_nothing_can_be_said_of_a_ledger_that_has_no_address() -> None:
    with pytest.raises(ValueError, match="names no host"):
        own_address_towards("http://")


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://127.0.0.1:1", True),
        ("http://10.1.2.3:1", True),
        ("http://192.168.1.20", True),
        ("https://[fd00::7]:1", True),
        ("http://8.8.8.8:1", False),
        ("https://[2001:4860:4860::8888]", False),
    ],
)
def test_a_run_is_as_private_as_its_ledger(url: str, private: bool) -> None:
    assert is_private(url) is private


def test_a_name_is_private_only_if_all_its_addresses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a name that somebody gives would open the way into private networks."""

    def both(*_: object, **__: object) -> list[object]:
        kinds = (socket.AF_INET, socket.SOCK_DGRAM, 17, "")
        return [(*kinds, (host, 1)) for host in ("10.0.0.1", "8.8.8.8")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert not is_private("http://ledger.example:1")


@pytest.mark.parametrize(("flags", "local"), [([], None), (["--local"], True), (["--no-local"], False)])
def test_a_flag_says_otherwise(flags: list[str], local: bool | None) -> None:
    read = options(["--home", "h", "--link", LINK, *flags])
    assert (read.local, read.host, read.port, read.advertise) == (local, "", 0, "")
