"""Corpora of conversations and of pairs: what is scored, cut, left out and counted, and which split it is in."""

import json
import random

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from distrai.protocol.blobs import blob_ref
from distrai.training.data.corpus import build_corpus, corpus_from_documents
from distrai.training.data.dataset import Dataset, check_layout
from distrai.training.data.documents import SPLITS
from distrai.training.data.layouts import PADDING, TOKEN_MASK, UNSCORED
from distrai.training.data.manifest import ChatTemplate, CorpusManifest, Shard, Splits, parse_manifest
from distrai.training.errors import (
    BadExamples,
    BadSource,
    CorpusTooSmall,
    MalformedManifest,
    ManifestNotCanonical,
    NothingScored,
    TokenOutOfVocabulary,
)
from distrai.training.tokenizer import ByteTokenizer, load_tokenizer
from helpers.data_lines import chat, preference, write
from helpers.toy_models import toy_tokenizer
from training.tiny import Store, documents, pairs_of, section

CONTEXT = 64
HEAD, MIDDLE, END = "<|user|>\n", "<|end|>\n<|assistant|>\n", "<|end|>"


@pytest.fixture
def build(tmp_path, store):
    def corpus(form, *lines, name="lines.jsonl", **changes):
        write(tmp_path / name, *lines)
        chosen = section(
            **{"format": form, "globs": (name,), "context": CONTEXT, "shard_bytes": 4096, **changes}
        )
        return build_corpus(chosen, load_tokenizer(chosen.tokenizer, tmp_path), store.write, tmp_path)

    return corpus


def entries(corpus, split, store):
    data = b"".join(store.read(shard.blob) for shard in corpus.manifest.shards(split))
    return np.frombuffer(data, "<u4").reshape(-1, CONTEXT + 1)


def texts(corpus, store, split=None, scored=False):
    rows = [row for each in ([split] if split else SPLITS) for row in entries(corpus, each, store)]
    kept = [row[(row < UNSCORED) if scored else (row != PADDING)] & TOKEN_MASK for row in rows]
    return [bytes(row.tolist()).decode() for row in kept]


def test_a_conversation_is_a_row_and_only_its_answer_is_scored(build, store):
    corpus = build("chat", *(chat(f"q{at}", f"a{at}") for at in range(9)))
    assert sorted(texts(corpus, store)) == [f"{HEAD}q{at}{MIDDLE}a{at}{END}\n" for at in range(9)]
    assert sorted(texts(corpus, store, scored=True)) == [f"a{at}{END}" for at in range(9)]
    assert (corpus.manifest.layout, corpus.manifest.token_dtype) == ("rows", "u32")
    data = Dataset(corpus.manifest, "train", CONTEXT, 256, store.read)
    assert (data.layout, data.sample_tokens, data.samples_total) == ("rows", CONTEXT, 7)
    batch = data.batch([6, 0])
    assert batch.dtype == torch.int64 and batch.shape == (2, CONTEXT + 1)
    assert torch.equal(batch, torch.from_numpy(entries(corpus, "train", store)[[6, 0]].astype(np.int64)))


def test_a_pair_is_two_rows_with_one_question(build, store):
    corpus = build("preferences", *(preference(f"q{at}", f"good{at}", f"bad{at}") for at in range(30)))
    data = Dataset(corpus.manifest, "train", CONTEXT, 256, store.read)
    assert (data.layout, data.sample_tokens, data.samples_total) == ("pairs", 2 * CONTEXT, 26)
    assert len(corpus.manifest.splits.train) > 1 and data.sample(0).shape == (2 * CONTEXT + 2,)
    said = texts(corpus, store, "train", scored=True)
    for good, bad in zip(said[::2], said[1::2], strict=True):
        assert good.startswith("good") and bad == good.replace("good", "bad")


def test_earlier_answers_of_a_preference_are_not_scored(build, store):
    talk = [*chat("q", "earlier")["messages"], {"role": "user", "content": "more"}]
    lines = [preference(str(at)) for at in range(3)]
    for at, line in enumerate(lines):
        line["input"]["messages"] = [*talk[:2], {"role": "user", "content": str(at)}]
    corpus = build("preferences", *lines, context=CONTEXT * 2)
    data = Dataset(corpus.manifest, "train", CONTEXT * 2, 256, store.read).sample(0)
    assert bytes(data[data < UNSCORED].tolist()).decode() == f"yes{END}no{END}"


