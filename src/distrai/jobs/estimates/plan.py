"""What the training of a template takes: which models read, learn and write how many tokens, for every kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distrai.jobs.data.check import tokens_range
from distrai.jobs.estimates.estimate import READING, TRAINING, Work, Writing
from distrai.jobs.estimates.hardware import INFERENCE_BYTES, Method, NotEstimable, memory_gb
from distrai.jobs.estimates.model_size import ModelSize

_Range = tuple[float, float]
_FOUR_BIT_BYTES = 0.6
_ANSWER_PART = 0.25
"""Of the longest answer that is allowed, what a short one has."""
_REWARD_BYTES = 4.0
_VOCABULARY = 128_000
_LOGIT_BYTES = 10.0
"""Of each token and entry of the vocabulary: 32-bit logits and their gradients, and a copy in 16 bits."""
WRITES = ("grpo", "rlhf", "distill-sft")
"""Kinds whose models write texts while they train, which takes longest."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of a job, the tokens it trains on, and the GPU memory it takes in GB, at least and at most."""

    work: tuple[Work | Writing, ...]
    tokens: _Range
    memory_gb: _Range


@dataclass(frozen=True)
class _Job:
    """The values of a form and its data, as numbers."""

    values: Mapping[str, Any]
    told: Mapping[str, Any]
    size: ModelSize
    teacher: ModelSize | None

    def number(self, name: str, default: float) -> float:
        """A value of the form, if it is one above zero."""
        value = self.values.get(name)
        return (
            float(value)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
            else default
        )

    @property
    def method(self) -> Method:
        named = str(self.values.get("method", ""))
        if named in set(Method):
            return Method(named)
        return Method.QLORA if "lora_rank" in self.values else Method.FULL

    @property
    def examples(self) -> float:
        """Those that are trained on."""
        every = float(self.told["examples"])
        aside = min(every * self.number("held_out", 0.05), self.number("held_out_max", every))
        return float(self.told["train"] or max(1.0, every - aside))

    @property
    def each(self) -> _Range:
        """Tokens of an example."""
        few, many = tokens_range(self.told)
        return few / self.told["examples"], many / self.told["examples"]

    @property
    def per_step(self) -> float:
        return self.number("batch", 1) * self.number("accumulate", 1)

    def steps(self, examples: float) -> float:
        """Of the optimiser: as many as all passes over the data have, or as are allowed."""
        every = max(1.0, examples * self.number("epochs", 1) / self.per_step)
        return min(every, self.number("max_steps", every))

    @property
    def answer(self) -> _Range:
        longest = self.number("answer_tokens", 256)
        return max(1.0, longest * _ANSWER_PART), longest


def plan(
    kind: str, values: Mapping[str, Any], told: Mapping[str, Any], size: ModelSize, teacher: ModelSize | None
) -> Plan:
    """The work of a job of this kind. ``told``: what ``look_at`` says of its data. Raises NotEstimable."""
    if told["tokens"] is None or not told["examples"]:
        raise NotEstimable("there are no examples to reckon with")
    if kind in ("distill", "distill-sft") and teacher is None:
        raise NotEstimable("the size of the teacher is not known: give a folder, or a name that says it")
    job = _Job(values, told, size, teacher)
    if kind == "distill-sft":
        return _by_texts(job)
    if kind == "grpo":
        return _rewarded(job)
    if kind == "rlhf":
        return _with_reward_model(job)
    return _plain(job, kind)


def _plain(job: _Job, kind: str) -> Plan:
    """A pass over the data is a pass through the model; a reference or a teacher reads along."""
    operations = TRAINING[job.method] * job.size.parameters
    memory = memory_gb(job.size.parameters, job.method)
    if kind == "dpo":
        operations += READING * job.size.parameters
    if job.teacher is not None and kind == "distill":
        operations += READING * job.teacher.parameters
        memory += _held_gb(job.teacher, four_bit=bool(job.values.get("teacher_4bit")))
    seen = job.steps(job.examples) * job.per_step
    if kind == "pretrain":
        few, many = (count * job.examples for count in job.each)
        of_steps = job.number("max_steps", 0) * job.per_step * job.number("context", 512)
        passes = job.number("epochs", 1)
        tokens = (min(few * passes, of_steps or few * passes), min(many * passes, of_steps or many * passes))
    else:
        tokens = (seen * job.each[0], seen * job.each[1])
    return Plan((Work(tokens, operations), _judging(job)), tokens, _memory(job, memory))


