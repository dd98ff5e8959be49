"""Training data is checked line by line before anything is spent."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.jobs.data.examples import BadData, check_data
from distrai.jobs.data.sources import BadSource, adapt, read_source
from distrai.jobs.data.tokens import count_bytes
from distrai.protocol.plain_json import TooDeep, check_depth, load_json
from distrai.training.data.formats import BadLine, Format, format_of, parse_line, read_value
from helpers.data_lines import chat, preference, write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [(chat("a"), Format.CHAT), (preference("a"), Format.PREFERENCE), ({"text": "a"}, Format.TEXT),
     ({"messages": [{"role": "user", "content": "a"}], "answer": 4}, Format.PROMPTS)],
)  # fmt: skip
def test_each_format_is_recognised_and_counted(file: Path, line: dict[str, Any], wanted: Format) -> None:
    source = write(file, line, "", {**line, "id": 2})
    report = check_data(source, counter=count_bytes)
    assert report.ok and (report.format, report.examples, report.duplicates) == (wanted, 2, 0)
    each = count_bytes(read_value(line, wanted, 1))
    assert report.tokens is not None and report.tokens.exact
    assert (report.tokens.total, report.tokens.longest) == (2 * sum(each), max(each))
    report.check()


BAD: list[tuple[object, str]] = [
    ("{", "no JSON: Expecting property name"),
    ("[1]", "a JSON object is needed, and this is a list"),
    ('{"messages": [], "messages": []}', "'messages' is there twice"),
    ('{"text": NaN}', "NaN is no JSON"),
    ("[" * 50_000, "nested deeper than 64"),
    ('{"n": ' + "9" * 5000 + "}", "a number in it is too long"),
    ({"mesages": []}, "is 'mesages' meant to be messages?"),
    ({"messages": []}, "messages must be a list of messages, and is empty"),
    ({"messages": ["hi"]}, "messages[1] must be an object with role and content, and is text"),
    ({"messages": [{"role": "asistant", "content": "a"}]}, "did you mean assistant?"),
    ({"messages": [{"content": "a"}]}, "messages[1].role is missing"),
    ({"messages": [{"role": "user", "contents": "a"}]}, "is 'contents' meant to be content?"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[1].content is a number, and must be text"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages[1].content is empty"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "parts of type text only"),
    ({"messages": [{"role": "user", "content": "a"}]}, "the last message must be by the assistant"),
    (chat("\ud800"), "half a character"),
    (preference("a"), "it is preference, where chat is needed"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
def test_a_bad_line_is_named_with_its_number_and_what_to_do(file: Path, line: object, why: str) -> None:
    source = write(file, chat("a"), "", line, chat("b"))
    report = check_data(source)
    assert [problem.line for problem in report.problems] == [3] and why in report.problems[0].why
    assert report.examples == 2 and not report.ok
    with pytest.raises(BadData, match=r"data\.jsonl line 3: ") as refused:
        report.check()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_depth_does_not_depend_on_the_recursion_limit() -> None:
    """Libraries raise it, and the parser then crashes the process; strings and what follows them do not count."""
    check_depth(b'[{"a": "' + b"[" * 1000 + b'\\"[[", "b": [[]]}]' + b"[]" * 1000)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        for deep in (b"[" * 100_000, b'{"a":' * 100_000, b'"\\\\"' + b"[" * 65):
            with pytest.raises(TooDeep):
                load_json(deep)
        check_depth(b"[" * 60 + b'"\\"' * 500_000 + b"[" * 60)  # a string that never ends, quickly
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"input": []}, "input must be an object with messages, and is empty"),
        ({"input": {}}, "input.messages is missing"),
        ({"preferred_output": "yes"}, "preferred_output must be a list of messages, and is text"),
        ({"preferred_output": [{"role": "user", "content": "x"}]}, "must be messages of the assistant only"),
        ({"preferred_output": [{"role": "assistant", "content": "no"}]}, "are the same"),
        ({"non_preferred_output": None}, "non_preferred_output must be a list of messages, and is null"),
    ],
)
def test_what_is_wrong_with_a_preference(change: dict[str, Any], why: str) -> None:
    with pytest.raises(BadLine) as refused:
        read_value({**preference("a"), **change}, Format.PREFERENCE, 1)
    assert why in str(refused.value)


def test_many_bad_lines_are_counted_and_a_few_shown(file: Path) -> None:
    report = check_data(write(file, chat("a"), *["{"] * 50))
    assert (report.problem_count, len(report.problems)) == (50, 20)
    with pytest.raises(BadData, match="line 2: .*; line 3: .*; line 4: .*; and 47 more"):
        report.check()


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(chat("a")).encode() + b'\n{"text": "\xe9"}\n')
    assert "no UTF-8 at byte 11" in check_data(str(tmp_path / "latin.jsonl")).problems[0].why
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(chat("a")).encode())
    assert check_data(str(tmp_path / "bom.jsonl")).ok
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(BadData, match="no examples"):
        check_data(str(tmp_path / "empty.jsonl")).check()
    for bad, why in (
        ("list.json", "one JSON object per line"),
        ("none.jsonl", "there is no"),
        ("", "cannot be read"),
    ):
        with pytest.raises(BadSource, match=why):
            check_data(str(tmp_path / bad))


def test_a_line_that_never_ends_is_not_read_into_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distrai.training.data.lines.LINE_BYTES_MAX", 100)
    file.write_text("x" * 200)
    with pytest.raises(BadSource, match="line 1 is longer than"):
        check_data(str(file))


def test_plain_text_is_cut_at_empty_lines_and_keeps_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes("\ufeffone\ntwo\n\n\n three\n".encode())
    assert [(raw.line, raw.value["text"]) for raw in read_source(str(path))] == [
        (1, "one\ntwo"),
        (5, " three"),
    ]
    path.write_bytes(b"one\n\ntwo\nthr\xff\n")
    assert [(problem.line, problem.why[:19]) for problem in check_data(str(path)).problems] == [
        (4, "no UTF-8 at byte 4:")
    ]


def test_rows_of_data_sets_become_our_formats() -> None:
    asked = {"role": "user", "content": "q"}
    good, bad = ({"role": "assistant", "content": text} for text in ("g", "b"))
    wanted = {"input": {"messages": [asked]}, "preferred_output": [good], "non_preferred_output": [bad]}
    assert adapt({"chosen": [asked, good], "rejected": [asked, bad]}) == wanted
    assert adapt({"prompt": "q", "chosen": "g", "rejected": "b"}) == wanted
    assert adapt({"prompt": [asked], "chosen": [asked, good], "rejected": [asked, bad]}) == wanted
    assert adapt({"prompt": "q", "completion": "g"}) == {"messages": [asked, good]}
    assert adapt({"instruction": "q", "input": "", "output": "g"}) == {"messages": [asked, good]}
    assert adapt({"instruction": "q", "input": "x", "output": "g"})["messages"][0]["content"] == "q\n\nx"
    assert adapt({"prompt": "q", "solution": 4}) == {"messages": [asked], "prompt": "q", "solution": 4}
    assert adapt({"body": "t", "n": 1}) == {"body": "t", "n": 1}
    with pytest.raises(BadLine, match="none of messages, preferred_output, text, but body, n"):
        format_of({"body": "t", "n": 1})


@given(st.dictionaries(st.sampled_from(["messages", "text", "input", "preferred_output", "id"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=8,
)))  # fmt: skip
def test_whatever_a_line_holds_it_is_an_example_or_a_bad_line(value: dict[str, Any]) -> None:
    try:
        parsed = parse_line(json.dumps(value).encode())
        example = read_value(parsed, format_of(parsed), 1)
    except BadLine:
        return
    assert json.loads(example.to_line()) == value and isinstance(example.prompt, str)
    assert sum(count_bytes(example)) > 0


def test_a_hub_that_cannot_be_reached_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for endpoint in ("http://127.0.0.1:9", "file:///etc"):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        with pytest.raises(BadSource, match="the hub cannot be reached"):
            check_data("hf:owner/name")
