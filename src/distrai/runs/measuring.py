"""How good the model of a run is: held-out loss at its start and its end, and what it writes."""

from itertools import islice

from distrai.runs.folder import RunFolder
from distrai.runs.opened import OpenedRun
from distrai.runs.summary import Final
from distrai.training.scoring import is_scored, tokens_of

LOSSES = ("loss_start", "loss_end", "bits_per_byte_start", "bits_per_byte_end")
SAMPLE_CHARACTERS = 300
SAMPLE_TEMPERATURE = 0.8
CODE_PROMPT = "def "
PROMPT_CHARACTERS = 40
"""How much of a held-out text the sample goes on from, where the data is no code."""


def measure(run: OpenedRun) -> Final:
    """Held-out loss of the initial and of the newest state, and a sample of what that writes."""
    samples = run.resolved.recipe.evaluation.samples_final
    run.load(run.archive.initial_state(run.resolved))
    before = run.measure(samples)
    run.load_newest()
    after = run.measure(samples)
    prompt = prompt_for(run)
    return Final(
        loss_start=before.loss,
        loss_end=after.loss,
        bits_per_byte_start=before.bits_per_byte,
        bits_per_byte_end=after.bits_per_byte,
        accuracy_start=before.accuracy,
        accuracy_end=after.accuracy,
        samples=after.samples,
        sample_prompt=prompt,
        sample=sample(run, prompt),
    )


def prompt_for(run: OpenedRun) -> str:
    """Something in the manner of the data for the model to go on from."""
    if run.resolved.recipe.data.source == "python-stdlib":
        return CODE_PROMPT
    row = run.held_out.batch([0])[0]
    if run.manifest.chat is None:
        return run.tokenizer.decode(row.tolist())[:PROMPT_CHARACTERS] or CODE_PROMPT
    asked = tokens_of(row)[: int(is_scored(row).int().argmax())]  # what stands before the first answer
    return run.tokenizer.decode(asked.tolist())


def sample(run: OpenedRun, prompt: str) -> str:
    """About ``SAMPLE_CHARACTERS`` of text after ``prompt``: a token is at least a byte of it."""
    pieces = run.write(prompt, tokens=SAMPLE_CHARACTERS, temperature=SAMPLE_TEMPERATURE)
    characters = (character for piece in pieces for character in piece)
    return "".join(islice(characters, SAMPLE_CHARACTERS))


def measured(folder: RunFolder) -> Final | None:
    """What was measured when the run was done."""
    if not folder.is_finished():
        return None
    told, sample = folder.told(), folder.told().get("sample") or {"prompt": "", "text": ""}
    return Final(
        **{name: told[name] for name in LOSSES},
        accuracy_start=told.get("accuracy_start"),
        accuracy_end=told.get("accuracy_end"),
        samples=told["evaluation_samples"],
        model_path=told.get("model_path"),
        sample_prompt=sample["prompt"],
        sample=sample["text"],
    )
