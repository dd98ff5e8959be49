"""Lines of training data, as people write them."""

import json
from pathlib import Path
from typing import Any


def chat(question: str, answer: str = "yes", **more: Any) -> dict[str, Any]:
    asked, answered = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    return {"messages": [asked, answered], **more}


def preference(question: str, good: str = "yes", bad: str = "no") -> dict[str, Any]:
    sides = {side: [{"role": "assistant", "content": text}] for side, text in (
        ("preferred_output", good), ("non_preferred_output", bad),
    )}  # fmt: skip
    return {"input": {"messages": [{"role": "user", "content": question}]}, **sides}


def write(path: Path, *lines: object) -> str:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)
