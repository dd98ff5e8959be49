"""Examples to fine-tune with, made of documentation that is on this machine: ``python recipes/docstrings.py``.

A question is the first line of a function ("def mean(values)"), its answer the first sentence of that function's
documentation. Written to ``runs/docstrings`` (``--out``), for recipes/lora.toml and recipes/dpo.toml:

    chats.jsonl         question and answer
    preferences.jsonl   question, the answer, and its words in another order, which is worse
    texts/*.txt         the same documentation as plain text, a file for each module

The sources are those of numpy and torch (BSD-3-Clause), which DisTrAI needs anyway; other installed packages can be
named. They are parsed, never run. The same versions give the same bytes.
"""

import argparse
import ast
import json
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "runs" / "docstrings"
PACKAGES = ("numpy", "torch")
ANSWER_BYTES = (16, 56)
"""Bounds of an answer: a sentence, no table."""
EXAMPLE_BYTES = 88
"""Bounds of question and answer together: with what marks the roles they fit into 128 bytes."""
SEED = 1


@dataclass(frozen=True)
class Example:
    """One function and what is said of it."""

    module: str
    question: str
    answer: str


def main() -> None:
    """Write the files, and say how many examples there are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", nargs="*", default=PACKAGES, help="installed packages: numpy torch")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to: runs/docstrings")
    options = parser.parse_args()
    examples = distinct(example for name in options.packages for example in examples_of(name))
    if len(examples) < 2:
        sys.exit(f"no documented functions in {', '.join(options.packages)}: name other packages")
    write(options.out, examples)
    sys.stdout.write(f"{len(examples)} examples of {', '.join(options.packages)} are in {options.out}\n")


def examples_of(package: str) -> Iterator[Example]:
    """The examples in an installed package, ordered by file and line; its tests are left out."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"{package} is no installed package: pip install it, or name another one")
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root.parent)
        if not any(part.lstrip("_").startswith("test") for part in inside.parts):
            yield from examples_in(path.read_text(encoding="utf-8", errors="replace"), inside.as_posix())


def examples_in(source: str, module: str) -> Iterator[Example]:
    """The examples in one file's text."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            question = f"def {node.name}({ast.unparse(node.args)})"
            answer = first_sentence(ast.get_docstring(node) or "")
            if fits(question, answer):
                yield Example(module, question, answer)


def first_sentence(text: str) -> str:
    """The first paragraph of a documentation on one line, up to its first full stop."""
    line = " ".join(text.partition("\n\n")[0].split())
    sentence, stop, _ = line.partition(". ")
    return sentence + stop.strip()


def fits(question: str, answer: str) -> bool:
    """Whether an example is plain text of the wanted length."""
    both = question + answer
    low, high = ANSWER_BYTES
    return (
        both.isascii()
        and both.isprintable()
        and low <= len(answer) <= high
        and len(both) <= EXAMPLE_BYTES
        and answer[0].isupper()
    )


def distinct(examples: Iterator[Example]) -> list[Example]:
    """Every question and every answer once: nothing that is held out was seen in training."""
    kept: list[Example] = []
    seen: set[str] = set()
    for example in examples:
        if not seen & {example.question, example.answer}:
            seen |= {example.question, example.answer}
            kept.append(example)
    return kept


def write(folder: Path, examples: Sequence[Example]) -> None:
    """The three forms; what is in the folder under these names is replaced."""
    texts: dict[str, list[str]] = {}
    for example in examples:
        texts.setdefault(example.module, []).append(f"{example.question}\n    {example.answer}\n")
    (folder / "texts").mkdir(parents=True, exist_ok=True)
    for module, parts in texts.items():
        name = module.removesuffix(".py").replace("/", ".")
        (folder / "texts" / f"{name}.txt").write_text("\n".join(parts), encoding="utf-8")
    write_lines(folder / "chats.jsonl", [{"messages": chat(each)} for each in examples])
    write_lines(folder / "preferences.jsonl", preferences(examples))


def chat(example: Example) -> list[dict[str, str]]:
    """Question and answer as messages."""
    return [
        {"role": "user", "content": example.question},
        {"role": "assistant", "content": example.answer},
    ]


def preferences(examples: Sequence[Example]) -> list[dict[str, object]]:
    """Each example, with its answer beside the same words in another order."""
    drawn = random.Random(SEED)  # noqa: S311  # no secret
    rows: list[dict[str, object]] = []
    for example in examples:
        question, answer = chat(example)
        worse = {**answer, "content": muddled(example.answer, drawn)}
        if worse != answer:
            rows.append(
                {
                    "input": {"messages": [question]},
                    "preferred_output": [answer],
                    "non_preferred_output": [worse],
                }
            )
    return rows


def muddled(text: str, drawn: random.Random) -> str:
    """The words of a text in another order; the same text where there is none."""
    words = text.split(" ")
    for _ in range(9):
        drawn.shuffle(words)
        if " ".join(words) != text:
            break
    return " ".join(words)


def write_lines(path: Path, rows: Sequence[object]) -> None:
    """JSON, a value on each line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
