"""``distrai generate`` and ``distrai export``: the model of a run, now."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

if TYPE_CHECKING:
    from distrai.runs.exporting import Exported

Json = Annotated[bool, Parameter(negative=())]


def generate(
    folder: Path,
    text: str,
    /,
    *,
    tokens: int = 300,
    temperature: float = 0.8,
    seed: int = 0,
    device: str = "cpu",
    json: Json = False,
) -> int:
    """Let the model of a run go on from a text: the newest model, also while the run goes on.

    A model that learned from conversations takes the text as a question, and answers.

    Parameters
    ----------
    folder
        The folder of a run.
    text
        What to go on from.
    tokens
        How many tokens to write (bytes, with the tokenizer "bytes").
    temperature
        0 always takes the likeliest token; 1 draws as the model says.
    seed
        Another seed writes another text.
    device
        auto, cpu or cuda.
    json
        Print one JSON object.
    """
    from distrai.runs.folder import RunFolder
    from distrai.runs.generate import write_text
    from distrai.runs.telling import printable

    writing = write_text(
        RunFolder(folder), text, tokens=tokens, temperature=temperature, seed=seed, device=device
    )
    if json:
        tell({"round": writing.round, "prompt": text, "text": "".join(writing.pieces)}, "", as_json=True)
        return 0
    print(text, end="\n" if writing.is_answer else "", flush=True)
    for piece in writing.pieces:
        sys.stdout.write(printable(piece))
        sys.stdout.flush()
    print()
    return 0


def export(folder: Path, /, *, to: Path | None = None, adapter: Json = False, json: Json = False) -> int:
    """Write the newest model of a run as a Hugging Face folder, with a model card.

    A model that was trained by an adapter comes out whole: the adapter is merged into the weights of its base.

    Parameters
    ----------
    folder
        The folder of a run.
    to
        Where to; FOLDER/model if not given (FOLDER/adapter with --adapter). What a run was exported to before is
        replaced, and nothing else.
    adapter
        Write only the adapter, as peft reads it: it belongs on the base that the run was opened with.
    json
        Print one JSON object.
    """
    from distrai.runs.exporting import export_run
    from distrai.runs.folder import RunFolder

    done = export_run(RunFolder(folder), to, adapter=adapter)
    what = "adapter" if adapter else "model"
    text = f"the {what} after round {done.round} is in {done.folder}"
    text += " (in the place of what was there)" if done.replaced else ""
    text += "\n  load it: " + (_adapter_text(done) if adapter else _loading(str(done.folder)))
    told = {"ok": True, "folder": str(done.folder), "round": done.round, "replaced": done.replaced}
    tell(told | ({"base": done.base} if adapter else {}), text, as_json=json)
    return 0


def _loading(what: str) -> str:
    return f'AutoModelForCausalLM.from_pretrained("{what}")'


def _adapter_text(done: "Exported") -> str:
    """How peft puts an adapter on its base, which is not in the folder."""
    name, _, frozen = done.base.partition("@")
    base = f"FOLDER_OF_{name.upper()}" if frozen else name
    line = f'PeftModel.from_pretrained({_loading(base)}, "{done.folder}")'
    return line + (
        f"\n  its base is the folder {name} that the run was opened with ({frozen})" if frozen else ""
    )
