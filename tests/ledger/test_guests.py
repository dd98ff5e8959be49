"""What the embedded chain gives to other machines, and that this one has no limit."""

import socket
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest

from distrai.ledger.embedded.guests import Allowances, GuestLimits, is_this_machine, listen, machine_of
from distrai.ledger.embedded.methods import METHODS
from distrai.ledger.embedded.server import serve

QUESTION = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}


def test_time_is_used_up_and_comes_back(clock: Any) -> None:
    allowances = Allowances(GuestLimits(share=0.25, saved_s=2.0), clock)
    allowances.charge("one", 1.5)
    assert allowances.may_ask("one")
    allowances.charge("one", 1.5)
    assert not allowances.may_ask("one") and allowances.may_ask("other")
    clock.now += 3.9
    assert not allowances.may_ask("one")
    clock.now += 0.2
    assert allowances.may_ask("one")
    clock.now += 1000  # no more than so much is saved
    allowances.charge("one", 2.1)
    assert not allowances.may_ask("one")


def test_what_is_remembered_is_bounded(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distrai.ledger.embedded.guests._MACHINES_MAX", 3)
    allowances = Allowances(GuestLimits(saved_s=1.0), clock)
    for number in range(10):
        allowances.charge(str(number), 5.0)
    assert len(allowances._left) == 3
    assert not allowances.may_ask("9")


@pytest.mark.parametrize(
    ("address", "machine"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_a_machine_is_an_address_or_a_network_of_them(address: str, machine: str) -> None:
    assert machine_of(address) == machine


@pytest.mark.parametrize(
    ("remote", "own", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False),
    ],
)
def test_who_is_this_machine(remote: str, own: str, same: bool) -> None:
    assert is_this_machine(remote, own) is same


def everybody_is_a_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("guests", "server"):
        monkeypatch.setattr(f"distrai.ledger.embedded.{module}.is_this_machine", lambda remote, own: False)


async def statuses(url: str, count: int, host: str | None = None) -> list[int]:
    headers = {} if host is None else {"Host": host}
    async with aiohttp.ClientSession() as session:
        found = []
        for _ in range(count):
            async with session.post(url, json=QUESTION, headers=headers) as answer:
                found.append(answer.status)
        return found


async def test_a_guest_in_debt_is_told_to_wait(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = GuestLimits(share=1e-9, saved_s=1e-9)
    async with serve(chain, "127.0.0.1", 0, limits=limits) as url:
        assert await statuses(url, 3) == [200, 200, 200]  # this machine
    everybody_is_a_guest(monkeypatch)
    async with serve(chain, "127.0.0.1", 0, limits=limits) as url:
        assert await statuses(url, 3) == [200, 429, 429]


async def test_names_are_answered_if_they_are_given(chain: Any) -> None:
    async with serve(chain, "127.0.0.1", 0, names=["Ledger.Example"]) as url:
        assert await statuses(url, 1, "ledger.example:4100") == [200]
        assert await statuses(url, 1, "other.example") == [403]


async def test_all_addresses_are_served_and_told_as_one_that_works(chain: Any) -> None:
    async with serve(chain, "0.0.0.0", 0) as url:
        assert url.startswith("http://127.0.0.1:")
        assert await statuses(url, 1) == [200]


def accepted(listener: socket.socket, stack: ExitStack) -> socket.socket:
    """A connection to a listener, as the listener sees it."""
    stack.enter_context(socket.create_connection(listener.getsockname()))
    listener.setblocking(True)
    connection, _ = listener.accept()
    return stack.enter_context(connection)


@pytest.mark.parametrize("limits", [GuestLimits(connections=2), GuestLimits(connections_of_all=2)])
def test_connections_of_guests_are_limited(limits: GuestLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0, limits))
        listener.listen()
        for _ in range(4):
            accepted(listener, stack)  # this machine is not limited
        everybody_is_a_guest(monkeypatch)
        first = accepted(listener, stack)
        accepted(listener, stack)
        with pytest.raises(ConnectionAbortedError):
            accepted(listener, stack)
        first.close()
        accepted(listener, stack)


def test_nothing_unlocks_signs_or_administers() -> None:
    writing = {name for name in METHODS if "send" in name.lower()}
    assert writing == {"eth_sendRawTransaction"}
    assert {name.partition("_")[0] for name in METHODS} == {"eth", "net", "web3"}
    assert not {"eth_accounts", "eth_sign", "eth_sendTransaction"} & set(METHODS)
