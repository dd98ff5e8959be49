import json

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from distrai.algorithms.layout import Layout, TensorSpec
from distrai.network.store import BlobStore, MissingBlob
from distrai.protocol.blobs import blob_ref
from distrai.protocol.canonical import canonical_json
from distrai.protocol.recipe import AdapterSection
from distrai.training import frozen, frozen_reading, frozen_weights
from distrai.training.errors import (
    BadFrozenModel,
    BadModelManifest,
    MalformedManifest,
    ManifestNotCanonical,
    ManifestTooLarge,
    WrongTensors,
)
from distrai.training.frozen import MODEL_MANIFEST_BYTES_MAX, Parts, pack, parse_model_manifest, unpack
from distrai.training.frozen_weights import load_teacher, read_frozen, write_frozen
from distrai.training.model import (
    build_model,
    load_trainable,
    parameters_of,
    read_trainable,
    trainable_layout,
)
from training.test_adapters import WIDE, drawn, logits
from training.tiny import GPT2, model_section

ADAPTED = model_section(WIDE, adapter=AdapterSection(r=2))


@pytest.fixture
def base(tmp_path):
    """The folder of a base."""
    write_frozen(build_model(ADAPTED, seed=1), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


def packed(folder, blobs):
    return pack(folder, 7, blobs.put)


def from_store(blobs):
    return Parts(blobs.give, blobs.chunks)


def named(manifest):
    return blob_ref(manifest.to_bytes()).hash


# From a model to a folder and back


@pytest.mark.parametrize(
    "section",
    [
        ADAPTED,
        model_section(GPT2, adapter=AdapterSection(r=2)),
        model_section(WIDE, trainable=("*norm*",)),
        model_section(GPT2, trainable=("*wte*", "*ln_*")),
    ],
)
def test_a_model_from_its_base_and_state_is_the_model(section, tmp_path):
    made = build_model(section, seed=1)
    drawn(made)
    write_frozen(made, tmp_path / "base")
    again = build_model(section, seed=2, base=tmp_path / "base")
    load_trainable(again, read_trainable(made))
    assert torch.equal(logits(again.eval()), logits(made))
    assert parameters_of(again) == parameters_of(made)
    held = set().union(*(load_file(path) for path in (tmp_path / "base").glob("*.safetensors")))
    assert not held & {name for name, item in made.named_parameters() if item.requires_grad}


def test_four_bits_are_made_of_the_same_weights(base):
    section = model_section(WIDE, adapter=AdapterSection(r=2, quant="nf4"))
    made, again = build_model(section, seed=1), build_model(section, seed=1, base=base)
    assert torch.equal(logits(drawn(again)), logits(drawn(made)))


def test_weights_take_no_more_room_than_they_need(tmp_path):
    model = build_model(ADAPTED, seed=1)
    with torch.no_grad():
        fixed = (parameter for parameter in model.parameters() if not parameter.requires_grad)
        for at, parameter in enumerate(fixed):
            parameter.copy_(parameter.to([torch.bfloat16, torch.float16, torch.float32][at % 3]))
    write_frozen(model, tmp_path / "base")
    held = load_file(tmp_path / "base" / "model-00001.safetensors")
    assert {item.dtype for item in held.values()} == {torch.bfloat16, torch.float16, torch.float32}
    again = build_model(ADAPTED, seed=1, base=tmp_path / "base")
    load_trainable(again, read_trainable(model))
    assert torch.equal(logits(again.eval()), logits(model.eval()))


def test_a_teacher_is_whole_and_frozen(tmp_path):
    model = build_model(model_section(WIDE), seed=4).requires_grad_(False)
    write_frozen(model, tmp_path / "teacher")
    taught = load_teacher(tmp_path / "teacher", torch.device("cpu"))
    assert torch.equal(logits(taught), logits(model.eval()))
    assert not taught.training and not any(item.requires_grad for item in taught.parameters())


def test_large_models_are_several_files_and_large_files_several_parts(monkeypatch, tmp_path, blobs):
    monkeypatch.setattr(frozen_weights, "_FILE_BYTES", 20_000)
    model = build_model(ADAPTED, seed=1)
    write_frozen(model, tmp_path / "base")
    monkeypatch.setattr(frozen, "PART_BYTES", 30_000)
    manifest = packed(tmp_path / "base", blobs)
    assert len(manifest.files) > 5
    assert max(len(file.parts) for file in manifest.files) > 1
    made = unpack(manifest, named(manifest), from_store(blobs), tmp_path / "home")
    again = build_model(ADAPTED, seed=1, base=made)
    load_trainable(again, read_trainable(model))
    assert torch.equal(logits(again.eval()), logits(model.eval()))


# What a stranger may write into such a folder


def edited(base, change):
    table = json.loads((base / "config.json").read_bytes())
    change(table)
    (base / "config.json").write_bytes(canonical_json(table))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.update(auto_map={"AutoModelForCausalLM": "evil--Model"}), "auto_map"),
        (lambda t: t.update(quantization_config={"quant_method": "x"}), "quantization_config"),
        (lambda t: t.update(trust_remote_code=True), "trust_remote_code"),
        (lambda t: t.update(attn_implementation="kernels-community/x"), "attn_implementation"),
        (lambda t: t.update(_attn_implementation="kernels-community/x"), "_attn_implementation"),
        (lambda t: t["rope_parameters"].update(auto_map="x"), "auto_map"),
        (lambda t: t.update(rope_parameters=[{"_name_or_path": "x"}]), "_name_or_path"),
        (lambda t: t.update(surprise=1), "surprise"),
        (lambda t: t.update(model_type="evil"), "unknown"),
        (lambda t: t.pop("model_type"), "names no model_type"),
        (lambda t: t.update(hidden_size="x"), "config.json"),
        (lambda t: t.update(num_attention_heads=7), "should have the shape"),
        (lambda t: t.update(hidden_act="evil"), "makes no causal language model"),
        (lambda t: t.update(vocab_size=255), "embed_tokens.weight' should have the shape"),
        (lambda t: t.update(num_hidden_layers=1), "the model has no frozen tensor"),
        (lambda t: t.update(num_hidden_layers=3), "layers.2.self_attn.q_proj.weight' is missing"),
        (lambda t: t.update(num_hidden_layers=10**9), "makes no causal .* at most 20 tensors"),
    ],
)
def test_a_configuration_brings_no_code_and_fits_the_weights(base, change, why, monkeypatch):
    edited(base, change)
    if "at most" in why:
        monkeypatch.setattr(frozen_reading, "_PARAMETERS_MAX", 20)
    with pytest.raises(BadFrozenModel, match=why):
        read_frozen(base)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": 1}', b"[" * 100_000, b"\xff", b" " * (1 << 20) + b"{}"])
def test_what_is_no_configuration_is_refused(base, data):
    (base / "config.json").write_bytes(data)
    with pytest.raises(BadFrozenModel, match=r"config.json"):
        read_frozen(base)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: b"\x80\x04" + data,  # a pickle begins so
        lambda data: data.replace(b"BF16", b"XXXX").replace(b'"F32"', b'"X32"'),
    ],
)
def test_damaged_weights_are_refused(base, damage):
    path = base / "model-00001.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadFrozenModel, match="is no safetensors file"):
        read_frozen(base)


