import pytest
import torch

from distrai.training.errors import (
    BadModelConfig,
    CannotLoadModel,
    ContextTooLong,
    NoSuchParameters,
    UnknownModelType,
    VocabularyTooSmall,
    WrongTensors,
)
from distrai.training.model import (
    build_model,
    check_fits,
    load_trainable,
    mark_trainable,
    read_trainable,
    trainable_layout,
)
from training.tiny import CONTEXT, GPT2, GRANITE, model_section

SMALL = {"vocab_size": 256, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 2}


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(5)
    first = read_trainable(build_model(model_section(), seed=1))
    torch.manual_seed(6)
    assert same(first, read_trainable(build_model(model_section(), seed=1)))
    assert not same(first, read_trainable(build_model(model_section(), seed=2)))


def test_building_leaves_the_callers_random_state_alone():
    before = torch.get_rng_state()
    build_model(model_section(), seed=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["granite", "llama", "qwen3"])
def test_any_causal_model_gives_logits(kind):
    model = build_model(model_section(SMALL | {"model_type": kind}), seed=0)
    assert model(input_ids=torch.zeros(2, 5, dtype=torch.long)).logits.shape == (2, 5, 256)
    assert {tensor.dtype for tensor in read_trainable(model)} == {torch.float32}


def test_a_tied_weight_is_exchanged_once(model):
    names = [tensor.name for tensor in trainable_layout(model).tensors]
    assert "model.embed_tokens.weight" in names and "lm_head.weight" not in names
    assert trainable_layout(model).numel == sum(item.numel() for item in model.parameters())
    untied = build_model(model_section(GRANITE | {"tie_word_embeddings": False}), seed=1)
    assert "lm_head.weight" in [tensor.name for tensor in trainable_layout(untied).tensors]


def test_only_parameters_that_match_a_glob_are_trained():
    model = build_model(model_section(trainable=("*.mlp.*", "*norm.weight")), seed=1)
    names = [tensor.name for tensor in trainable_layout(model).tensors]
    assert names and all(".mlp." in name or name.endswith("norm.weight") for name in names)
    assert not model.model.embed_tokens.weight.requires_grad
    assert len(read_trainable(model)) == len(names)


def test_a_glob_matches_every_name_of_a_tied_weight(model):
    layout = mark_trainable(model, ["lm_head.weight"])
    assert [tensor.name for tensor in layout.tensors] == ["model.embed_tokens.weight"]


def test_a_glob_that_matches_nothing_is_refused_with_names_that_exist():
    with pytest.raises(NoSuchParameters, match=r"embed_token\.weight.*model\.embed_tokens\.weight"):
        build_model(model_section(trainable=("*", "model.embed_token.weight")), seed=1)


def test_read_gives_copies_and_load_puts_them_back(model):
    before = read_trainable(model)
    with torch.no_grad():
        for item in model.parameters():
            item.add_(1)
    assert not same(before, read_trainable(model))
    load_trainable(model, before)
    assert same(before, read_trainable(model))


def test_wrong_tensors_change_nothing(model):
    before = read_trainable(model)
    zeros = [torch.zeros_like(tensor) for tensor in before]
    with pytest.raises(WrongTensors, match="trainable tensors"):
        load_trainable(model, zeros[:-1])
    with pytest.raises(WrongTensors, match=r"model\.norm\.weight"):
        load_trainable(model, [*zeros[:-1], torch.zeros(3)])
    assert same(before, read_trainable(model))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"vocab_size": 256}, BadModelConfig, "model_type"),
        (GRANITE | {"model_type": "granit"}, UnknownModelType, "granite"),
        (GRANITE | {"hiden_size": 3}, BadModelConfig, "hidden_size"),
        (GRANITE | {"vocab_size": "many"}, BadModelConfig, "vocab_size"),
        (GRANITE | {"hidden_size": -4}, BadModelConfig, "makes no causal language model"),
        (GRANITE | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, BadModelConfig, "auto_map"),
        (GRANITE | {"dtype": "bfloat16"}, BadModelConfig, "dtype"),
        (GRANITE | {"_name_or_path": "x"}, BadModelConfig, "_name_or_path"),
        ({"model_type": "vit"}, BadModelConfig, "makes no causal language model"),
    ],
)
def test_impossible_configurations_are_refused(config, error, message):
    with pytest.raises(error, match=message):
        build_model(model_section(config), seed=0)


def test_a_new_model_has_no_special_tokens_unless_named(model):
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (
        None,
        None,
        None,
    )
    assert build_model(model_section(GRANITE | {"eos_token_id": 3}), seed=1).config.eos_token_id == 3


def test_a_pretrained_folder_is_loaded_with_its_weights(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = build_model(model_section(source="pretrained", path=str(tmp_path)), seed=9)
    assert same(read_trainable(model), read_trainable(again))


def test_a_pretrained_folder_is_never_unpickled(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CannotLoadModel, match="safetensors"):
        build_model(model_section(source="pretrained", path=str(tmp_path)), seed=9)


def test_a_tokenizer_or_context_that_does_not_fit_is_refused(model):
    check_fits(model, 256, CONTEXT)
    with pytest.raises(VocabularyTooSmall, match="vocab_size = 257"):
        check_fits(model, 257, CONTEXT)
    with pytest.raises(ContextTooLong, match="max_position_embeddings"):
        check_fits(model, 256, CONTEXT + 1)
    with pytest.raises(ContextTooLong):
        check_fits(build_model(model_section(GPT2), seed=1), 256, CONTEXT + 1)
