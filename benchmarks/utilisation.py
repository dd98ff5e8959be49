"""How much of a peer's time is left for training on a slow link: ``sudo python benchmarks/utilisation.py [--quick]``.

Utilisation is certified tokens a second over the tokens a second of as many processes, pinned alike, that train the
same model with communication switched off, just before and just after each run. Peers are processes in network
namespaces whose links ``tc`` limits both ways, to a rate at which synchronous fp32 ``diloco`` computes for about half
of the time.
Finished runs are files, and not made again unless something else used the cores meanwhile (``disturbed``).
``--inner-steps 1000 --only sparseloco-overlap`` adds arms with another H on the same link.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import BENCH, check_settings, destination, report_head, write_json
from distrai.protocol.recipe import RecipeError, parse_recipe
from distrai.runs.recipes import algorithm_spec
from exchange_links import NoNamespaces
from utilisation_arms import ARMS, PLAIN, PLAIN_AIM, PLAIN_MOST, Arm, recipe
from utilisation_figures import (
    Unsteady,
    Window,
    alone_per_cpu_s,
    alone_per_s,
    best,
    figures,
    is_disturbed,
    link_mbit,
    summary,
)
from utilisation_runs import BURST_BYTES, References, network_run

INNER_STEPS = 200
"""H of the claim; the link is chosen for it."""
SLOWER = 0.75
START_S = 180.0
"""How long a run may take beside its rounds; it is 15 seconds where nothing else goes on."""
BYTES_FP32 = 4


@dataclass(frozen=True)
class Setting:
    """What all arms have in common. Runs with other settings are other runs."""

    inner_steps: int = INNER_STEPS
    batch: int = 4
    peers: int = 2
    warm: int = 2
    """Rounds that are left out at the beginning; the first update of an overlapping member has no head start."""
    measured: int = 6
    alone_s: float = 12.0

    @property
    def window(self) -> Window:
        return Window(self.warm, self.warm + self.measured)

    def recipe(self, arm: Arm) -> dict[str, Any]:
        return recipe(arm, self.inner_steps, self.batch, self.peers, self.warm + self.measured)


QUICK = Setting(batch=1, measured=2, alone_s=4.0)


class Session:
    """Measures what is missing. Processes that train alone are started when they are first needed."""

    def __init__(self, setting: Setting, folder: Path, stack: ExitStack) -> None:
        self.setting, self.folder, self.stack = setting, folder, stack
        self.references: References | None = None
        self.last: list[dict[str, float]] | None = None
        """What training alone reached just now."""
        self.tried: set[Path] = set()

    def alone(self) -> list[dict[str, float]]:
        """Train without communication, now."""
        if self.references is None:
            references = References(self.setting.recipe(ARMS[0]), self.setting.peers)
            self.references = self.stack.enter_context(references)
            self.references.train(self.setting.alone_s / 2)  # the first time is slower
        self.last = self.references.train(self.setting.alone_s)
        return self.last

    def compute_s(self) -> float:
        """The seconds of inner steps in a round, by what training alone reached just now."""
        setting = self.setting
        tokens = parse_recipe(setting.recipe(ARMS[0])).data.context * setting.batch * setting.inner_steps
        return tokens * setting.peers / alone_per_s(self.last or self.alone())

    def choose_link(self) -> float:
        """The rate of the link for fp32 updates of this model."""
        alone = self.alone()
        assert self.references is not None
        idle_s = (
            self.compute_s() * alone_per_s(alone) / alone_per_cpu_s(alone)
        )  # as if nobody else were there
        return link_mbit(BYTES_FP32 * self.references.params, idle_s, PLAIN_AIM)

    def cell(self, arm: Arm, mbit: float, repetition: int) -> dict[str, Any]:
        """The figures of a run, made now if they are not there yet, or disturbed. Raises Unsteady, NoNamespaces."""
        path = self.folder / f"{mbit:g}-mbit" / f"{arm.name}-{repetition}.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"disturbed": True}
        if found["disturbed"] and path not in self.tried:
            self.tried.add(path)
            found = self._measured(arm, mbit)
            write_json(path, found)
        return found

    def _measured(self, arm: Arm, mbit: float) -> dict[str, Any]:
        setting = self.setting
        before, limit_s = self.last or self.alone(), START_S + 8 * setting.window.last * self.compute_s()
        try:
            logs, sent = network_run(setting.recipe(arm), mbit, setting.window, limit_s)
        finally:
            self.last = None
        found = figures(logs, setting.window, before, self.alone()) | sent
        return found | {"disturbed": is_disturbed(found["foreign_cpu_share"], found["alone_per_s"])}


def refused(arm: Arm, setting: Setting) -> str | None:
    """Why an arm cannot be run by this version; None if it can."""
    try:
        algorithm_spec(parse_recipe(setting.recipe(arm)).algorithm)
    except RecipeError as error:
        return str(error)
    return None


def measure(session: Session, arms: Sequence[Arm], mbit: float, repetitions: int) -> dict[str, str]:
    """All arms on a link; why some were left out. Repetitions go round, so that none has the worst of the machine."""
    left_out = {arm.name: why for arm in arms if (why := refused(arm, session.setting))}
    for repetition in range(repetitions):
        for arm in arms:
            if arm.name in left_out:
                continue
            try:
                run = session.cell(arm, mbit, repetition)
            except Unsteady as error:
                left_out[arm.name] = str(error)
                continue
            print(f"{arm.name:24} H={session.setting.inner_steps} {shown(run)}", flush=True)
    for name, why in left_out.items():
        print(f"{name}: left out, {why}", flush=True)
    return left_out


def shown(run: Mapping[str, Any]) -> str:
    """A run in a line."""
    extremes = f"{min(run['by_round']):.3f} to {max(run['by_round']):.3f}"
    return (
        f"utilisation {run['utilisation']:.3f} (rounds {extremes}), {run['round_s']:.2f} s a round, "
        f"alone {run['alone_per_s']} tokens/s, payload {run['payload_bytes']} bytes{', DISTURBED' * run['disturbed']}"
    )


def told(setting: Setting, folder: Path, mbit: float) -> dict[str, Any]:
    """All that was measured with a setting on this link, now or earlier."""
    arms = []
    for arm in ARMS:
        paths = sorted((folder / f"{mbit:g}-mbit").glob(f"{arm.name}-[0-9].json"))
        if paths:
            arms.append(told_arm(arm, setting, [json.loads(path.read_text()) for path in paths]))
    return asdict(setting) | {"link_mbit": mbit, "arms": arms, "best": best(arms)}


def told_arm(arm: Arm, setting: Setting, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An arm in the report."""
    spec = algorithm_spec(parse_recipe(setting.recipe(arm)).algorithm)
    return {
        "arm": arm.name,
        "algorithm": arm.algorithm(setting.inner_steps),
        "inner_state": spec.inner_state,
        "utilisation": summary(runs),
        "runs": list(runs),
    }


