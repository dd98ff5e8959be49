"""Conversations as text: by the tokenizer's own chat template, or a plain one where it has none.

The plain template writes every message as ``<|ROLE|>``, a line end, its content, ``<|end|>`` and a line end. What is
scored is what the assistant says, and the mark that ends it: everything else is only read.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from distrai.training.data.formats import BadLine
from distrai.training.data.manifest import TEMPLATE_CHARACTERS_MAX, ChatTemplate, SpecialToken
from distrai.training.errors import BadChatTemplate
from distrai.training.huggingface import auto_config

PLAIN = ChatTemplate(
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] or '' }}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] or '' }}{{ '<|end|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, and which of its characters are scored: spans from, and before, a place."""

    text: str
    spans: tuple[tuple[int, int], ...]
    complete: bool = True
    """False: the template writes earlier answers in another way than the last one, and they are not scored."""


@dataclass(frozen=True)
class ChatRenderer:
    """Writes conversations by a template, in the sandbox that transformers has for strangers' templates."""

    template: ChatTemplate
    called: str = "the chat template"

    def render(self, messages: Messages, first: int = 0, tools: Any = None) -> Rendered:
        """A conversation; answers before message ``first``, and those with ``weight`` 0, are not scored.

        Raises BadLine if the template refuses it, BadChatTemplate if it does not show where answers are.
        """
        plain = [plain_message(message) for message in messages]
        wanted = [
            at >= first and message.get("weight") != 0
            for at, message in enumerate(messages)
            if message["role"] == "assistant"
        ]
        if self._marked:
            text, spans = self._write(plain, tools, marks=True)
            return Rendered(text, self._chosen(spans, wanted))
        return self._by_prefixes(plain, wanted, tools)

    def prompt(self, messages: Messages) -> str:
        """A conversation so far, and the beginning of what the assistant says next. Raises BadLine."""
        return self._write([plain_message(message) for message in messages], None, ask=True)[0]

    @cached_property
    def _marked(self) -> bool:
        return _GENERATION.search(self.template.template) is not None

    def _chosen(self, spans: list[tuple[int, int]], wanted: list[bool]) -> tuple[tuple[int, int], ...]:
        if all(wanted):
            return tuple(spans)
        if len(spans) != len(wanted):
            raise BadChatTemplate(
                f"{self.called} marks {len(spans)} parts of a conversation with {len(wanted)} answers, so that single "
                f"answers cannot be left out; mark each answer with generation, endgeneration"
            )
        return tuple(span for span, keep in zip(spans, wanted, strict=True) if keep)

    def _by_prefixes(self, messages: list[dict[str, Any]], wanted: list[bool], tools: Any) -> Rendered:
        """An answer is what a conversation that ends with it has more than the question with an opened answer."""
        text, _ = self._write(messages, tools)
        spans: list[tuple[int, int]] = []
        complete, answers = True, iter(wanted)
        for at, message in enumerate(messages, 1):
            if message["role"] != "assistant" or not next(answers):
                continue
            asked, _ = self._write(messages[: at - 1], tools, ask=True)
            answered = (text if at == len(messages) else self._write(messages[:at], tools)[0]).rstrip()
            if text.startswith(asked) and text.startswith(answered) and len(asked) < len(answered):
                spans.append((len(asked), len(answered)))
            elif at == len(messages):
                raise BadChatTemplate(
                    f"{self.called} does not show where an answer begins; put its answers between "
                    f"{{% generation %}} and {{% endgeneration %}}"
                )
            else:
                complete = False
        return Rendered(text, tuple(spans), complete)

    def _write(
        self, messages: Messages, tools: Any, *, marks: bool = False, ask: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        auto_config()  # transformers, quietly
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        write: Any = render_jinja_template
        try:
            texts, spans = write(
                [list(messages)],
                tools=tools or None,
                chat_template=self.template.template,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=ask,
                **self.template.tokens,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise BadLine(f"{self.called} refuses it: {' '.join(str(error).split())[:200]}") from None
        return str(texts[0]), [(int(start), int(end)) for start, end in spans[0]] if marks else []


def plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its content in one text, and without what is null or says how it is trained on."""
    kept = {name: value for name, value in message.items() if value is not None and name != "weight"}
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    return {**kept, "content": content}


def load_chat_template(name: str, base: Path | None = None) -> ChatTemplate:
    """The chat template of a recipe's tokenizer (as for ``load_tokenizer``), the plain one if it has none.

    Raises BadChatTemplate.
    """
    path = (base or Path()) / name
    if name == "bytes" or path.is_file():
        return PLAIN
    auto_config()
    from transformers import PreTrainedTokenizerFast

    try:
        made = PreTrainedTokenizerFast.from_pretrained(str(path) if path.is_dir() else name)
        template = made.get_chat_template() if made.chat_template else ""
    except (OSError, ValueError, TypeError, LookupError) as error:
        why = " ".join(str(error).split())[:200]
        raise BadChatTemplate(
            f'[data] tokenizer: cannot read the chat template of "{name}" ({why})'
        ) from None
    if not template:
        return PLAIN
    if len(template) > TEMPLATE_CHARACTERS_MAX:
        raise BadChatTemplate(
            f'[data] tokenizer: the chat template of "{name}" has {len(template)} characters, more than '
            f"{TEMPLATE_CHARACTERS_MAX}"
        )
    known = made.special_tokens_map
    tokens = {name: str(known[name]) for name in get_args(SpecialToken) if known.get(name)}
    return ChatTemplate(template, tokens)


def write_chat_template(template: ChatTemplate, folder: Path) -> None:
    """Put the template where Hugging Face tokenizers of this folder find it; ``tokenizer_config.json`` is there."""
    (folder / "chat_template.jinja").write_text(template.template, encoding="utf-8")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**template.tokens, **settings}, indent=2) + "\n", encoding="utf-8")
