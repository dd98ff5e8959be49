"""The verbs about money as a whole: each has --json and help, and none is slow to explain itself."""

import re

import pytest

from distrai.cli.main import main

GROUPS = {"wallet": ("new", "show", "import"), "ledger": ("serve", "deploy", "verify")}


@pytest.mark.parametrize(("group", "verb"), [(group, verb) for group in GROUPS for verb in GROUPS[group]])
def test_every_verb_of_a_group_has_json(group: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group, verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_names_its_verbs(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 0
    text = capsys.readouterr().out
    assert all(f" {verb} " in text for verb in GROUPS[group])


@pytest.mark.parametrize(
    "verb", ["wallet new", "wallet show", "wallet import", "stake", "claim", "ledger deploy"]
)
def test_no_verb_takes_a_password_or_a_key_as_an_argument(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb.split(), "--help"]) == 0
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert "--password-file" in options
    assert not options & {"--password", "--key", "--private-key", "--secret", "--mnemonic"}


def test_waiting_and_filters_are_checked_by_type(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["unstake", "/", "--wait", "soon"], ["estimate", "/", "--rounds", "many"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("distrai: ")
