import pytest
import torch
from transformers import AutoModelForCausalLM

from distrai.protocol.recipe import AdapterSection
from distrai.training.adapters import frozen_tensors, linear_layers, merged, save_adapter, targets
from distrai.training.errors import NoSuchParameters, SharedWeights
from distrai.training.export import export_model
from distrai.training.inner import InnerLoop
from distrai.training.inner_state import InnerState
from distrai.training.model import (
    build_model,
    load_trainable,
    model_shape,
    needs_base,
    parameters_of,
    read_trainable,
    trainable_layout,
    unquantised,
)
from distrai.training.objective import NextToken
from distrai.training.tokenizer import ByteTokenizer
from training.test_export import CARD
from training.tiny import CONTEXT, GPT2, GRANITE, model_section

WIDE = GRANITE | {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
IDS = torch.arange(2 * CONTEXT).view(2, CONTEXT) % 256


def section(config=None, **changes):
    return model_section(config or WIDE, adapter=AdapterSection(**changes))


def drawn(model, seed=3):
    """The model with parameters of its adapter that change what it says."""
    draw = torch.Generator().manual_seed(seed)
    load_trainable(model, [torch.randn(item.shape, generator=draw) / 8 for item in read_trainable(model)])
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def test_only_the_adapter_is_trained_and_at_first_it_changes_nothing():
    made, plain = build_model(section(r=2), seed=1), build_model(model_section(WIDE), seed=1)
    layout = trainable_layout(made)
    assert {spec.name.rsplit(".", 3)[1] for spec in layout.tensors} == {"lora_A", "lora_B"}
    assert layout.numel == 2 * sum(sum(item.weight.shape) for item in linear_layers(plain).values()) - 2 * (
        256 + 64
    )  # not the output embeddings
    assert torch.equal(logits(made.eval()), logits(plain.eval()))
    assert parameters_of(made) == sum(item.numel() for item in plain.parameters())
    assert trainable_layout(model_shape(section(r=2))) == layout
    assert parameters_of(model_shape(section(r=2))) == parameters_of(made)


def test_what_is_not_trained_keeps_the_names_that_it_has_without_an_adapter():
    frozen, plain = frozen_tensors(build_model(section(), seed=1)), build_model(model_section(WIDE), seed=1)
    assert list(frozen) == [name for name, _ in plain.named_parameters()]
    assert all(torch.equal(frozen[name], item) for name, item in plain.named_parameters())


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (("q_proj",), ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]),
        (("*.1.mlp.up_*",), ["model.layers.1.mlp.up_proj"]),
        (
            ("model.layers.0.mlp.*", "layers.0.mlp.gate_proj"),
            [f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")],
        ),
    ],
)
def test_targets_are_names_their_ends_or_globs(wanted, found):
    assert targets(model_shape(model_section(WIDE)), wanted) == found


def test_a_target_must_be_a_linear_layer_with_weights_of_its_own():
    shape = model_shape(model_section(WIDE))
    with pytest.raises(NoSuchParameters, match=r'"q_prog" matches no linear layer; some are: .*q_proj'):
        targets(shape, ["q_prog"])
    with pytest.raises(SharedWeights, match=r'"lm_head" shares its weights with "model.embed_tokens"'):
        targets(shape, ["lm_head"])
    assert targets(model_shape(model_section(WIDE | {"tie_word_embeddings": False})), ["lm_head"]) == [
        "lm_head"
    ]
    assert (
        len(targets(model_shape(model_section(GPT2)), ["all-linear"])) == 4
    )  # its layers are of another kind


def test_whoever_trains_an_adapter_needs_the_base():
    for made, wanted in (
        (model_section(), False),
        (section(), True),
        (model_section(trainable=("*norm*",)), True),
    ):
        assert needs_base(made, model_shape(made)) is wanted


@pytest.mark.parametrize("config", [WIDE, GPT2])
def test_the_merged_model_is_plain_and_says_the_same(config, tmp_path):
    made = drawn(build_model(section(config, r=2, alpha=4.0), seed=1))
    said = logits(made)
    plain = merged(made)
    assert not [name for name, _ in plain.named_parameters() if "lora" in name]
    assert torch.allclose(logits(plain), said, atol=1e-5)
    folder = export_model(plain, ByteTokenizer(), CARD, CONTEXT, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert torch.equal(logits(loaded), logits(plain))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_the_adapter_alone_names_its_base_as_the_recipe_does(tmp_path):
    from peft import PeftConfig, PeftModel

    made = drawn(build_model(section(r=2), seed=1))
    save_adapter(made, "somebody/model", tmp_path)
    assert PeftConfig.from_pretrained(tmp_path).base_model_name_or_path == "somebody/model"
    base = build_model(model_section(WIDE), seed=1)
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path).eval()), logits(made))


def test_four_bits_train_after_the_model_was_looked_at_and_merge_into_what_they_were_made_from():
    four, whole = section(r=2, quant="nf4"), unquantised(section(r=2, quant="nf4"))
    made, exact = build_model(four, seed=1), build_model(whole, seed=1)
    error = logits(made.eval()) - logits(exact.eval())
    assert 0.001 < error.std() / logits(exact).std() < 0.7  # random weights make much of little
    assert trainable_layout(made) == trainable_layout(exact)
    drawn(made)
    assert sum(item.nbytes for item in made.parameters()) < 0.6 * sum(
        item.nbytes for item in exact.parameters()
    )
    seen = logits(made)  # some CPUs repack the weights when they are looked at
    made.train()
    made(input_ids=IDS, use_cache=False).logits.sum().backward()
    assert all(item.grad is not None for item in made.parameters() if item.requires_grad)
    assert torch.equal(logits(made.eval()), seen)


def test_dropout_of_an_adapter_follows_the_seed(spec, train):
    def result(seed, dropout=0.5):
        model = build_model(section(r=2, dropout=dropout), seed=1)
        loop = InnerLoop(model, spec, NextToken(), train.batch, torch.device("cpu"))
        start = read_trainable(model)
        state = InnerState.zeros(trainable_layout(model))
        return loop.run(start, state, range(100), 1, steps=2, seed=seed).losses

    torch.manual_seed(1)
    first = result(5)
    torch.manual_seed(2)
    assert result(5) == first
    assert result(6) != first
    assert result(5, dropout=0.0) != first
