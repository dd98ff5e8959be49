"""What ``distrai models`` prints: plain data for programs, and the same for people."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from distrai.jobs.hub.pull import Pulled
from distrai.jobs.hub.push import Pushed
from distrai.jobs.models.sealed import told_within
from distrai.jobs.models.store import ModelStore, Saved


def told_of(saved: Saved) -> dict[str, Any]:
    """A model as plain data."""
    origin = {name: value for name, value in asdict(saved.manifest.origin).items() if value}
    return {
        "name": saved.name,
        "location": saved.location,
        "manifest": saved.manifest.hash,
        "files": len(saved.manifest.files),
        "bytes": saved.manifest.size,
        "origin": origin,
    }


def list_text(store: ModelStore, found: Sequence[Saved], broken: Sequence[str]) -> str:
    """The models of a store."""
    if not found and not broken:
        return f"no models in {store.place.url} yet"
    lines = []
    for saved in found:
        origin = saved.manifest.origin
        facts = [
            f"{saved.manifest.size / 1e6:,.1f} MB",
            f"{origin.kind}{f' from {origin.base_model}' if origin.base_model else ''}"
            if origin.kind
            else "",
            f"record {origin.record}" if origin.record else "",
            origin.source,
            told_within(origin),
        ]
        lines.append(f"{saved.name}  {', '.join(fact for fact in facts if fact)}")
        lines.append(f"  manifest {saved.manifest.hash}")
    lines += [f"{name}  broken: its manifest cannot be read; pull it or save it again" for name in broken]
    return "\n".join(lines)


def told_of_push(saved: Saved, done: Pushed) -> dict[str, Any]:
    """What was pushed, as plain data."""
    told = {name: value for name, value in asdict(done).items() if name != "others"}
    return {
        "ok": True,
        "name": saved.name,
        "manifest": saved.manifest.hash,
        **told,
        "others": list(done.others),
    }


def push_text(saved: Saved, done: Pushed) -> str:
    """What was pushed."""
    within = told_within(saved.manifest.origin)
    lines = [
        f"{saved.name} is at {done.url}, {'private' if done.private else 'public'}, commit {done.commit[:12]}",
        f"  manifest {saved.manifest.hash}",
        f"  {within}" if within else f'  load it: AutoModelForCausalLM.from_pretrained("{done.repo}")',
    ]
    if done.others:
        lines.append(f"  the repository has other files too: {_few(done.others)}")
    if done.note:
        lines.append(f"  note: {done.note}")
    return "\n".join(lines)


def told_of_pull(done: Pulled) -> dict[str, Any]:
    """What was pulled, as plain data."""
    return {
        "ok": True,
        **told_of(done.saved),
        "commit": done.commit,
        "sealed": done.sealed,
        "left": list(done.left),
    }


def pull_text(done: Pulled) -> str:
    """What was pulled."""
    seal = (
        "every file is as its publisher's manifest says"
        if done.sealed
        else "it came without a manifest: nothing shows that it is as it was published"
    )
    lines = [
        f"{done.saved.name} is in {done.saved.location}; {seal}",
        f"  manifest {done.saved.manifest.hash}",
    ]
    if done.left:
        lines.append(f"  not pulled: {_few(done.left)}")
    return "\n".join(lines)


def verify_text(told: dict[str, Any]) -> str:
    """What comparing showed."""
    lines = [f"{told['name']}: {told['files']} files, manifest {told['manifest']}"]
    lines += [f"  {why}" for why in told["wrong"]]
    if told["extra"]:
        lines.append(f"  beside the model: {_few(told['extra'])}")
    if told["within"]:
        lines.append(f"  {told['within']}")
    if told["note"]:
        lines.append(f"  {told['note']}")
    if told["record"]:
        lines.append(f"  compared with training record {told['record']}")
    elif told["ok"] and not told["expected"]:
        lines.append(
            "  this does not say who made it: compare it with the ledger's record (--rpc, --deployment)"
        )
    return "\n".join([*lines, "  all is well" if told["ok"] else "  this is not the model that it should be"])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
