"""After the last round: held-out loss, a Hugging Face folder with a model card, a sample, the summary."""

import asyncio
import json
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from distrai.ledger.keys import NodeKey
from distrai.protocol.blobs import blob_ref
from distrai.protocol.recipe import Recipe, to_mapping
from distrai.runs.anchor import ledger_state
from distrai.runs.archive import NothingPublished
from distrai.runs.chain import open_owner
from distrai.runs.folder import RunFolder, write_json
from distrai.runs.local import Report
from distrai.runs.opened import OpenedRun
from distrai.runs.payday import INTERRUPTED, NOT_FINISHED, Payday, pay
from distrai.runs.recording import publish_manifest, result_of
from distrai.runs.summary import Facts, Final, Summary, summarise
from distrai.training.adapters import save_adapter
from distrai.training.card import ModelCard
from distrai.training.data.chat import write_chat_template
from distrai.training.export import export_model, export_tokenizer
from distrai.training.scoring import is_scored, tokens_of

SAMPLE_CHARACTERS = 300
SAMPLE_TEMPERATURE = 0.8
CODE_PROMPT = "def "
PROMPT_CHARACTERS = 40
"""How much of a held-out text the sample goes on from, where the data is no code."""


def finish(folder: RunFolder, device: str, report: Report, owner: NodeKey | None = None) -> Summary:
    """Measure, export, pay out and summarise a run that has done its rounds.

    ``owner``: the opener's key, if it is at hand. Raises NoRun, NothingPublished, LedgerError. Interrupted (Ctrl-C)
    while it pays, it says how far that has come.
    """
    facts = Facts.gather(folder, asyncio.run(ledger_state(folder)))
    final = _measured(folder)
    if final is None:
        report({"event": "measuring", "what": "held-out loss before the first and after the last round"})
        run = OpenedRun.open(folder, device)
        final = measure(run)
        report({"event": "exporting", "what": f"the model, to {folder.model}"})
        final = replace(final, model_path=str(folder.model))
        summary = summarise(facts, final)
        export(run, summary, folder.model)
        if facts.resolved.contracts is not None:
            publish_manifest(folder)
            summary = replace(summary, money={"done": False})
        write_json(folder.summary, summary.to_json())
    summary = summarise(facts, final, _paid(folder, facts, report, owner))
    write_json(folder.summary, summary.to_json())
    return summary


def partial(folder: RunFolder, owner: NodeKey | None = None) -> Summary | None:
    """Summarise a run that was stopped, and write that down; None if it never came to its start."""
    try:
        facts = Facts.gather(folder, asyncio.run(ledger_state(folder)))
    except NothingPublished:
        return None
    if not facts.ledger.started:
        return None
    summary = summarise(facts, None, _seen(folder, facts, owner, NOT_FINISHED))
    write_json(folder.summary, summary.to_json())
    return summary


def _paid(folder: RunFolder, facts: Facts, report: Report, owner: NodeKey | None) -> Payday | None:
    """What came of paying out; None for a run without money."""
    if facts.resolved.contracts is None:
        return None
    key = owner or open_owner(folder)
    result = result_of(folder, facts.logs, facts.ledger.round, blob_ref(folder.manifest.read_bytes()).hash)
    try:
        return asyncio.run(pay(folder, key, report, result))
    except KeyboardInterrupt:
        return _seen(folder, facts, key, INTERRUPTED)


def _seen(folder: RunFolder, facts: Facts, owner: NodeKey | None, why: str) -> Payday | None:
    """What members of a run that goes on later have until now."""
    if facts.resolved.contracts is None or owner is None:
        return None
    return asyncio.run(pay(folder, owner, lambda _: None, None, undone=why))


def measure(run: OpenedRun) -> Final:
    """Held-out loss of the initial and of the newest state, and a sample of what that writes."""
    samples = run.resolved.recipe.evaluation.samples_final
    run.load(run.archive.initial_state(run.resolved))
    before = run.measure(samples)
    run.load_newest()
    after = run.measure(samples)
    prompt = prompt_for(run)
    return Final(
        loss_start=before.loss,
        loss_end=after.loss,
        bits_per_byte_start=before.bits_per_byte,
        bits_per_byte_end=after.bits_per_byte,
        accuracy_start=before.accuracy,
        accuracy_end=after.accuracy,
        samples=after.samples,
        sample_prompt=prompt,
        sample=sample(run, prompt),
    )


def prompt_for(run: OpenedRun) -> str:
    """Something in the manner of the data for the model to go on from."""
    if run.resolved.recipe.data.source == "python-stdlib":
        return CODE_PROMPT
    row = run.held_out.batch([0])[0]
    if run.manifest.chat is None:
        return run.tokenizer.decode(row.tolist())[:PROMPT_CHARACTERS] or CODE_PROMPT
    asked = tokens_of(row)[: int(is_scored(row).int().argmax())]  # what stands before the first answer
    return run.tokenizer.decode(asked.tolist())


def sample(run: OpenedRun, prompt: str) -> str:
    """About ``SAMPLE_CHARACTERS`` of text after ``prompt``: a token is at least a byte of it."""
    pieces = run.write(prompt, tokens=SAMPLE_CHARACTERS, temperature=SAMPLE_TEMPERATURE)
    characters = (character for piece in pieces for character in piece)
    return "".join(islice(characters, SAMPLE_CHARACTERS))