def test_equal_prompts_are_never_on_both_sides(build, store):
    draw = random.Random(1)
    lines = [chat(f"question {draw.randrange(40)}", f"answer {at}") for at in range(200)]
    for line in lines[::2]:  # in another spelling
        question = line["messages"][0]
        question |= {"content": [{"type": "text", "text": question["content"]}], "weight": None}
    corpus = build("chat", *lines, held_out_fraction=0.2, tuning_fraction=0.1)
    asked = {split: {text.split(MIDDLE)[0] for text in texts(corpus, store, split)} for split in SPLITS}
    assert not asked["train"] & asked["held_out"] and not asked["train"] & asked["tuning"]
    assert not asked["tuning"] & asked["held_out"] and sum(map(len, asked.values())) == 40
    assert 0.2 <= len(texts(corpus, store, "held_out")) / 200 < 0.26
    assert 0.1 <= len(texts(corpus, store, "tuning")) / 200 < 0.16


def test_order_names_and_copies_do_not_matter(build, tmp_path, store):
    lines = [chat(f"q{at}", f"a{at}") for at in range(20)]
    first = build("chat", *lines)
    write(tmp_path / "one.jsonl", *lines[10:], "", json.dumps({**lines[3], "id": 3}))
    second = build("chat", *reversed(lines[:10]), name="two.jsonl", globs=("one.jsonl", "two.jsonl"))
    assert first.blob == second.blob
    assert (second.counts.read, second.counts.kept, second.counts.duplicates) == (21, 20, 1)
    assert second.counts.text() == "20 of 21 examples are used; 1 left out as equal to others"


def test_what_is_too_long_is_cut_at_its_end_and_counted(build, store):
    good = [chat(f"q{at}", "short") for at in range(3)]
    answer = "x" * 100
    corpus = build("chat", *good, chat("long", answer), chat("q" * 100, "never seen"))
    kept = CONTEXT + 1 - len(HEAD + "long" + MIDDLE)
    assert f"{HEAD}long{MIDDLE}{answer[:kept]}" in texts(corpus, store)
    assert (corpus.counts.cut, corpus.counts.left_out, corpus.counts.kept) == (2, 1, 4)
    pairs = [preference(f"q{at}") for at in range(3)]
    same = build("preferences", *pairs, preference("p", answer + "a", answer + "b"))
    assert (same.counts.cut, same.counts.left_out, same.counts.kept) == (1, 1, 3)
    silent = {"messages": [chat("q")["messages"][0], {"role": "assistant", "content": "no", "weight": 0}]}
    assert build("chat", *good, silent).counts.left_out == 1


def test_a_tokenizer_with_its_own_template(build, tmp_path, store):
    toy_tokenizer().save_pretrained(tmp_path / "toy")
    corpus = build("chat", *(chat(f"q {at}", f" a {at}é") for at in range(3)), tokenizer="toy")
    tokenizer = load_tokenizer("toy", tmp_path)
    row = entries(corpus, "train", store)[0]
    assert tokenizer.decode(row[row < UNSCORED].tolist()).startswith(" a ")
    assert tokenizer.decode(row[row < UNSCORED].tolist()).endswith("é<|im_end|>")
    assert (row[row < UNSCORED] == tokenizer.to_fast().token_to_id("<|im_end|>")).sum() == 1
    assert corpus.manifest.chat.tokens["eos_token"] == "<|im_end|>"
    spaced = toy_tokenizer()
    spaced.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    spaced.save_pretrained(tmp_path / "spaced")
    row = entries(
        build("chat", *(chat(f"q{at}", "a") for at in range(3)), tokenizer="spaced"), "train", store
    )[0]
    assert tokenizer.decode(row[row < UNSCORED].tolist()) == "a<|im_end|>"
    assert parse_manifest(corpus.manifest.to_bytes()) == corpus.manifest