def test_tensors_are_those_of_the_model_each_once(base):
    path = base / "model-00001.safetensors"
    held = load_file(path)
    save_file({"model.norm.weight": held["model.norm.weight"]}, base / "model-00002.safetensors")
    with pytest.raises(BadFrozenModel, match="there twice"):
        read_frozen(base)
    save_file({"lm_head.evil": held["model.norm.weight"]}, base / "model-00002.safetensors")
    with pytest.raises(BadFrozenModel, match=r"the model has no frozen tensor 'lm_head\.evil'"):
        read_frozen(base)
    (base / "model-00002.safetensors").unlink()
    save_file(held | {"model.norm.weight": held["model.norm.weight"].to(torch.complex64)}, path)
    with pytest.raises(BadFrozenModel, match=r"model.norm.weight"):
        read_frozen(base)


def test_what_the_state_brings_is_in_no_file_and_all_else_in_one(tmp_path):
    """So a configuration alone is no teacher, and makes nobody reserve memory."""
    section = model_section(WIDE, trainable=("*norm*",))
    write_frozen(build_model(section, seed=1), tmp_path / "base")
    with pytest.raises(BadFrozenModel, match=r"norm.weight' is missing"):
        load_teacher(tmp_path / "base", torch.device("cpu"))
    with pytest.raises(BadFrozenModel, match="the model has no frozen tensor"):
        build_model(model_section(WIDE), seed=1, base=tmp_path / "base")


@pytest.mark.parametrize("section", [ADAPTED, model_section(WIDE, trainable=("*norm*",))])
def test_a_layout_of_other_versions_is_refused_and_not_mixed_up(section, tmp_path):
    model = build_model(section, seed=1)
    write_frozen(model, tmp_path / "base")
    layout = trainable_layout(model)
    assert trainable_layout(build_model(section, seed=1, base=tmp_path / "base", layout=layout)) == layout
    for other in (layout.tensors[::-1], layout.tensors[:-1], (*layout.tensors, TensorSpec("more", (1,)))):
        with pytest.raises(WrongTensors, match="where this machine's model has"):
            build_model(section, seed=1, base=tmp_path / "base", layout=Layout(other))


