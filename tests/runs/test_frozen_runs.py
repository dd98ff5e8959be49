"""A run on a model that stays as it was: all comes out of the archive, and a plain model comes out of the run."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distrai.network.store import BlobStore
from distrai.peer.learner import needs_reference, read_manifest
from distrai.protocol.recipe import PreferenceSection, RecipeError, ResolvedRecipe, parse_recipe
from distrai.runs.archive import Archive, NothingPublished
from distrai.runs.exporting import ExportRefused, base_name, export, export_adapter
from distrai.runs.measuring import measure
from distrai.runs.needs import model_text, needs_of
from distrai.runs.opened import OpenedRun
from distrai.runs.published import ReplayFailed
from distrai.runs.resolving import resolve
from distrai.runs.summary import Summary
from distrai.runs.verify import _check_data
from distrai.training.errors import (
    BadFrozenModel,
    CannotLoadModel,
    ContextTooLong,
    TeacherDiffers,
    WrongTensors,
)
from distrai.training.model import load_trainable, read_trainable
from helpers.archives import ArchiveMaker
from helpers.learning import PAIRS, mapping_on, opened_on, resolved_on, save_model
from helpers.rounds import authors

Opens = Callable[..., OpenedRun]
ADAPTER = {"r": 2, "alpha": 4.0}


@pytest.fixture
def opens(tmp_path: Path) -> Opens:
    """Opens a run on a model that is gone when it is open."""

    def made(**tables: dict[str, Any]) -> OpenedRun:
        folder = tmp_path / "texts"
        folder.mkdir()
        if "teacher" in tables:
            save_model(folder / "big", seed=2, hidden_size=128)
        resolved = resolved_on(folder, tmp_path / "home", mapping_on(folder, **tables))
        shutil.rmtree(folder)
        return opened_on(tmp_path / "home", resolved)

    return made


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=torch.arange(32)[None], use_cache=False).logits
    return found


def trained(run: OpenedRun) -> OpenedRun:
    """The run with parameters loaded that are not the first ones."""
    draw = torch.Generator().manual_seed(1)
    run.load(run.archive.initial_state(run.resolved))
    params = read_trainable(run.model)
    load_trainable(run.model, [item + torch.randn(item.shape, generator=draw) / 8 for item in params])
    return run


def test_a_run_of_all_parameters_needs_only_the_configuration(opens: Opens) -> None:
    run = opens()
    assert run.resolved.base is not None
    manifest = read_manifest(run.archive.blobs, run.resolved.base)
    assert [file.name for file in manifest.files] == ["config.json"]
    assert manifest.parameters == sum(math.prod(shape) for _, shape in run.resolved.layout)


def test_what_is_not_trained_is_there_for_everybody(opens: Opens) -> None:
    run = trained(opens(model={"trainable": ["*layers.1.*"]}))
    assert run.resolved.base is not None
    assert read_manifest(run.archive.blobs, run.resolved.base).parameters > sum(
        math.prod(shape) for _, shape in run.resolved.layout
    )
    assert math.isfinite(run.measure(4).loss)


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_the_model_that_comes_out_is_plain_whole_and_not_quantised(
    opens: Opens, quant: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    run = trained(opens(model={"adapter": ADAPTER | {"quant": quant}}))
    said, plain = logits(run.model), logits(run.adapted())
    assert torch.equal(said, plain) is (quant == "none")
    export(run, summary(run), tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.allclose(logits(loaded), plain, atol=1e-5)
    assert {item.dtype for item in loaded.parameters()} == {torch.float32}
    card = (tmp_path / "model" / "README.md").read_text()
    assert "parameters were trained; the base stays as it was" in card
    assert "Made from `base`" in card


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_the_adapter_comes_out_alone_with_the_name_of_its_base(opens: Opens, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = trained(opens(model={"adapter": ADAPTER | {"quant": "nf4"}}))
    export_adapter(run, summary(run), tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= names
    assert '"base_model_name_or_path": "base"' in (tmp_path / "adapter" / "adapter_config.json").read_text()
    there = replace(run.resolved.recipe.model, path="../models/granite")
    resolved = replace(run.resolved, recipe=replace(run.resolved.recipe, model=there))
    assert run.resolved.base is not None
    assert base_name(resolved) == f"granite@blake3:{run.resolved.base.hash.hex()}"
    assert "An adapter of" in (tmp_path / "adapter" / "README.md").read_text()
    base = AutoModelForCausalLM.from_pretrained(save_model(tmp_path / "base"))
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path / "adapter")), logits(run.adapted()))


def test_there_is_no_adapter_to_export_where_none_was_trained(opens: Opens, tmp_path: Path) -> None:
    run = opens()
    with pytest.raises(ExportRefused, match="leave out --adapter"):
        export_adapter(run, summary(run), tmp_path / "adapter")


def test_preferences_are_measured_from_the_model_at_the_start(opens: Opens) -> None:
    run = opens(**PAIRS)
    assert run.resolved.recipe.preference == PreferenceSection()
    assert needs_reference(run.resolved.recipe)
    run.load(run.archive.initial_state(run.resolved))
    first = run.measure(4)
    assert first.loss == pytest.approx(math.log(2))
    assert (first.accuracy, first.margin) == (0.0, 0.0)
    assert trained(run).measure(4).loss != pytest.approx(math.log(2), abs=1e-3)
    found = measure(_with_state(run))
    assert found.accuracy_start == 0.0
    assert found.sample_prompt.endswith("<|assistant|>\n")
    assert "<|end|>" not in found.sample


def _with_state(run: OpenedRun) -> OpenedRun:
    """The run as if a round had led back to where it began."""
    states = run.archive.home / "states"
    states.mkdir()
    (states / "00000001.bin").write_bytes(run.archive.initial_state(run.resolved))
    return run


def test_preferences_with_an_adapter_need_no_second_model(opens: Opens) -> None:
    run = opens(model={"adapter": ADAPTER}, **PAIRS)
    assert not needs_reference(run.resolved.recipe)
    run.load(run.archive.initial_state(run.resolved))
    assert run.measure(4).loss == pytest.approx(math.log(2))
    assert trained(run).measure(4).loss != pytest.approx(math.log(2), abs=1e-3)


TEACHER = {"training": {"objective": "distill"}, "teacher": {"path": "big", "license": "MIT"}}


def test_a_teacher_is_there_for_everybody(opens: Opens) -> None:
    run = trained(opens(**TEACHER))
    assert run.frozen.teacher is not None
    assert run.objective.name == "distill"
    batch = run.held_out.batch([0])
    assert run.objective(run.model, batch).metrics["divergence"] > 0


def test_a_question_is_put_as_the_conversations_were(opens: Opens) -> None:
    assert opens(**PAIRS).question("ball 3") == "<|user|>\nball 3<|end|>\n<|assistant|>\n"


@pytest.mark.parametrize(
    ("tables", "error", "why"),
    [
        ({"model": {"path": "nowhere"}}, CannotLoadModel, r"\[model\] path: cannot load \"nowhere\""),
        ({"model": {"path": "../nowhere"}}, CannotLoadModel, r"\[model\] path: there is no folder"),
        (TEACHER | {"teacher": {"path": "x", "license": "y"}}, CannotLoadModel, r"\[teacher\] path"),
        (TEACHER | {"teacher": {"path": "odd", "license": "y"}}, TeacherDiffers, "300"),
        ({"model": {"path": "packed"}}, CannotLoadModel, "is quantised already"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_when_the_run_is_opened(
    tmp_path: Path, tables: dict[str, Any], error: type[Exception], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no hub is asked by a test
    mapping = mapping_on(tmp_path, **tables)
    save_model(tmp_path / "odd", vocab_size=300)
    config = save_model(tmp_path / "packed") / "config.json"
    config.write_text(config.read_text().replace("{", '{"quantization_config": {"quant_method": "gptq"},', 1))
    with pytest.raises(error, match=why):
        resolved_on(tmp_path, tmp_path / "home", mapping)


def test_a_model_that_cannot_read_the_data_is_refused_before_anything_is_staked(opens: Opens) -> None:
    """Whoever opened it has made this by hand: the opener itself is refused such a run."""
    run = opens()
    recipe = run.resolved.recipe
    longer = replace(recipe, data=replace(recipe.data, context=65))
    with pytest.raises(ContextTooLong):
        _ = replace(run, resolved=replace(run.resolved, recipe=longer)).learner
    with pytest.raises(WrongTensors, match="the run trains"):
        _ = replace(run, resolved=replace(run.resolved, layout=run.resolved.layout[::-1])).learner


def test_nobody_but_the_opener_reads_a_path(opens: Opens) -> None:
    run = opens()
    with pytest.raises(BadFrozenModel, match="not its bytes"):
        _ = replace(run, resolved=replace(run.resolved, base=None)).learner


def test_tokens_that_are_not_the_models_own_are_told(tmp_path: Path) -> None:
    from distrai.training.export import export_tokenizer
    from distrai.training.tokenizer import ByteTokenizer

    mapping, said = mapping_on(tmp_path), list[str]()
    export_tokenizer(ByteTokenizer(), 32, tmp_path / "base")
    resolve(parse_recipe(mapping), tmp_path, BlobStore(tmp_path / "blobs"), None, said.append)
    assert said == []
    words = tmp_path / "base" / "tokenizer.json"
    words.write_text(words.read_text().replace('"!": 33', '"ab": 33').replace('"!":33', '"ab":33'))
    resolve(parse_recipe(mapping), tmp_path, BlobStore(tmp_path / "blobs"), None, said.append)
    assert len(said) == 1 and 'taken with tokenizer = "base" in [data]' in said[0]
    adapted = parse_recipe(mapping | {"model": mapping["model"] | {"adapter": ADAPTER}})
    with pytest.raises(
        RecipeError, match="numbers tokens in another way"
    ):  # a frozen model cannot learn them
        resolve(adapted, tmp_path, BlobStore(tmp_path / "blobs"))


# What is missing or damaged


def test_a_part_that_is_missing_is_told(opens: Opens, tmp_path: Path) -> None:
    run = opens(model={"adapter": ADAPTER})
    blobs = run.archive.blobs
    ArchiveMaker.of(tmp_path / "home", run.resolved, authors(4))
    _check_data(Archive(tmp_path / "home"))
    part = _parts(run.resolved, blobs)[-1]
    path = blobs.path_of(part)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ReplayFailed) as failed:
        _check_data(Archive(tmp_path / "home"))
    assert failed.value.culprit == "base that training reads"
    blobs.delete(part)
    with pytest.raises(NothingPublished, match="not whole here"):
        _ = run.frozen


def _parts(resolved: ResolvedRecipe, blobs: BlobStore) -> list[Any]:
    assert resolved.base is not None
    return list(read_manifest(blobs, resolved.base).blobs())


# What it takes


def test_needs_count_what_is_fetched_and_held(tmp_path: Path) -> None:
    save_model(tmp_path / "big", seed=2, hidden_size=128)
    full = needs_of(parse_recipe(mapping_on(tmp_path)), tmp_path)
    assert full.parameters == full.total_parameters
    assert (full.base_bytes, full.teacher_bytes) == (0, 0)
    lora = needs_of(parse_recipe(mapping_on(tmp_path, model={"adapter": ADAPTER})), tmp_path)
    assert lora.parameters < lora.total_parameters == full.parameters
    assert lora.base_bytes == 4 * full.parameters
    assert lora.down_bytes - lora.data_bytes > lora.base_bytes
    assert lora.memory_per_peer < full.memory_per_peer
    assert f"{lora.parameters:,} trained parameters on {full.parameters:,}" == model_text(lora)
    quant = {"adapter": ADAPTER | {"quant": "nf4"}}
    qlora = needs_of(parse_recipe(mapping_on(tmp_path, model=quant)), tmp_path)
    assert qlora.memory_per_peer < lora.memory_per_peer
    taught = needs_of(parse_recipe(mapping_on(tmp_path, **TEACHER)), tmp_path)
    assert taught.teacher_bytes == 4 * taught.teacher_parameters > 4 * full.parameters
    assert taught.disk_per_peer - full.disk_per_peer == taught.teacher_bytes
    assert "a teacher of" in model_text(taught)
    paired = needs_of(parse_recipe(mapping_on(tmp_path, **PAIRS)), tmp_path)
    assert paired.memory_per_peer - full.memory_per_peer == 4 * full.parameters


def summary(run: OpenedRun) -> Summary:
    """A summary with the figures that a card takes."""
    names = Summary.__dataclass_fields__
    known: dict[str, Any] = dict.fromkeys(names, 0) | {"params": 5, "params_total": 50}
    return Summary(**known | {"name": "it", "preset": "demo", "recipe_hash": "0x", "corpus_hash": "0x"})
