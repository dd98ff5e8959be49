# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.6", "transformers>=5.4,<6", "trl>=1.9,!=1.15.*,<2", "peft>=0.20,<1", "datasets>=4.8,<6",
#   "accelerate>=1.13", "bitsandbytes>=0.49",
# ]
# [tool.distrai]
# title = "Distillation: a small model learns the probabilities of a large one (same tokenizer)"
# kind = "distill"
# [tool.distrai.parameters]
# student = {type = "path", help = "the model that learns: a folder, or a name on the hub"}
# teacher = {type = "path", help = "the model that it learns from, with the same tokenizer"}
# teacher_4bit = {type = "bool", default = false, help = "load the teacher in 4 bits: less memory"}
# data = {type = "path", help = "JSONL with `messages` (or `text`) in each line; or hf:NAME of a data set"}
# examples_max = {type = "int", default = 0, min = 0, help = "at most so many examples of the data; 0: all"}
# share = {type = "float", default = 0.5, min = 0, max = 1, help = "weight of the teacher; the rest is the data itself"}
# temperature = {type = "float", default = 2.0, min = 0.1, max = 100, help = "higher: more of the unlikely tokens"}
# method = {type = "str", default = "full", choices = ["full", "lora"], help = "full: all parameters of the student"}
# lora_rank = {type = "int", default = 16, min = 1, max = 512, help = "capacity of the adapter"}
# lora_alpha = {type = "int", default = 32, min = 1, max = 2048, help = "strength of the adapter"}
# learning_rate = {type = "float", default = 5e-5, min = 0, max = 1, help = "peak of the schedule"}
# epochs = {type = "float", default = 1.0, min = 0, max = 1000, help = "passes over the data"}
# max_steps = {type = "int", default = 0, min = 0, help = "steps of the optimiser; 0: as many as the epochs have"}
# batch = {type = "int", default = 4, min = 1, help = "conversations at once"}
# accumulate = {type = "int", default = 4, min = 1, help = "batches in a step"}
# context = {type = "int", default = 1024, min = 8, help = "longest conversation in tokens; the rest is cut off"}
# held_out = {type = "float", default = 0.05, min = 0.0001, max = 0.9, help = "part of the data only for judging"}
# held_out_max = {type = "int", default = 500, min = 1, help = "at most so many conversations for judging"}
# save_steps = {type = "int", default = 100, min = 1, help = "steps between checkpoints"}
# seed = {type = "int", default = 0, min = 0, max = 4294967295, help = "of everything that is drawn"}
# [tool.distrai.presets]
# smoke = {max_steps = 15, batch = 2, accumulate = 1, held_out_max = 16}
# ///
"""Distillation: a student learns to give every token the probability that its teacher gives it."""

from typing import Any

import distrai_job as job
import distrai_training as training
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn import functional
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Judge, train, judge again, save."""
    p = job.params()
    set_seed(p["seed"])
    job.status("loading the models")
    tokenizer = training.load_tokenizer(p["student"])
    check_tokenizers(tokenizer, training.load_tokenizer(p["teacher"]))
    trainer = Distiller(
        training.load_model(p["student"], p["method"]),
        args=SFTConfig(**training.settings(p, max_length=p["context"])),
        train_dataset=examples("train", p),
        eval_dataset=examples("heldout", p),
        processing_class=tokenizer,
        peft_config=None if p["method"] == "full" else adapter(p),
        callbacks=[job.callback()],
    )
    device = trainer.args.device
    trainer.teacher = training.load_frozen(p["teacher"], in_four_bits=p["teacher_4bit"], device=device)
    trainer.share, trainer.temperature = p["share"], p["temperature"]
    training.train(trainer, lambda: training.eval_loss(trainer) | {"kl": trainer.kl()})
    job.status("saving the model")
    training.save(trainer.model, tokenizer, p["student"])


class Distiller(SFTTrainer):
    """A trainer whose loss is partly the distance (KL) to what a teacher predicts. It judges by the data alone."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over tokens that count, of this batch or of all that make one step."""
        student, labels, outputs = self._predicted(model, inputs)
        tokens = len(labels) if num_items_in_batch is None else num_items_in_batch
        loss = functional.cross_entropy(student, labels, reduction="sum")
        if model.training and self.share:
            with torch.no_grad():
                teacher, _, _ = self._predicted(self.teacher, inputs)
            distance = self.temperature**2 * kl(student / self.temperature, teacher / self.temperature)
            loss = (1 - self.share) * loss + self.share * distance
        loss = loss / tokens
        return (loss, outputs) if return_outputs else loss

    @torch.inference_mode()
    def kl(self) -> float:
        """How far the student is from the teacher on the held-out part, in nats per token."""
        distance, tokens = 0.0, 0
        self.model.eval()
        for inputs in self.get_eval_dataloader():
            student, labels, _ = self._predicted(self.model, inputs)
            distance += kl(student, self._predicted(self.teacher, inputs)[0]).item()
            tokens += len(labels)
        return distance / max(1, tokens)

    @staticmethod
    def _predicted(model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """What a model predicts where the next token counts, and that token."""
        labels = inputs["labels"][:, 1:]
        counts = labels != -100
        given = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        outputs = model(**given, use_cache=False)
        return outputs.logits[:, :-1][counts].float(), labels[counts], outputs


def kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student), summed. Models of one family may differ in how many unused tokens they have."""
    size = min(student.shape[-1], teacher.shape[-1])
    ours, theirs = (functional.log_softmax(logits[:, :size], dim=-1) for logits in (student, teacher))
    return functional.kl_div(ours, theirs, reduction="sum", log_target=True)


def check_tokenizers(student: Any, teacher: Any) -> None:
    """End with a clear sentence where the two models do not mean the same by a token."""
    if student.get_vocab() != teacher.get_vocab():
        raise SystemExit(
            "student and teacher have different tokenizers: take two models of one family, "
            "or the template distill-sft, where the student learns from the teacher's texts"
        )


def adapter(p: dict[str, Any]) -> LoraConfig:
    """A low-rank adapter on every linear layer."""
    return LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=p["lora_rank"], lora_alpha=p["lora_alpha"]
    )


def examples(part: str, p: dict[str, Any]) -> Dataset:
    """The conversations of a part of the data, as the trainer wants them."""
    return Dataset.from_list(
        [example(row) for row in job.rows(part, p["held_out_max"] if part == "heldout" else 0)]
    )


def example(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the data: a text, or a prompt and the answer that is to be learnt."""
    if "text" in row:
        return {"text": row["text"]}
    messages = [{"role": item["role"], "content": item["content"]} for item in row["messages"]]
    return {"prompt": messages[:-1], "completion": messages[-1:]}


if __name__ == "__main__":
    main()
