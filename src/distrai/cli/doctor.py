"""``distrai doctor``: can this machine take part, and if not, what to do about it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell


def doctor(
    recipe: Path | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check whether this machine can take part in a run. Exits with 1 if something is in the way.

    Parameters
    ----------
    recipe
        Also check that this recipe fits the machine.
    json
        Print one JSON object.
    """
    from distrai.runs.doctor import diagnose, diagnosis_text

    found = diagnose(recipe)
    ok = all(finding.ok for finding in found)
    told = {"ok": ok, "checks": [finding.to_json() for finding in found]}
    tell(told, diagnosis_text(found), as_json=json)
    return 0 if ok else 1