def test_bad_lines_are_told_with_file_and_line(build, tmp_path):
    good = [chat(f"q{at}") for at in range(3)]
    with pytest.raises(
        BadExamples, match=r"^lines\.jsonl line 4: no JSON: .*; lines\.jsonl line 6: messages is missing"
    ):
        build("chat", *good, "{", chat("x"), {"mesages": []})
    with pytest.raises(BadExamples, match=r"line 1: .*line 2: .*line 3: .*; and more$"):
        build("chat", *["{"] * 9)
    with pytest.raises(BadExamples, match=r"lines\.jsonl line 1: input is missing"):
        build("preferences", *good)
    with pytest.raises(BadExamples, match=r"messages\[2\]\.weight is 0\.5, and must be 0"):
        build(
            "chat",
            {"messages": [good[0]["messages"][0], {"role": "assistant", "content": "a", "weight": 0.5}]},
        )
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(BadSource, match="one JSON object per line"):
        build("chat", *good, globs=("*.json",))


def test_too_few_prompts_are_refused(build):
    with pytest.raises(CorpusTooSmall, match="2 different prompts that something follows, but 3 are needed"):
        build("chat", chat("a"), chat("b"), chat("b", "other"))
    with pytest.raises(CorpusTooSmall, match="0 different prompts"):
        build("chat", chat("a" * 200))


def handmade(store, rows, split_width=CONTEXT + 1, layout="rows"):
    def shards(parts):
        blob = store.write(np.asarray(parts, "<u4").tobytes())
        return (Shard("0x" + blob.hash.hex(), blob.size, blob.size // 4),)

    zero = "0x" + "00" * 32
    splits = Splits(train=shards(rows), tuning=(), held_out=shards([*rows, *rows]))
    return CorpusManifest(
        format="distrai/corpus/1", source="x", token_dtype="u32", tokenizer_hash=zero, license="MIT",
        splits=splits, layout=layout,
    )  # fmt: skip


def test_shards_of_strangers_are_not_believed(store):
    good = np.full(CONTEXT + 1, PADDING)
    good[3] = 255
    Dataset(handmade(store, [good]), "train", CONTEXT, 256, store.read).sample(0)
    with pytest.raises(NothingScored, match="made for another context"):
        Dataset(handmade(store, [good]), "train", CONTEXT - 1, 256, store.read)
    with pytest.raises(NothingScored, match="made for another context"):
        Dataset(handmade(store, [good], layout="pairs"), "train", CONTEXT, 256, store.read)
    unscored = np.full(CONTEXT + 1, PADDING)
    unscored[0] = 7  # what nothing comes before is never predicted
    with pytest.raises(NothingScored, match="nothing is to be predicted"):
        Dataset(handmade(store, [good, unscored]), "train", CONTEXT, 256, store.read).sample(0)
    for outside in (256, 256 | UNSCORED):
        bad = good.copy()
        bad[5] = outside
        with pytest.raises(TokenOutOfVocabulary, match="token 256"):
            Dataset(handmade(store, [bad]), "train", CONTEXT, 256, store.read).sample(0)


def test_manifests_say_their_layout_only_where_it_is_not_the_old_one(store):
    rows = handmade(store, [pairs_of(1, 1, 1)[:17]])
    assert b'"layout":"rows"' in rows.to_bytes() and parse_manifest(rows.to_bytes()) == rows
    check_layout(rows, section(format="chat"))
    with pytest.raises(MalformedManifest, match="has rows, but the recipe's data becomes pairs"):
        check_layout(rows, section(format="preferences"))
    with pytest.raises(MalformedManifest):  # a file of settings is made of it
        parse_manifest(replace(rows, chat=ChatTemplate("x", {"auto_map": "evil"})).to_bytes())
    with pytest.raises(MalformedManifest, match="entries of rows have 4 bytes, not 2"):
        parse_manifest(rows.to_bytes().replace(b"u32", b"u16"))
    with pytest.raises(MalformedManifest):
        parse_manifest(rows.to_bytes().replace(b'"rows"', b'"columns"'))
    corpus = corpus_from_documents(documents(), section(shard_bytes=4096), ByteTokenizer(), Store().write)
    assert b"layout" not in corpus.manifest.to_bytes() and b"chat" not in corpus.manifest.to_bytes()
    spelled = corpus.manifest.to_bytes().replace(b'"license"', b'"layout":"windows","license"')
    with pytest.raises(ManifestNotCanonical):
        parse_manifest(spelled)
    # The bytes of corpora of the first version, from before there were layouts.
    first = "cd30a371bd3a178bf43462667f76a7ef8f2156dfbed472cc97ab54b4f3bc3115"
    assert corpus.blob.hash.hex() == first and blob_ref(corpus.manifest.to_bytes()) == corpus.blob