def link_of(folder: Path, given: float | None, session: Session) -> float:
    """The rate of the link: as given, as measured before, or chosen now. Exits where H is not that of the choice."""
    path = folder / "link.json"
    if given is not None:
        write_json(path, {"mbit": given, "chosen": False})
    elif not path.exists():
        if session.setting.inner_steps != INNER_STEPS:
            sys.exit(f"no link yet: measure with H = {INNER_STEPS} first, or give --mbit")
        write_json(path, {"mbit": session.choose_link(), "chosen": True})
    return float(json.loads(path.read_text())["mbit"])


def slow_enough(folder: Path, session: Session, mbit: float) -> float:
    """The link's rate once synchronous diloco is as slow there as it is meant to be (a disturbed run says nothing)."""
    plain = next(arm for arm in ARMS if arm.name == PLAIN)
    while (run := session.cell(plain, mbit, 0))["utilisation"] >= PLAIN_MOST and not run["disturbed"]:
        mbit *= SLOWER
        write_json(folder / "link.json", {"mbit": mbit, "chosen": True})
    return mbit


def report(folder: Path, name: str, keep: bool) -> Path:
    """Write all settings measured on this link, and the best arm of any H; where that is."""
    parts = [json.loads(path.read_text()) for path in sorted(folder.glob("h*/report.json"))]
    mbit = json.loads((folder / "link.json").read_text())["mbit"]
    parts = [part for part in parts if part["link_mbit"] == mbit]
    found = [part["best"] | {"inner_steps": part["inner_steps"]} for part in parts if part["best"]]
    free = max(found, key=_reached, default=None)
    link = {"mbit_both_ways": mbit, "tbf_burst_bytes": BURST_BYTES, "ledger": "its own namespace, no limit"}
    to = destination(name, keep)
    write_json(to, report_head() | {"link": link, "settings": parts, "best_of_any_inner_steps": free})
    return to


def _reached(best_arm: Mapping[str, Any]) -> float:
    return float(best_arm["utilisation"])


def main() -> None:
    """Measure what is missing, and write all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller batches, fewer rounds; apart from the others"
    )
    parser.add_argument("--only", default="", help="arms, with commas between")
    parser.add_argument("--repetitions", type=int, choices=range(1, 10), default=1)
    parser.add_argument("--inner-steps", type=int, default=INNER_STEPS, help="H")
    parser.add_argument("--mbit", type=float, help="the rate of the links, instead of choosing it")
    parser.add_argument("--keep", action="store_true", help="write to benchmarks/results, not to build/bench")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name]
    if unknown := {*names} - {arm.name for arm in ARMS}:
        parser.error(f"no arms {sorted(unknown)}; there are {', '.join(arm.name for arm in ARMS)}")
    arms = [arm for arm in ARMS if not names or arm.name in names]
    name = "utilisation-quick" if options.quick else "utilisation"
    setting = replace(QUICK if options.quick else Setting(), inner_steps=options.inner_steps)
    folder = BENCH / name
    here = folder / f"h{setting.inner_steps}"
    check_settings(here, asdict(setting))
    try:
        with ExitStack() as stack:
            session = Session(setting, here, stack)
            mbit = link_of(folder, options.mbit, session)
            if setting.inner_steps == INNER_STEPS and options.mbit is None:
                mbit = slow_enough(folder, session, mbit)
            left_out = measure(session, arms, mbit, options.repetitions)
    except (Unsteady, NoNamespaces) as error:
        sys.exit(f"utilisation: {error}")
    write_json(here / "report.json", told(setting, here, mbit) | {"left_out": left_out})
    print(f"numbers: {report(folder, name, options.keep)}")


if __name__ == "__main__":
    main()
