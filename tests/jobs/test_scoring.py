"""The score of a model on data is what anybody computes by hand."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import distrai.jobs
from distrai.jobs.data.dividing import prepare
from distrai.jobs.data.examples import BadData
from distrai.jobs.models.generating import CannotLoad
from distrai.jobs.models.scoring import score_model
from distrai.jobs.running import helper
from distrai.training.export import export_tokenizer
from distrai.training.tokenizer import ByteTokenizer
from helpers.data_lines import chat, write
from helpers.template_runs import Toys, answer_loss
from helpers.toy_models import chats, write_jsonl


def test_a_score_is_the_loss_of_answers(toys: Toys, tmp_path: Path) -> None:
    rows = chats(6, seed=3)
    data = str(write_jsonl(tmp_path / "fresh.jsonl", rows))
    score = score_model(toys.teacher, data)
    assert score.loss == pytest.approx(answer_loss(toys.teacher, rows), rel=1e-4)
    assert (score.examples, score.preferred) == (6, None) and 0 <= score.accuracy < 0.2
    size = sum(len(row["messages"][-1]["content"]) for row in rows)
    assert score.bits_per_byte == pytest.approx(score.loss * score.tokens / 0.6931472 / size, rel=0.01)
    assert score_model(toys.teacher, data, limit=2).examples == 2
    assert score_model(toys.teacher, data, context=80).tokens < score.tokens
    with pytest.raises(CannotLoad, match="nothing to score within 8 tokens"):
        score_model(toys.teacher, data, context=8)
    folder = prepare(data, tmp_path / "ready", held_out=0.4).folder
    assert score_model(toys.teacher, str(folder)).examples < 6, "of divided data only what is held out"


def test_the_better_answer_of_a_preference_counts(toys: Toys, tmp_path: Path) -> None:
    score = score_model(toys.model, toys.preferences, limit=8)
    assert score.preferred is not None and 0 <= score.preferred <= 1 and score.examples == 8
    texts = score_model(toys.model, toys.prose, limit=2)
    assert texts.preferred is None and texts.loss == pytest.approx(5.8, abs=0.3), "all tokens are as likely"
    with pytest.raises(BadData, match="an evaluation needs chat or text or preference"):
        score_model(toys.model, write(tmp_path / "a.jsonl", {"messages": [{"role": "user", "content": "q"}]}))
    with pytest.raises(BadData, match="line 2"):
        score_model(toys.model, write(tmp_path / "b.jsonl", chat("a"), "{"))
    with pytest.raises(CannotLoad, match="cannot load"):
        score_model(str(tmp_path), toys.chats)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What templates have in common, as a script imports it."""
    monkeypatch.setitem(sys.modules, "distrai_job", helper)
    monkeypatch.syspath_prepend(Path(distrai.jobs.__file__).parent / "support")
    module = import_module("distrai_training")
    monkeypatch.delitem(sys.modules, "distrai_training")
    return module


def test_a_tokenizer_of_bytes_can_end_and_fill_up(training: Any, tmp_path: Path) -> None:
    """The models of our own runs have one, without any special token."""
    export_tokenizer(ByteTokenizer(), 64, tmp_path)
    made = training.load_tokenizer(str(tmp_path))
    assert made.pad_token_id == made.eos_token_id == 0
    text = made.apply_chat_template([{"role": "assistant", "content": "hi"}], tokenize=False)
    ids = made(text)["input_ids"]
    assert ids == [*b"assistant: hi", 0, *b"\n"]
    made.save_pretrained(tmp_path / "saved")
    assert training.load_tokenizer(str(tmp_path / "saved"))(text)["input_ids"] == ids


def test_a_job_counts_every_token_once(training: Any) -> None:
    """A trainer weighs batches, whatever is in them."""
    import torch

    batches = [(1.0, [[-100, 5, -100, -100]]), (2.0, [[7, 5, 5, 5], [-100, -100, 5, 5]])]

    class Trainer:
        def prediction_step(self, model: Any, inputs: Any, only_loss: bool) -> Any:
            return torch.tensor(inputs["loss"]), None, None

        def evaluate(self) -> dict[str, float]:
            steps = [{"loss": loss, "labels": torch.tensor(labels)} for loss, labels in batches]
            losses = [self.prediction_step(None, step, True)[0].item() for step in steps]
            return {"eval_loss": sum(losses) / 2}

    trainer = Trainer()
    assert training.eval_loss(trainer)["loss"] == pytest.approx((1 * 1.0 + 5 * 2.0) / 6)
    assert trainer.evaluate() == {"eval_loss": 1.5} and "prediction_step" not in vars(trainer)