def _rewarded(job: _Job) -> Plan:
    """Each question is answered several times; all answers are trained on."""
    texts = job.number("answers", 8)
    steps = job.steps(job.examples * texts)
    return _policy(
        job, steps, memory_gb(job.size.parameters, job.method), READING * (job.number("beta", 0) > 0)
    )


def _with_reward_model(job: _Job) -> Plan:
    """First a model of rewards, then a policy that it rewards; each is as large as the model."""
    first_steps = job.steps(job.examples)
    seen = first_steps * job.per_step
    first = (seen * job.each[0], seen * job.each[1])
    memory = memory_gb(job.size.parameters, job.method) + job.size.parameters * _REWARD_BYTES / 1e9
    steps = job.steps(job.examples * job.number("answers", 4))
    then = _policy(job, steps, memory, 2 * READING)
    reward = Work(first, TRAINING[job.method] * job.size.parameters)
    return Plan((reward, *then.work), (first[0] + then.tokens[0], first[1] + then.tokens[1]), then.memory_gb)


def _policy(job: _Job, steps: float, memory: float, reading: float) -> Plan:
    texts, batch = steps * job.per_step, job.number("batch", 8)
    low, high = (texts * (asked + answered) for asked, answered in zip(job.each, job.answer, strict=True))
    four_bit = job.method is Method.QLORA
    writing = _written(job.size, texts / batch, int(batch), job.answer, four_bit=four_bit)
    judged = 2 * job.number("held_out_max", 64) / batch
    judging = _written(job.size, judged, int(batch), job.answer, four_bit=four_bit)
    operations = (TRAINING[job.method] + reading) * job.size.parameters
    return Plan((writing, Work((low, high), operations), judging), (low, high), _memory(job, memory))


def _by_texts(job: _Job) -> Plan:
    """The teacher answers every question, then the student learns the answers."""
    assert job.teacher is not None
    questions = min(job.examples, job.number("questions_max", job.examples))
    texts, batch = questions * job.number("samples", 1), job.number("batch", 4)
    four_bit = bool(job.values.get("teacher_4bit"))
    writing = _written(job.teacher, texts / batch, int(batch), job.answer, four_bit=four_bit)
    seen = job.steps(texts) * job.per_step
    low, high = (seen * (asked + answered) for asked, answered in zip(job.each, job.answer, strict=True))
    work = Work((low, high), TRAINING[Method.FULL] * job.size.parameters)
    memory = max(memory_gb(job.size.parameters, Method.FULL), _held_gb(job.teacher, four_bit=four_bit))
    return Plan((writing, work), (low, high), _memory(job, memory))


def _written(model: ModelSize, batches: float, batch: int, tokens: _Range, *, four_bit: bool) -> Writing:
    size = _FOUR_BIT_BYTES if four_bit else INFERENCE_BYTES
    return Writing(batches, batch, tokens, model.parameters, model.depth, size)


def _judging(job: _Job) -> Work:
    """The held-out part, read before and after."""
    every = float(job.told["examples"])
    aside = float(
        job.told["held_out"] or min(every * job.number("held_out", 0.05), job.number("held_out_max", every))
    )
    few, many = (2 * aside * count for count in job.each)
    return Work((few, many), READING * job.size.parameters)


def _held_gb(model: ModelSize, *, four_bit: bool) -> float:
    return model.parameters * (_FOUR_BIT_BYTES if four_bit else INFERENCE_BYTES) / 1e9


def _memory(job: _Job, base: float) -> _Range:
    """At least what models and optimiser take; at most that and a batch of the longest texts."""
    longest = job.number("context", job.number("answer_tokens", 1024))
    size = job.size
    width = (size.parameters / (12 * size.depth)) ** 0.5
    each = (size.vocabulary or _VOCABULARY) * _LOGIT_BYTES + width * size.depth * 2.0
    return base, base + job.number("batch", 1) * longest * each / 1e9
