import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers

from distrai.protocol.blobs import blob_ref
from distrai.training.errors import CannotLoadTokenizer
from distrai.training.export import export_tokenizer
from distrai.training.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    load_tokenizer,
    tokenizer_from_canonical,
)

BYTES = ByteTokenizer()
FAST = BYTES.to_fast()


@pytest.fixture
def words(tmp_path):
    fast = FastTokenizer(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@given(st.text())
def test_bytes_are_their_own_ids_and_come_back(text):
    assert BYTES.encode(text).tolist() == list(text.encode())
    assert BYTES.decode(BYTES.encode(text).tolist()) == text


@given(st.text())
def test_the_exported_byte_tokenizer_is_the_same(text):
    assert FAST.encode(text).ids == list(text.encode())
    assert FAST.decode(list(text.encode()), skip_special_tokens=False) == text


def test_auto_tokenizer_loads_the_export_without_our_code(tmp_path):
    from transformers import AutoTokenizer

    export_tokenizer(BYTES, 64, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    text = " Привет , 世界 🙂\t\x00 <s> </s> .\n\n"
    assert loaded(text).input_ids == list(text.encode())
    assert loaded.decode(loaded(text).input_ids) == text
    assert (len(loaded), loaded.model_max_length) == (256, 64)


def test_the_hash_names_the_byte_tokenizer_for_ever():
    assert BYTES.canonical == b'{"format":"distrai/tokenizer/1","kind":"bytes","vocabulary":256}'
    assert BYTES.hash == blob_ref(BYTES.canonical).hash
    assert load_tokenizer("bytes").hash == BYTES.hash


def test_a_stream_gives_characters_only_when_they_are_whole():
    feed = BYTES.streamer()
    assert [feed(byte) for byte in "é€".encode()] == ["", "é", "", "", "€"]


def test_a_tokenizer_is_loaded_from_a_folder_or_its_file(words):
    for name in (str(words), str(words / "tokenizer.json")):
        tokenizer = load_tokenizer(name)
        assert tokenizer.encode("a b a").tolist() == [0, 1, 0]
        assert tokenizer.vocabulary == 3
    assert load_tokenizer(words.name, words.parent).vocabulary == 3


def test_the_hash_depends_on_what_a_tokenizer_does_not_on_how_it_was_written(words):
    before = load_tokenizer(str(words)).hash
    file = words / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=7))
    assert load_tokenizer(str(words)).hash == before
    file.write_text(file.read_text().replace('"b"', '"c"'))
    assert load_tokenizer(str(words)).hash != before


def test_canonical_bytes_rebuild_the_tokenizer(words):
    for tokenizer in (BYTES, load_tokenizer(str(words))):
        again = tokenizer_from_canonical(tokenizer.canonical)
        assert (again.hash, again.vocabulary) == (tokenizer.hash, tokenizer.vocabulary)
        assert again.encode("a b").tolist() == tokenizer.encode("a b").tolist()
    with pytest.raises(CannotLoadTokenizer):
        tokenizer_from_canonical(b"{}")


def test_bytes_are_counted_whatever_the_tokenizer():
    fast = HuggingFaceTokenizer(ByteTokenizer().to_fast())
    ids = list("né".encode())
    assert fast.byte_count(ids) == BYTES.byte_count(ids) == 3


def test_what_is_no_tokenizer_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CannotLoadTokenizer, match='use "bytes"'):
        load_tokenizer(str(tmp_path))