@dataclass(frozen=True)
class Exported:
    """Where a model was written, and after which round."""

    folder: Path
    round: int


def export_run(folder: RunFolder, to: Path | None, device: str = "cpu", *, adapter: bool = False) -> Exported:
    """Write the newest model of a run as a Hugging Face folder; ``adapter``: its adapter alone, as peft reads it.

    Raises NoRun, NothingPublished, LedgerError, ExportRefused.
    """
    target = (folder.path / "adapter" if adapter else folder.model) if to is None else to
    if target.exists() and (not target.is_dir() or _is_foreign(target)):
        raise ExportRefused(f"{target} is there and is no exported model: choose another folder with --to")
    facts = Facts.gather(folder, asyncio.run(ledger_state(folder)))
    run = OpenedRun.open(folder, device)
    number = run.load_newest()
    summary = summarise(facts, _measured(folder))
    if adapter:
        export_adapter(run, summary, target)
    else:
        export(run, summary, target)
    return Exported(target, number)


class ExportRefused(ValueError):
    """Exporting would write into something that is not ours."""


def export(run: OpenedRun, summary: Summary, to: Path) -> None:
    """Write the model that is loaded, with a card."""
    context = run.resolved.recipe.data.context
    export_model(run.whole(), run.tokenizer, model_card(run, summary), context, to)
    _export_chat(run, to)


def _export_chat(run: OpenedRun, to: Path) -> None:
    if run.manifest.chat is not None:
        write_chat_template(run.manifest.chat, to)


def export_adapter(run: OpenedRun, summary: Summary, to: Path) -> None:
    """Write the adapter that is loaded, with a card. Raises ExportRefused for a run that trains none."""
    model, context = run.resolved.recipe.model, run.resolved.recipe.data.context
    if model.adapter is None:
        raise ExportRefused("this run trains the model itself and no adapter: leave out --adapter")
    if model.source != "pretrained":
        raise ExportRefused(
            "the base of this run was drawn for it and is nowhere else: leave out --adapter, for the merged model"
        )
    save_adapter(run.adapted(), model.path, to)
    export_tokenizer(run.tokenizer, context, to)
    _export_chat(run, to)
    card = model_card(run, summary, adapter=True)
    (to / "README.md").write_text(card.to_markdown(), encoding="utf-8")


def model_card(run: OpenedRun, summary: Summary, *, adapter: bool = False) -> ModelCard:
    """The model card; a loss that nobody measured is not a number."""
    recipe, unknown, base = run.resolved.recipe, float("nan"), run.resolved.base
    teacher = recipe.teacher
    told: dict[str, Any] = {name: getattr(summary, name) for name in _SAME}
    for name in _LOSSES:
        loss = getattr(summary, name)
        told[name] = unknown if loss is None else loss
    return ModelCard(
        **told,
        theme=recipe.theme,
        recipe=json.dumps(_public_recipe(recipe), indent=2, ensure_ascii=False),
        model_license=recipe.model.license,
        data_source=recipe.data.source,
        data_license=recipe.data.license,
        parameters=summary.params_total,
        trained=summary.params if summary.params != summary.params_total else 0,
        base=_public(recipe.model.path),
        base_hash="" if base is None else "0x" + base.hash.hex(),
        objective=recipe.training.objective,
        teacher="" if teacher is None else _public(teacher.path),
        teacher_license="" if teacher is None else teacher.license,
        adapter=adapter,
    )


def _public(path: str) -> str:
    """What a card says of where a model came from: a name on the hub, of a folder only its own."""
    is_folder = path.startswith((".", "/", "~")) or path.count("/") > 1
    return Path(path).name if is_folder else path


def _public_recipe(recipe: Recipe) -> dict[str, Any]:
    told = to_mapping(recipe)
    for table in ("model", "teacher"):
        if told.get(table, {}).get("path"):
            told[table]["path"] = _public(told[table]["path"])
    return told


_LOSSES = ("loss_start", "loss_end", "bits_per_byte_start", "bits_per_byte_end")
_SAME = (
    "name",
    "preset",
    "recipe_hash",
    "corpus_hash",
    "peers",
    "rounds",
    "tokens",
    "payload_up_per_peer",
    "bytes_up_per_peer",
    "bytes_down_per_peer",
    "bytes_ddp_per_peer",
    "run_id",
    "state_root",
    "head",
)


def _measured(folder: RunFolder) -> Final | None:
    """What was measured when the run was done."""
    if not folder.is_finished():
        return None
    told, sample = folder.told(), folder.told().get("sample") or {"prompt": "", "text": ""}
    return Final(
        **{name: told[name] for name in _LOSSES},
        accuracy_start=told.get("accuracy_start"),
        accuracy_end=told.get("accuracy_end"),
        samples=told["evaluation_samples"],
        model_path=told.get("model_path"),
        sample_prompt=sample["prompt"],
        sample=sample["text"],
    )


def _is_foreign(target: Path) -> bool:
    ours = ("config.json", "adapter_config.json")
    return any(target.iterdir()) and not any((target / name).exists() for name in ours)
