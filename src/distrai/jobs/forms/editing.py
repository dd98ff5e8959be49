"""Changing a template of one's own: in the user's editor, with every version kept."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from distrai.jobs.forms.library import Library, Template


class CannotEdit(ValueError):
    """A template cannot be changed like this; the message says what to do."""


def edit_template(
    library: Library, name: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Open a template in $VISUAL or $EDITOR, then take what came of it. Raises CannotEdit or BadHeader."""
    environment = os.environ if environment is None else environment
    template = _own(library, name)
    editor = environment.get("VISUAL") or environment.get("EDITOR") or "vi"
    command = shlex.split(editor)
    if not command or shutil.which(command[0]) is None:
        raise CannotEdit(
            f"there is no editor {editor!r}: set EDITOR, or change {template.path} and say "
            f"`distrai jobs edit {name} --save`"
        )
    done = subprocess.run([*command, str(template.path)], check=False)  # noqa: S603  # the user's own editor
    if done.returncode:
        raise CannotEdit(
            f"{editor} ended with exit code {done.returncode}: nothing was taken from {template.path}"
        )
    return save_template(library, name)


def save_template(library: Library, name: str) -> dict[str, Any]:
    """Take the file of a template as it is now. Raises CannotEdit or BadHeader."""
    _own(library, name)
    before = library.versions(name)
    template = library.save(name)
    diff = library.diff(template, before[-1]) if before else ""
    told = {"ok": True, "template": name, "path": str(template.path), "hash": template.hash, "diff": diff}
    return {**told, "changed": template.hash not in before}


def _own(library: Library, name: str) -> Template:
    template = library.find(name)
    if template.is_shipped:
        raise CannotEdit(
            f"{name} is shipped and stays as it is: make your own with `distrai jobs new {name}`"
        )
    if template.path != library.path(name):
        raise CannotEdit(
            f"{name} is a file of your own: change it with any editor, or `distrai jobs new {name}`"
        )
    return template
