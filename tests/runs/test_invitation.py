"""The line with which others are asked to join."""

from dataclasses import replace

import pytest

from distrai.peer.link import Link, parse_link
from distrai.protocol.primitives import Address, Hash
from distrai.runs.invitation import Invitation, format_invitation, parse_invitation

INVITATION = Invitation(
    "http://192.0.2.7:8545/a?key=b&c=d", 31337, Address(b"\x01" * 20), 12, Hash(b"\xfe" * 32)
)
TEXT = format_invitation(INVITATION)


def test_it_comes_back_and_is_a_link() -> None:
    assert parse_invitation(f" {TEXT}\n") == INVITATION
    assert parse_link(TEXT) == INVITATION.link
    assert TEXT.isascii() and not set(TEXT) & set(" \t'\"$`\\!")


def test_a_link_without_a_genesis_head_is_a_link_and_no_invitation() -> None:
    link = replace(INVITATION.link, genesis=None)
    assert parse_link(str(link)) == link
    with pytest.raises(ValueError, match="the whole link"):
        parse_invitation(str(link))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://192.0.2.7:8545",
        TEXT.replace("distrai:", "http:"),
        TEXT.replace("0x0101", "0x01"),
        TEXT.replace("/12?", "/twelve?"),
        TEXT.replace("/12?", "/12/13?"),
        TEXT.replace("chain=31337", "chain="),
        TEXT.replace("chain=31337", "chain=-1"),
        TEXT.replace("genesis=fe", "genesis="),
        TEXT[:-1],
        TEXT.replace("rpc=http%3A", "rpc=file%3A"),
        TEXT.replace("rpc=http%3A%2F%2F192.0.2.7%3A8545", "rpc=http%3A%2F%2F192.0.2.7%3Ax"),
        TEXT.partition("&")[0],
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    assert text != TEXT
    with pytest.raises(ValueError, match="link|ledger"):
        parse_invitation(text)


@pytest.mark.parametrize(
    ("url", "far"),
    [("http://127.0.0.1:1", False), ("http://[::1]:1", False), ("http://localhost:1", False),
     ("http://10.0.0.1:1", True), ("https://ledger.example", True)],
)  # fmt: skip
def test_an_address_of_this_machine_alone_means_nothing_elsewhere(url: str, far: bool) -> None:
    assert replace(INVITATION, ledger_url=url).leaves_this_machine is far


def test_links_with_strange_numbers_are_refused() -> None:
    good = str(Link("http://h", 5, Address(bytes(20)), 1))
    assert parse_link(good).run == 1
    for bad in (good.replace("chain=5", "chain=%D9%A5"), good.replace("/1?", "/%D9%A1?")):
        with pytest.raises(ValueError, match="no link"):
            parse_link(bad)
