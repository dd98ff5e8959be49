"""Text from the model as it is now: of a finished run, a stopped one, or one that is going on."""

from collections.abc import Iterator
from dataclasses import dataclass

from distrai.runs.folder import RunFolder
from distrai.runs.opened import OpenedRun

TOKENS_MAX = 1 << 20


class BadSetting(ValueError):
    """A setting of the sampler is impossible."""


@dataclass(frozen=True)
class Writing:
    """Text as it comes, and the round whose model writes it."""

    round: int
    pieces: Iterator[str]
    is_answer: bool = False
    """Whether the text was taken as a question, because the run learned from conversations."""


def write_text(
    folder: RunFolder, prompt: str, *, tokens: int, temperature: float, seed: int, device: str = "cpu"
) -> Writing:
    """Go on from ``prompt``. Raises NoRun, NothingPublished, BadSetting, EmptyPrompt."""
    if not 1 <= tokens <= TOKENS_MAX:
        raise BadSetting(f"--tokens {tokens} is not within 1..{TOKENS_MAX}")
    if not 0 <= temperature <= 100:
        raise BadSetting(f"--temperature {temperature:g} is not within 0..100; 0 takes the likeliest token")
    if not prompt:
        raise BadSetting("the text to continue is empty: give it a few words")
    run = OpenedRun.open(folder, device)
    number = run.load_newest()
    pieces = run.write(run.question(prompt), tokens=tokens, temperature=temperature, seed=seed)
    return Writing(number, pieces, is_answer=run.manifest.chat is not None)
