import importlib.util
from email.message import Message
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool("check_licences")


def package(**fields: str) -> Any:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return SimpleNamespace(metadata=message)


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "Apache 2.0",
        "MIT OR GPL-3.0-only",
        "Apache-2.0 AND MIT",
        "(MIT OR GPL-2.0-only) AND BSD-3-Clause",
        "((MIT))",
        "Apache-2.0 WITH LLVM-exception",
    ],
)
def test_permissive_licences_are_allowed(expression: str) -> None:
    assert tool.is_allowed(expression, "some-package")


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-only",
        "LGPL-2.1-or-later",
        "AGPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "MIT AND (LGPL-2.1-only OR GPL-2.0-only)",
        "(MIT) AND (GPL-2.0-only)",
        "MPL-2.0",
        "unknown",
        "",
        "(MIT",
    ],
)
def test_everything_else_is_refused(expression: str) -> None:
    assert not tool.is_allowed(expression, "some-package")


def test_file_level_copyleft_is_for_named_packages() -> None:
    assert tool.is_allowed("MPL-2.0 AND MIT", "tqdm")
    assert not tool.is_allowed("MPL-2.0 AND MIT", "other")


def test_where_a_licence_is_stated() -> None:
    classifier = "License :: OSI Approved :: MIT License"
    assert tool.licence_of(package(License_Expression="MIT-0", License="GPL")) == "MIT-0"
    assert tool.licence_of(package(License="Apache 2.0")) == "Apache 2.0"
    assert tool.licence_of(package(License="A long\ntext", Classifier=classifier)) == "MIT"
    assert tool.licence_of(package(Classifier="License :: OSI Approved")) == "unknown"
    assert tool.licence_of(package()) == "unknown"


def test_what_we_ship_is_found_and_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    names = [item.metadata["Name"].lower() for item in tool.shipped(tool.ROOT)]
    assert {"torch", "web3", "msgspec", "trl"} <= set(names)
    assert not {"pytest", "distrai"} & set(names)
    assert tool.main() == 0, capsys.readouterr().err


def test_a_refused_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "shipped", lambda root: [package(Name="evil", License="GPL-3.0-only")])
    assert tool.main() == 1
    assert "evil" in capsys.readouterr().err
