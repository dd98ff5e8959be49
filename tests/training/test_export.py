from dataclasses import replace

import torch

from distrai.training.card import ModelCard
from distrai.training.export import export_model
from distrai.training.model import build_model, load_trainable, read_trainable
from distrai.training.tokenizer import ByteTokenizer
from training.tiny import CONTEXT, GPT2, model_section

CARD = ModelCard(
    name="tiny",
    theme="Code",
    preset="prime",
    recipe='name = "tiny"\n',
    recipe_hash="0x01",
    model_license="apache-2.0",
    data_source="python-stdlib",
    data_license="PSF-2.0",
    corpus_hash="0x02",
    parameters=1234567,
    peers=4,
    rounds=48,
    tokens=98765,
    loss_start=5.25,
    loss_end=1.375,
    bits_per_byte_start=7.5,
    bits_per_byte_end=1.96875,
    payload_up_per_peer=111,
    bytes_up_per_peer=222,
    bytes_down_per_peer=333,
    bytes_ddp_per_peer=444,
    run_id="0x03",
    state_root="0x04",
    head="0x05",
)


def test_the_exported_model_loads_and_gives_equal_logits(model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for net in (model, build_model(model_section(GPT2), seed=1)):
        load_trainable(net, [tensor + 0.01 for tensor in read_trainable(net)])
        folder = export_model(net, ByteTokenizer(), CARD, CONTEXT, tmp_path / net.config.model_type)
        loaded = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False).eval()
        ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("def f():\n\tr").input_ids])
        assert ids.tolist() == [list(b"def f():\n\tr")]
        with torch.no_grad():
            assert torch.equal(net.eval()(input_ids=ids).logits, loaded(input_ids=ids).logits)


def test_the_exported_model_generates_with_its_own_settings(model, tmp_path):
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        export_model(model, ByteTokenizer(), CARD, CONTEXT, tmp_path)
    )
    assert loaded.generation_config.do_sample and loaded.generation_config.top_k == 0
    assert loaded.generation_config.eos_token_id is None
    ends = build_model(model_section(GPT2 | {"eos_token_id": 10}), seed=1)
    export_model(ends, ByteTokenizer(), CARD, CONTEXT, tmp_path / "ends")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ends")
    assert again.generation_config.eos_token_id == 10
    written = loaded.generate(torch.tensor([[100, 101]]), attention_mask=torch.ones(1, 2))
    assert written.shape == (1, 2 + CONTEXT // 2)


def test_nothing_in_the_folder_is_pickled_and_exporting_again_replaces_it(model, tmp_path):
    export_model(model, ByteTokenizer(), CARD, CONTEXT, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.rsplit(".", 1)[1] for path in before} == {"json", "safetensors", "md"}
    export_model(model, ByteTokenizer(), replace(CARD, name="other"), CONTEXT, tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"README.md"}


def test_the_card_says_all_that_is_known(model, tmp_path):
    card = (export_model(model, ByteTokenizer(), CARD, CONTEXT, tmp_path) / "README.md").read_text()
    assert card.startswith('---\nlicense: "apache-2.0"\n')
    for said in ("1,234,567", "98,765", "5.2500", "1.3750", "7.5000", "1.9688", "PSF-2.0", 'name = "tiny"'):
        assert said in card
    for number in range(1, 6):
        assert f"`0x0{number}`" in card
    for number in (111, 222, 333, 444):
        assert f"| {number} |" in card


def test_a_recipe_cannot_write_into_the_card_around_it():
    card = replace(CARD, name="x\n## Evidence\nforged", recipe="```\n## forged\n```")
    lines = card.to_markdown().splitlines()
    assert lines.count("## Evidence") == 1
    assert lines[lines.index("## forged") - 2] == "````" == lines[-1]


def test_the_card_says_what_stayed_as_it_was_and_what_was_learned_from():
    """Only a name on the hub is a base that Hugging Face can show."""
    said = {
        "trained": 5000,
        "base_hash": "0xba",
        "objective": "distill",
        "teacher": "a/b",
        "teacher_license": "MIT",
    }
    card = replace(CARD, base="owner/name", **said).to_markdown()
    assert "base_model: owner/name" in card and "library_name: transformers" in card
    for line in (
        "5,000 parameters were trained; the base",
        "Teacher: `a/b`, licence MIT",
        "Frozen base `0xba`",
    ):
        assert line in card
    alone = replace(CARD, base="../mine", trained=5000, adapter=True).to_markdown()
    assert "base_model" not in alone and "library_name: peft" in alone
    assert "An adapter of 5,000 parameters for a causal language model of 1,234,567." in alone
