"""``distrai jobs check`` and ``data``: what will do, what it takes and what is wrong, before anything is spent."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from distrai.cli.output import tell

Flag = Annotated[bool, Parameter(negative=())]
Many = Annotated[list[str] | None, Parameter(negative=())]


def check(
    template: str = "",
    /,
    *,
    preset: str = "",
    set: Many = None,  # noqa: A002  # what users type
    diff: Flag = False,
    gpu: str = "",
    gpus: int = 1,
    price: float = 0.0,
    speed: float = 0.0,
    parameters: float = 0.0,
    json: Flag = False,
) -> int:
    """See whether a template and values will do, and what training takes, without running anything of it.

    Parameters
    ----------
    template
        A template, or a script with a header.
    preset
        The values of a preset of the template, like smoke.
    set
        A value, like learning_rate=2e-4; may be given several times.
    diff
        Show what was changed since the template that it was made from.
    gpu
        Say what training takes on such a GPU, like H100_80GB.
    gpus
        How many of them.
    price
        Dollars for one of them and an hour.
    speed
        Tokens per second that a smoke run reached on such a machine: the estimate is then none of a guess.
    parameters
        How many parameters the model has, like 7e9, where neither its files nor its name say so.
    json
        Print one JSON object.
    """
    from distrai.jobs.estimates.checking import check
    from distrai.jobs.forms.library import Library
    from distrai.jobs.running.session import Asked, Unclear, hardware
    from distrai.jobs.text import check_text

    if not 0 <= parameters < 1e15:
        raise Unclear("--parameters is how many the model has, like 7e9")
    asked, on = Asked(template, preset=preset, settings=set or ()), hardware(gpu, gpus, price, speed)
    found = check(
        asked, Library(), Path.cwd(), want_diff=diff, hardware=on, parameters=round(parameters)
    ).to_json()
    tell(found, check_text(found), as_json=json)
    return 0 if found["ok"] else 1


def data(
    source: str,
    /,
    *,
    format: str = "",  # noqa: A002  # what users type
    use: Annotated[str, Parameter(name="--for")] = "",
    model: str = "",
    context: int = 0,
    limit: int = 0,
    out: Path | None = None,
    held_out: float = 0.05,
    seed: int = 0,
    json: Flag = False,
) -> int:
    """Check training data: every line, how many tokens, how long, what would be cut; and divide it, if you like.

    Parameters
    ----------
    source
        A .jsonl or .txt file, a folder that --out made, or a data set of the Hugging Face Hub, which is streamed:
        hf:OWNER/NAME?split=train&subset=NAME&column=text&revision=main
    format
        What every line must be: chat, prompts, preference or text; what the first line is, if not given.
    use
        A template (or kind of training) that the data is for: says whether it will do.
    model
        A model, a folder or a name on the hub, whose tokenizer counts.
    context
        Longest example in tokens: what is longer would be cut.
    limit
        Look at so many examples only (1000 of a data set of the hub, if not given; 0: all of a file).
    out
        Write a folder with train.jsonl and heldout.jsonl, which templates take as `data`.
    held_out
        With --out: the part that is held out, only for judging; equal questions are never on both sides.
    seed
        With --out: another seed holds out others.
    json
        Print one JSON object.
    """
    from distrai.jobs.data.check import data_text
    from distrai.jobs.data.looking import Look, look
    from distrai.jobs.text import printable

    asked = Look(source, format, use, model, context, limit, out, held_out, seed)
    found = look(asked)
    tell(found, printable(data_text(found)), as_json=json)
    return 0 if found["ok"] else 1