def test_a_base_says_of_the_model_what_the_recipe_says(tmp_path):
    section = model_section(WIDE, trainable=("*norm*",))
    write_frozen(build_model(section, seed=1), tmp_path / "base")
    other = model_section(WIDE | {"initializer_range": 0.5}, trainable=("*norm*",))
    with pytest.raises(BadFrozenModel, match=r"initializer_range = 0.1, .* 0.5"):
        build_model(other, seed=1, base=tmp_path / "base")


# The manifest


def test_a_manifest_is_read_as_it_was_written(base, blobs):
    manifest = packed(base, blobs)
    assert parse_model_manifest(manifest.to_bytes()) == manifest
    assert manifest.size == sum(path.stat().st_size for path in base.iterdir())
    assert all(blobs.has(blob) for blob in manifest.blobs())
    assert blobs.read(blob_ref(manifest.to_bytes())) == manifest.to_bytes()


def files(*names, size=3):
    part = {"hash": "0x" + "01" * 32, "size": size}
    return [{"name": name, "parts": [part]} for name in names]


WHOLE = {"hash": "0x" + "02" * 32, "size": frozen.PART_BYTES}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda t: t.update(files=files("config.json", "../model-00001.safetensors")), BadModelManifest),
        (lambda t: t.update(files=files("/etc/passwd", "config.json")), BadModelManifest),
        (lambda t: t.update(files=files("config.json", "model.py")), BadModelManifest),
        (lambda t: t.update(files=files("config.json", "pytorch_model.bin")), BadModelManifest),
        (lambda t: t.update(files=files("config.json", "model-00001.safetensors\n")), BadModelManifest),
        (lambda t: t.update(files=files("config.json", "config.json")), BadModelManifest),
        (lambda t: t.update(files=files("model-00001.safetensors", "config.json")), BadModelManifest),
        (lambda t: t.update(files=files("model-00001.safetensors")), BadModelManifest),
        (lambda t: t.update(files=[]), BadModelManifest),
        (lambda t: t.update(files=files("config.json", size=(1 << 20) + 1)), BadModelManifest),
        (lambda t: t["files"][0].update(parts=[*t["files"][0]["parts"]] * 2), BadModelManifest),
        (lambda t: t["files"][1].update(parts=[WHOLE] * 2), BadModelManifest),  # one part, named twice
        (lambda t: t["files"][0].update(parts=[]), MalformedManifest),
        (lambda t: t["files"][0]["parts"][0].update(size=0), MalformedManifest),
        (lambda t: t["files"][0]["parts"][0].update(size=(64 << 20) + 1), MalformedManifest),
        (lambda t: t["files"][0]["parts"][0].update(hash="0x00"), MalformedManifest),
        (lambda t: t["files"][0].update(mode=0o777), MalformedManifest),
        (lambda t: t.update(format="distrai/model/2"), MalformedManifest),
        (lambda t: t.update(parameters=0), MalformedManifest),
        (lambda t: t.pop("parameters"), MalformedManifest),
    ],
)
def test_manifests_that_cannot_be_are_refused(base, blobs, change, error):
    table = msgspec.to_builtins(packed(base, blobs))
    change(table)
    with pytest.raises(error):
        parse_model_manifest(canonical_json(table))


def test_a_manifest_has_one_spelling_and_a_bound(base, blobs, monkeypatch):
    data = packed(base, blobs).to_bytes()
    with pytest.raises(ManifestNotCanonical):
        parse_model_manifest(data + b"\n")
    with pytest.raises(MalformedManifest):
        parse_model_manifest(b"[" * 100_000)
    with pytest.raises(ManifestTooLarge):
        parse_model_manifest(b" " * (MODEL_MANIFEST_BYTES_MAX + 1))
    monkeypatch.setattr(frozen, "MODEL_BYTES_MAX", 1000)
    with pytest.raises(BadModelManifest, match="at most 1000 bytes"):
        parse_model_manifest(data)


# Unpacking


def test_a_folder_is_made_once_and_used_again(base, blobs, tmp_path):
    manifest = packed(base, blobs)
    made = unpack(manifest, named(manifest), from_store(blobs), tmp_path / "home")
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        path.name: path.read_bytes() for path in base.iterdir()
    }

    def nothing(*_):
        raise AssertionError("it is there already")

    assert unpack(manifest, named(manifest), Parts(nothing, nothing), tmp_path / "home") == made
    (made / "config.json").unlink()
    assert unpack(manifest, named(manifest), from_store(blobs), tmp_path / "home") == made
    assert (made / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert [path.name for path in (tmp_path / "home").iterdir()] == [named(manifest).hex()]


def test_nothing_half_made_is_left_where_a_part_is_missing(base, blobs, tmp_path):
    manifest = packed(base, blobs)
    blobs.delete(manifest.files[1].parts[0].blob)
    with pytest.raises(MissingBlob):
        unpack(manifest, named(manifest), from_store(blobs), tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []
