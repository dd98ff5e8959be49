"""Writing a recipe from a few choices: a commented TOML file that its owner may edit."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from distrai.protocol.recipe import Recipe, RecipeError
from distrai.protocol.recipe.rules import stall_seconds_min
from distrai.protocol.recipe.sections import RoundsSection
from distrai.runs.recipes import load_recipe

LOCAL, INTERNET = "local", "internet"
D0_S = {LOCAL: 0.3, INTERNET: 3.0}
CUT_ROUNDS, CUT_S_MIN = 6, 20.0
"""Who takes so many times as long as is usual for a round's training, and at least so long, is not waited for."""


@dataclass(frozen=True)
class Size:
    """A model that is known to train. ``lr`` and ``spread`` (of the first parameters) go with it."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    context: int
    lr: float
    spread: float

    @property
    def parameters(self) -> int:
        """How many it has, with 256 tied embeddings."""
        layer = 4 * self.hidden**2 + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return 256 * self.hidden + self.layers * layer + self.hidden


SIZES = {
    "tiny": Size(32, 1, 2, 64, 32, 6e-3, 0.1),
    "small": Size(96, 2, 4, 256, 128, 6e-3, 0.1),
    "medium": Size(256, 6, 8, 704, 256, 3e-3, 0.05),
    "large": Size(768, 12, 12, 2048, 1024, 1e-3, 0.02),
}
PRESETS = {
    "prime": (40, "sgd", 1.0, 0.0),
    "diloco": (40, None, None, None),
    "sparseloco": (40, None, None, None),
}
"""Inner steps, and the outer optimiser where the preset's own does not suit short runs."""


@dataclass(frozen=True)
class Choices:
    """What is asked. ``globs`` empty: the source files of Python's standard library."""

    name: str = "my-run"
    size: str = "small"
    globs: tuple[str, ...] = ()
    data_license: str = "unknown"
    preset: str = "prime"
    peers: int = 4
    rounds: int = 96
    where: str = LOCAL
    admission: str = "invitation"
    round_s: float = 4.0
    """How long the inner steps of a round take: the deadlines follow from it."""

    def check(self) -> None:
        """Raises RecipeError for what cannot be chosen."""
        _check_in("--size", self.size, SIZES)
        _check_in("--preset", self.preset, PRESETS)
        _check_in("--where", self.where, D0_S)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", self.name):
            raise RecipeError(
                "name", f"{self.name[:80]!r}", "use 1 to 64 letters, digits, spaces, dots, _ and -"
            )


def _check_in(flag: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise RecipeError(flag, f"no {value!r}", f"choose one of {', '.join(known)}")


def write_recipe(choices: Choices, path: Path, *, force: bool) -> Recipe:
    """Write the recipe of these choices to ``path``, and read it as a run will. Raises RecipeError."""
    text = draft(choices)
    if path.exists() and not force:
        raise RecipeError(str(path), "is there already", "choose another --out, or overwrite it with --force")
    if not path.parent.is_dir():
        raise RecipeError(str(path), "its folder does not exist", "make it first, or choose another --out")
    before = path.read_bytes() if path.exists() else None
    path.write_text(text, encoding="utf-8")
    try:
        return load_recipe(path)
    except RecipeError:
        path.unlink() if before is None else path.write_bytes(before)
        raise


def draft(choices: Choices) -> str:
    """The text of the recipe. Raises RecipeError for choices that are none."""
    choices.check()
    size = SIZES[choices.size]
    cut_s = max(CUT_S_MIN, CUT_ROUNDS * choices.round_s)
    rounds = RoundsSection(
        count=choices.rounds, d0_s=D0_S[choices.where], cut_s=cut_s, hard_s=2 * cut_s, stall_seconds=1
    )
    stall = math.ceil(1.5 * stall_seconds_min(rounds))
    return "\n".join(
        [
            _head(choices),
            _model(size),
            _data(choices, size),
            _algorithm(choices),
            _training(size),
            _rounds(rounds, stall, choices.round_s),
            f"""[membership]
peers = {choices.peers}               # of a local run; others join by `distrai join`
min_seats = 1
admission = {_text(choices.admission)}    # or {'"open"' if choices.admission == "invitation" else '"invitation"'}
""",
            f"""# The largest L2 norm of an update: half of what H full steps of AdamW could be.
[limits]
norm_ceiling = {_norm_ceiling(choices, size)}
""",
            """[evaluation]
samples_round = 64
samples_final = 512
""",
        ]
    )


def _rounds(rounds: RoundsSection, stall: int, round_s: float) -> str:
    return f"""# The inner steps of a round take about {round_s:.1f} s.
[rounds]
count = {rounds.count}
d0_s = {rounds.d0_s}                  # about the time in which a message reaches everyone
cut_s = {rounds.cut_s:.1f}                # from here on two thirds of the updates are enough
hard_s = {rounds.hard_s:.1f}               # from here on nobody waits for an update
stall_seconds = {stall}          # ledger time without a certificate until a roll call may open
"""


def _head(choices: Choices) -> str:
    return f"""# Made by `distrai init`; edit it as you like. recipes/quickstart.toml explains every key.
#
#   distrai doctor THIS-FILE     whether this machine can do it
#   distrai run THIS-FILE        do it

name = {_text(choices.name)}
theme = ""          # what it is about, for people
seed = 1            # draws the first parameters and the order of the data
"""


def _model(size: Size) -> str:
    return f"""# A new Granite model of {size.parameters:,} parameters that reads bytes.
[model]
source = "config"           # or "pretrained" with path = a folder or hub id, and no [model.config]
license = "Apache-2.0"      # of the model that comes out

[model.config]
model_type = "granite"
vocab_size = 256
hidden_size = {size.hidden}
intermediate_size = {size.intermediate}
num_hidden_layers = {size.layers}
num_attention_heads = {size.heads}
num_key_value_heads = {size.heads}
max_position_embeddings = {size.context}
tie_word_embeddings = true
embedding_multiplier = {size.hidden**0.5}
attention_multiplier = {(size.hidden // size.heads) ** -0.5}
residual_multiplier = 1.0
logits_scaling = 1.0
initializer_range = {size.spread}
"""


def _data(choices: Choices, size: Size) -> str:
    if not choices.globs:
        source = (
            'source = "python-stdlib"    # or "files" with globs = ["texts/**/*.txt"]\nlicense = "PSF-2.0"'
        )
    else:
        globs = ", ".join(_text(item) for item in choices.globs)
        source = (
            f'source = "files"\nglobs = [{globs}]\nlicense = {_text(choices.data_license)}   # of these files'
        )
    return f"""[data]
{source}
tokenizer = "bytes"
context = {size.context}
"""


def _algorithm(choices: Choices) -> str:
    steps, outer, rate, momentum = PRESETS[choices.preset]
    lines = [
        f"preset = {_text(choices.preset)}",
        f"inner_steps = {steps}            # H: steps that a peer trains alone",
    ]
    if outer is not None:
        lines += [f"outer = {_text(outer)}", f"outer_lr = {rate}", f"outer_momentum = {momentum}"]
    return "[algorithm]\n" + "\n".join(lines) + "\n"


def _training(size: Size) -> str:
    return f"""[training]
batch = 4
lr = {size.lr}
warmup = 0.05
precision = "auto"          # bf16 where the device has it
"""


def _norm_ceiling(choices: Choices, size: Size) -> float:
    steps = PRESETS[choices.preset][0]
    return float(math.ceil(0.5 * size.lr * steps * math.sqrt(size.parameters)))


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
