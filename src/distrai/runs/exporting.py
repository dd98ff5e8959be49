"""The model of a run, or its adapter, as a Hugging Face folder with a card that names no folder of this machine."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrai.protocol.recipe import Recipe, ResolvedRecipe, to_mapping
from distrai.runs.anchor import ledger_state
from distrai.runs.folder import RunFolder
from distrai.runs.measuring import LOSSES, measured
from distrai.runs.opened import OpenedRun
from distrai.runs.summary import Facts, Summary, summarise
from distrai.training.adapters import save_adapter
from distrai.training.card import CARD_HEAD, ModelCard, written_here
from distrai.training.data.chat import write_chat_template
from distrai.training.export import export_model, export_tokenizer

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


@dataclass(frozen=True)
class Exported:
    """Where a model was written, and after which round."""

    folder: Path
    round: int
    base: str = ""
    """Of an adapter: the name of what it belongs on; of a folder its last part, with the hash of what was frozen."""
    replaced: bool = False
    """Whether an exported model was there already."""


def export_run(folder: RunFolder, to: Path | None, device: str = "cpu", *, adapter: bool = False) -> Exported:
    """Write the newest model of a run as a Hugging Face folder; ``adapter``: its adapter alone, as peft reads it.

    Raises NoRun, NothingPublished, LedgerError, ExportRefused.
    """
    target = (folder.path / "adapter" if adapter else folder.model) if to is None else to
    if target.exists() and (not target.is_dir() or _is_foreign(target, adapter)):
        raise ExportRefused(
            f"{target} is there and was not exported from a run: choose another folder with --to"
        )
    replaced = (target / "README.md").exists()
    facts = Facts.gather(folder, asyncio.run(ledger_state(folder)))
    run = OpenedRun.open(folder, device)
    number = run.load_newest()
    summary = summarise(facts, measured(folder))
    if adapter:
        export_adapter(run, summary, target)
    else:
        export(run, summary, target)
    return Exported(target, number, base_name(run.resolved) if adapter else "", replaced)


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
    save_adapter(run.adapted(), base_name(run.resolved), to)
    export_tokenizer(run.tokenizer, context, to)
    _export_chat(run, to)
    card = model_card(run, summary, adapter=True)
    (to / "README.md").write_text(card.to_markdown(), encoding="utf-8")


def model_card(run: OpenedRun, summary: Summary, *, adapter: bool = False) -> ModelCard:
    """The model card; a loss that nobody measured is not a number."""
    recipe, unknown, base = run.resolved.recipe, float("nan"), run.resolved.base
    teacher = recipe.teacher
    told: dict[str, Any] = {name: getattr(summary, name) for name in _SAME}
    for name in LOSSES:
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


def base_name(resolved: ResolvedRecipe) -> str:
    """What an adapter names as its base: an id on the hub, or what no hub has: a folder's name and its hash."""
    path, base = resolved.recipe.model.path, resolved.base
    name = _public(path)
    return name if base is None or not _is_folder(path) else f"{name}@blake3:{base.hash.hex()}"


def _is_folder(path: str) -> bool:
    return path.startswith((".", "/", "~")) or path.count("/") > 1 or Path(path).is_dir()


def _public(path: str) -> str:
    """What a card says of where a model came from: a name on the hub, of a folder only its own."""
    return Path(path).name if _is_folder(path) else path


def _public_recipe(recipe: Recipe) -> dict[str, Any]:
    told = to_mapping(recipe)
    for table in ("model", "teacher"):
        if told.get(table, {}).get("path"):
            told[table]["path"] = _public(told[table]["path"])
    data = told["data"]
    if data.get("globs"):
        data["globs"] = [_ending(glob) for glob in data["globs"]]
    if data.get("tokenizer"):
        data["tokenizer"] = _public(data["tokenizer"])
    return told


def _ending(glob: str) -> str:
    """A glob without the way out of the recipe's folder: its last part, if it leads out."""
    return Path(glob).name if glob.startswith(("..", "/", "~")) else glob


def _is_foreign(target: Path, adapter: bool) -> bool:
    """Whether a folder holds what no export of the same kind wrote: its card says what it is."""
    if not any(target.iterdir()):
        return False
    card, config = target / "README.md", target / ("adapter_config.json" if adapter else "config.json")
    return not config.is_file() or not card.is_file() or not written_here(card.read_bytes()[:CARD_HEAD])
