"""``distrai jobs check``: whether a template and values will do, and what training takes. Nothing of it is run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.jobs.data.prechecks import check_paths
from distrai.jobs.estimates.estimate import Hardware
from distrai.jobs.forms.library import Library, Template
from distrai.jobs.running.session import Asked, Unclear, complete, form, given


@dataclass(frozen=True)
class Checked:
    """What a check found. ``lacking``: parameters without a value; ``missing``: packages that an environment is made
    for; ``cost``: hours, money and memory, if a GPU was named."""

    template: Template
    values: dict[str, Any]
    lacking: list[str]
    missing: list[str]
    is_ready: bool
    is_accepted: bool
    diff: str
    data: dict[str, Any] | None
    cost: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As one object."""
        return {
            "ok": not self.lacking and (self.data is None or bool(self.data["ok"])),
            "template": self.template.name,
            "hash": self.template.hash,
            "origin": self.template.origin,
            "accepted": self.is_accepted,
            "values": self.values,
            "lacking": self.lacking,
            "form": form(self.template) if self.lacking else None,
            "data": self.data,
            "estimate": self.cost,
            "missing": self.missing,
            "environment": "ready" if self.is_ready else "to be made",
            "diff": self.diff,
        }


def check(
    asked: Asked,
    library: Library,
    base: Path,
    *,
    want_diff: bool,
    hardware: Hardware | None = None,
    parameters: int = 0,
) -> Checked:
    """Check a template and values without running anything; what has no value yet is told, with the form.

    ``parameters``: of the model, where the user says how many. Raises as ``choose_job``.
    """
    from distrai.jobs.estimates.costing import look_at_job
    from distrai.jobs.running.environments import Environments
    from distrai.jobs.running.packages import missing

    if not asked.what:
        raise Unclear("give a template or a script: `distrai jobs list --templates` shows what there is")
    template = library.find(asked.what)
    header = template.header()
    values, lacking = complete(header, asked.preset, given(template, asked), base)
    check_paths(header.kind, header.parameters, values)
    ready = Environments().find(header) is not None
    diff = library.diff(template) if want_diff else ""
    data, cost = look_at_job(header.kind, values, hardware, parameters)
    if hardware is not None and cost is None:
        raise Unclear(
            f"what {template.name} takes is not known here, only what the shipped kinds of training take: leave out "
            "--gpu and --speed"
        )
    accepted = library.is_accepted(template)
    return Checked(template, values, lacking, missing(header), ready, accepted, diff, data, cost)
