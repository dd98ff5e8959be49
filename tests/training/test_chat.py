"""Conversations become text, and what the assistant says in it is found."""

import json

import pytest

from distrai.training.data.chat import PLAIN, ChatRenderer, load_chat_template, write_chat_template
from distrai.training.data.formats import BadLine
from distrai.training.data.manifest import ChatTemplate
from distrai.training.errors import BadChatTemplate
from distrai.training.export import export_tokenizer
from distrai.training.tokenizer import ByteTokenizer
from helpers.toy_models import CHAT_TEMPLATE, toy_tokenizer

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Where is "}, {"type": "text", "text": "Ada?"}]},
    {"role": "assistant", "content": "At the mill.", "weight": 1},
    {"role": "user", "content": "And Dai?"},
    {"role": "assistant", "content": "At home."},
]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THINKING = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}"
    "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
"""As Qwen 3: the last answer is not written as earlier ones are."""


def scored(rendered):
    return [rendered.text[start:end] for start, end in rendered.spans]


def renderer(template):
    return ChatRenderer(ChatTemplate(template))


def test_the_plain_template_is_what_its_documentation_says():
    found = ChatRenderer(PLAIN).render(TALK)
    assert found.text == (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nWhere is Ada?<|end|>\n<|assistant|>\nAt the mill.<|end|>\n"
        "<|user|>\nAnd Dai?<|end|>\n<|assistant|>\nAt home.<|end|>\n"
    )
    assert scored(found) == ["At the mill.<|end|>", "At home.<|end|>"]
    assert found.text.startswith(ChatRenderer(PLAIN).prompt(TALK[:2])) and found.complete
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]}
    assert scored(ChatRenderer(PLAIN).render([TALK[1], called])) == [
        '[{"function": {"name": "look"}}]<|end|>'
    ]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML], ids=["marked", "unmarked"])
def test_answers_are_found_with_marks_and_without(template):
    render = renderer(template).render
    assert scored(render(TALK)) == ["At the mill.<|im_end|>", "At home.<|im_end|>"]
    assert scored(render(TALK, first=3)) == ["At home.<|im_end|>"]
    assert scored(render([*TALK[:2], {**TALK[2], "weight": 0}, *TALK[3:]])) == ["At home.<|im_end|>"]
    assert scored(render([*TALK[:2], {**TALK[2], "weight": 0}])) == []


def test_a_template_that_writes_earlier_answers_in_another_way_scores_the_last():
    found = renderer(THINKING).render(TALK)
    assert scored(found) == ["<think></think>At home."] and not found.complete
    assert renderer(THINKING).render(TALK[:3]).complete


def test_what_a_template_refuses_or_does_not_show_is_said():
    with pytest.raises(BadLine, match="refuses it: roles must alternate"):
        renderer("{{ raise_exception('roles must alternate') }}").render(TALK)
    with pytest.raises(
        BadChatTemplate, match="does not show where an answer begins; put its answers between"
    ):
        renderer("{% for m in messages %}{{ m['content'] }}{% endfor %}{{ messages | length }}").render(TALK)
    with pytest.raises(BadChatTemplate, match="marks 1 parts of a conversation with 2 answers"):
        renderer("{% generation %}{{ messages[2]['content'] }}{% endgeneration %}").render(TALK, first=3)
    with pytest.raises(BadLine, match="refuses it"):  # the sandbox
        renderer("{{ messages.__class__.__mro__ }}").render(TALK)


def test_the_template_is_that_of_the_tokenizers_folder(tmp_path):
    tokenizer = toy_tokenizer()
    tokenizer.save_pretrained(tmp_path / "toy")
    found = load_chat_template("toy", tmp_path)
    assert found == ChatTemplate(CHAT_TEMPLATE, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "without")
    for none in ("without", "without/tokenizer.json", "bytes"):
        assert load_chat_template(none, tmp_path) is PLAIN
    (tmp_path / "toy" / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadChatTemplate, match='cannot read the chat template of "toy"'):
        load_chat_template("toy", tmp_path)


def test_an_exported_tokenizer_writes_conversations_as_they_were_trained_on(tmp_path):
    from transformers import AutoTokenizer

    export_tokenizer(ByteTokenizer(), 64, tmp_path)
    write_chat_template(PLAIN, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.apply_chat_template(TALK[2:], tokenize=False) == ChatRenderer(PLAIN).render(TALK[2:]).text
    asked = loaded.apply_chat_template(TALK[3:4], tokenize=False, add_generation_prompt=True)
    assert asked == ChatRenderer(PLAIN).prompt(TALK[3:4])
    write_chat_template(ChatTemplate(CHATML, {"eos_token": "<|im_end|>"}), tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
