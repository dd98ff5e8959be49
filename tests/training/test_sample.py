import pytest
import torch

from distrai.training.errors import EmptyPrompt
from distrai.training.model import build_model
from distrai.training.sample import generate, generate_tokens, until
from distrai.training.tokenizer import ByteTokenizer
from training.tiny import CONTEXT, GRANITE, model_section

BYTES = ByteTokenizer()


@pytest.fixture
def lively():
    """A model whose likeliest token depends on all that it reads."""
    return build_model(model_section(GRANITE | {"initializer_range": 1.0}), seed=1)


def tokens(model, prompt=b"def f", count=40, temperature=1.0, seed=0, vocabulary=256):
    stream = generate_tokens(
        model,
        list(prompt),
        vocabulary=vocabulary,
        context=CONTEXT,
        tokens=count,
        temperature=temperature,
        seed=seed,
    )
    return list(stream)


def test_the_seed_decides_the_text(model):
    assert tokens(model) == tokens(model)
    assert tokens(model) != tokens(model, seed=1)
    torch.manual_seed(99)
    assert len(tokens(model)) == 40


def test_without_temperature_it_is_the_likeliest_token_of_the_whole_input(model):
    ids = list(b"def f")
    for token in tokens(model, temperature=0.0, count=CONTEXT - len(ids)):
        with torch.no_grad():
            assert token == int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)


def test_past_the_context_it_goes_on_from_the_last_three_quarters(lively):
    seen = window = list(b"def f")
    for _ in range(3 * CONTEXT):
        if len(window) > CONTEXT:
            window = seen[-CONTEXT * 3 // 4 :]
        with torch.no_grad():
            token = int(lively(input_ids=torch.tensor([window])).logits[0, -1].argmax())
        seen, window = [*seen, token], [*window, token]
    assert len(set(seen[5:])) > 5
    assert tokens(lively, temperature=0.0, count=3 * CONTEXT) == seen[5:]


def test_a_prompt_longer_than_the_context_is_cut_at_the_front(lively):
    for first in range(60, 80):
        long = bytes(range(first, first + 20))
        assert tokens(lively, long, 1, 0.0) == tokens(lively, long[-CONTEXT:], 1, 0.0)


def test_low_temperature_comes_close_to_the_likeliest(model):
    assert tokens(model, temperature=1e-4, count=8) == tokens(model, temperature=0.0, count=8)


def test_no_id_is_drawn_that_the_tokenizer_does_not_have():
    wide = build_model(model_section(GRANITE | {"vocab_size": 300}), seed=1)
    assert max(tokens(wide, count=200, vocabulary=20)) < 20


def test_text_comes_in_pieces_without_the_prompt(model):
    pieces = generate(model, BYTES, "def f", context=CONTEXT, tokens=30, temperature=1.0)
    first = next(pieces)
    expected = bytes(tokens(model, count=30, temperature=1.0)).decode(errors="replace")
    assert expected.startswith(first) and (first + "".join(pieces)).rstrip("�") == expected.rstrip("�")


def test_there_is_nothing_to_continue(model):
    with pytest.raises(EmptyPrompt):
        next(generate(model, BYTES, "", context=CONTEXT))


@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        (["It is red.<|end|>", "more"], "It is red."),
        (["It is <", "b", "<|en", "d|>more"], "It is <b"),
        (["<|end|>"], ""),
        (["<|end", "ing"], "<|ending"),
        (["<<|end|>"], "<"),
        ([], ""),
    ],
)
def test_an_answer_goes_to_the_mark_that_ends_it(pieces, left):
    assert "".join(until(iter(pieces), "<|end|>")) == left


def test_what_cannot_be_the_mark_does_not_wait():
    def pieces():
        yield "It is r"
        yield "ed <|"
        raise AssertionError("nobody asked for more")

    found = until(pieces(), "<|end|>")
    assert [next(found), next(found)] == ["It is r", "ed "]
