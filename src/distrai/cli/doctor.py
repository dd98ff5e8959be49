"""``distrai doctor``: can this machine take part, and if not, what to do about it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell


def doctor(
    what: str | None = None,
    /,
    *,
    home: Path | None = None,
    host: str = "",
    port: int = 0,
    advertise: str = "",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check whether this machine can take part in a run. Exits with 1 if something is in the way.

    Parameters
    ----------
    what
        Also check that a recipe (TOML) fits the machine; or, given the folder of a run or its link, that ledger, peers
        and ports are reachable and keys and disk are in order.
    home
        The home of the peer, as for `distrai join`.
    host
        The address that the peer would listen on; if not given, the one that faces the ledger.
    port
        The port that it would listen on; any if not given.
    advertise
        Where others would reach it, if that is not where it listens.
    json
        Print one JSON object.
    """
    from distrai.runs.doctor import diagnose, diagnosis_text

    is_run = what is not None and (what.startswith("distrai:") or Path(what).is_dir())
    found = diagnose(None if what is None or is_run else Path(what))
    if what is not None and is_run:
        from distrai.runs.checkup import Place, check_up
        from distrai.runs.joining import choose_join

        target = choose_join(what, home)
        found += check_up(target.link, Place(target.home, host, port, advertise))
    ok = all(finding.ok for finding in found)
    told = {"ok": ok, "checks": [finding.to_json() for finding in found]}
    tell(told, diagnosis_text(found), as_json=json)
    return 0 if ok else 1
