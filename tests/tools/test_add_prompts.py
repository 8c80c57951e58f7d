"""Prompts of a data set: what prepare_dataset.py stores by itself, what add_prompts.py adds later, and the bos token."""

from __future__ import annotations

import hashlib
import json
import os

import h5py
import numpy as np
import pytest
from test_prepare_dataset import rows, write_images

DEFAULTS = ["This product text", "and its image"]


def byte_bpe(folder, special=("<|endoftext|>",), plain=(), template=None):
    """A model folder with a byte-level BPE tokenizer, as decoders have: special tokens get the ids 0, 1, ..."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["This product text and its image red car house tree"] * 4, trainer)
    tokenizer.add_tokens([AddedToken(token, special=False) for token in plain])
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(template, None, [(token, i) for i, token in enumerate(special)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def word_piece(folder):
    """A model folder with BERT's kind of tokenizer: [CLS] text [SEP], any letter known."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "this", "product", "text", "and", "its", "image", *letters, *(f"##{c}" for c in letters)]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


def prepare(tools, raw, model, out, *options):
    tools.run("prepare_dataset.py", "--raw", raw, "--model", model, "--out", out, *options)
    return out


def prompts(path) -> dict[str, list[int]]:
    with h5py.File(path) as file:
        assert file["prompts/texts/values"].dtype == np.uint8 and file["prompts/tokens/values"].dtype == np.int32
        stored = [bytes(row).decode() for row in rows(file, "prompts/texts")]
        return dict(zip(stored, rows(file, "prompts/tokens"), strict=True))


def bos(path) -> int:
    with h5py.File(path) as file:
        assert file.attrs["bos_token"].dtype == np.int64
        return int(file.attrs["bos_token"])


def expected_ids(model, text: str) -> list[int]:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(model / "tokenizer.json")).encode(text, add_special_tokens=False).ids


def test_a_decoder_gets_the_default_pieces(tools, raw, tmp_path):
    model = byte_bpe(tmp_path / "m")
    # --max-length 2 cuts texts; prompts are longer and stay whole
    stored = prompts(prepare(tools, raw, model, tmp_path / "data.h5", "--max-length", 2))
    assert list(stored) == [*DEFAULTS, "<|endoftext|>"]
    assert stored["<|endoftext|>"] == [0]
    for piece in DEFAULTS:
        assert stored[piece] == expected_ids(model, piece)
    assert max(map(len, stored.values())) > 2
    with h5py.File(tmp_path / "data.h5") as file:
        assert max(map(len, rows(file, "train/tokens"))) == 2 and file.attrs["max_length"] == 2
    assert bos(tmp_path / "data.h5") == -1


def test_more_pieces(tools, raw, tmp_path):
    model = byte_bpe(tmp_path / "m")
    more = [" and its image", "Größe: 猫", "and its image", "line\nbreak", "<|endoftext|><|endoftext|>"]
    stored = prompts(prepare(tools, raw, model, tmp_path / "data.h5", *(part for text in more for part in ("--prompt", text))))
    assert list(stored) == [*DEFAULTS, "<|endoftext|>", " and its image", "Größe: 猫", "line\nbreak", "<|endoftext|><|endoftext|>"]
    assert stored["<|endoftext|><|endoftext|>"] == [0, 0]
    assert stored[" and its image"] != stored["and its image"]  # each is tokenised as it stands, blanks included
    assert all(stored[text] == expected_ids(model, text) for text in more)


@pytest.mark.parametrize(
    "special, plain, closings",
    [
        (("<|endoftext|>", "<|end_of_text|>"), (), ["<|endoftext|>", "<|end_of_text|>"]),
        (("<|begin_of_text|>", "<|end_of_text|>"), (), ["<|end_of_text|>"]),
        ((), (), []),
        ((), ("<|endoftext|>",), []),  # a token, but not a special one
    ],
)
def test_closings_are_special_tokens(tools, raw, tmp_path, special, plain, closings):
    model = byte_bpe(tmp_path / "m", special, plain)
    stored = prompts(prepare(tools, raw, model, tmp_path / "data.h5"))
    assert list(stored) == [*DEFAULTS, *closings]
    assert [stored[closing] for closing in closings] == [[special.index(closing)] for closing in closings]


@pytest.mark.parametrize(
    "template, expected",
    [
        (None, -1),
        ("<|begin_of_text|> $A", 1),  # Llama
        ("$A <|endoftext|>", -1),  # Qwen3-Embedding: closed, not begun
        ("<|begin_of_text|> $A <|endoftext|>", -1),  # [CLS] text [SEP] under other names
        ("<|begin_of_text|> <|begin_of_text|> $A", -1),
    ],
)
def test_bos_token(tools, raw, tmp_path, template, expected):
    model = byte_bpe(tmp_path / "m", ("<|endoftext|>", "<|begin_of_text|>"), template=template)
    out = prepare(tools, raw, model, tmp_path / "data.h5", "--max-length", 4)
    assert bos(out) == expected
    with h5py.File(out) as file:
        begins = {row[0] for row in rows(file, "train/tokens")}
        assert (begins == {1}) == bool(template and template.startswith("<|begin"))
    assert prompts(out)["<|endoftext|>"] == [0]  # without the special tokens around it


def test_an_encoder(tools, raw, tmp_path):
    stored = prompts(prepare(tools, raw, word_piece(tmp_path / "m"), tmp_path / "data.h5"))
    assert stored == {"This product text": [4, 5, 6], "and its image": [7, 8, 9]}  # no [CLS], no [SEP], no closing
    assert bos(tmp_path / "data.h5") == -1


def test_a_tokenizer_that_knows_no_piece(tools, raw, model, tmp_path):
    """Of the words of this tokenizer no default piece can be made: there are none, and that is no error."""
    out = prepare(tools, raw, model, tmp_path / "data.h5")
    assert prompts(out) == {}
    tools.run("add_prompts.py", out, "--model", model, "red car")
    assert list(prompts(out)) == ["red car"]


def test_bad_pieces(tools, raw, model, tmp_path):
    def fails(*pieces) -> str:
        return tools.fails(
            "prepare_dataset.py",
            "--raw",
            raw,
            "--model",
            model,
            "--out",
            tmp_path / "data.h5",
            *(part for piece in pieces for part in ("--prompt", piece)),
        )

    assert "prompt 'red lorry car': " in fails("car", "red lorry car")
    assert "its token 1 is the unknown one" in fails("red lorry car")
    assert "prompt '': is empty" in fails("")
    assert "prompt ' ': " in fails(" ") and "makes no token of it" in fails(" ")
    assert "not UTF-8" in fails("caf\udce9")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]


def test_official_sets_have_them_too(tools, tmp_path):
    folder = tmp_path / "official"
    folder.mkdir()
    for stem in ("trn", "tst", "lbl"):
        (folder / f"{stem}.raw.txt").write_text("red car\n")
        (folder / f"{stem}_X_Y.txt").write_text("1 1\n0:1\n")
    model = byte_bpe(tmp_path / "m", ("<|endoftext|>", "<|begin_of_text|>"), template="<|begin_of_text|> $A")
    tools.run("import_official.py", "--dir", folder, "--model", model, "--out", tmp_path / "data.h5", "--prompt", "tree")
    assert list(prompts(tmp_path / "data.h5")) == [*DEFAULTS, "<|endoftext|>", "tree"] and bos(tmp_path / "data.h5") == 1


def everything_else(path) -> dict:
    """Attributes and values of all but the prompts; every dataset contiguous and aligned."""
    found: dict = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            assert item.chunks is None and (not item.size or item.id.get_offset() % 64 == 0), name
            if not name.startswith("prompts/"):
                found[name] = item[:].tolist()

    with h5py.File(path) as file:
        found.update({f"@{key}": value for key, value in file.attrs.items() if key != "bos_token"})
        file.visititems(collect)
    return found


@pytest.fixture
def decoder_set(tools, raw, tmp_path):
    model = byte_bpe(tmp_path / "m", ("<|endoftext|>", "<|begin_of_text|>"), template="<|begin_of_text|> $A")
    write_images(tmp_path / "images.h5", ["a.png", "b.png", "c.png"])
    return prepare(tools, raw, model, tmp_path / "data.h5", "--images", tmp_path / "images.h5"), model


def test_add(tools, decoder_set):
    out, model = decoder_set
    os.chmod(out, 0o640)
    before, stored = everything_else(out), prompts(out)
    # in the order of the error message of the program: data, --model, strings
    result = tools.run("add_prompts.py", out, "--model", model, "Text:", "and its image", "-- end", "Text:")
    after = prompts(out)
    assert list(after) == [*stored, "Text:", "-- end"] and {text: after[text] for text in stored} == stored
    assert after["Text:"] == expected_ids(model, "Text:")
    assert everything_else(out) == before and bos(out) == 1
    assert "added  'Text:'" in result.stderr and "there  'and its image'" in result.stderr
    assert out.stat().st_mode & 0o777 == 0o640
    assert not [path.name for path in out.parent.iterdir() if path.name.startswith(".")]
    inode = out.stat().st_ino
    tools.run("add_prompts.py", out, "--model", model, "Text:")
    assert out.stat().st_ino == inode and prompts(out) == after  # nothing to do: nothing is rewritten


def test_older_sets_are_brought_up(tools, decoder_set):
    out, model = decoder_set
    stored = prompts(out)
    with h5py.File(out, "r+") as file:
        del file["prompts"]
        del file.attrs["bos_token"]
    before = everything_else(out)
    tools.run("add_prompts.py", out, "--model", model)
    assert prompts(out) == stored and bos(out) == 1 and everything_else(out) == before
    with h5py.File(out, "r+") as file:
        del file.attrs["bos_token"]
    tools.run("add_prompts.py", out, "--model", model)
    assert prompts(out) == stored and bos(out) == 1


def test_refusals(tools, decoder_set, tmp_path):
    out, model = decoder_set
    whole = out.read_bytes()

    def fails(*arguments) -> str:
        error = tools.fails("add_prompts.py", *arguments)
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        return error

    other = byte_bpe(tmp_path / "other", ("<|im_end|>",))
    error = fails(out, "--model", other, "text")
    assert "data.h5: tokenised with a tokenizer.json of SHA-256" in error and "(m), the model other has" in error
    assert "prompt '': is empty" in fails(out, "--model", model, "")
    assert "nothing.h5: no such file" in fails(tmp_path / "nothing.h5", "--model", model, "text")
    assert "tokenizer.json: no such file" in fails(out, "--model", tmp_path, "text")
    assert "format and version are 'vixen-images', 1" in fails(tmp_path / "images.h5", "--model", model, "text").replace("np.int64(1)", "1")
    assert out.read_bytes() == whole
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    assert "cut.h5: not a readable HDF5 file" in fails(tmp_path / "cut.h5", "--model", model, "text")
    with h5py.File(out, "r+") as file:
        file["prompts/tokens/offsets"][1] = 99
    assert "data.h5:/prompts/tokens: damaged: its offsets" in fails(out, "--model", model, "text")


def test_full_disk(tools, decoder_set, tmp_path, monkeypatch):
    import shutil

    out, model = decoder_set
    whole = out.read_bytes()

    def refuse(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    assert "cannot be written: no space left on device" in tools.fails("add_prompts.py", out, "--model", model, "more")
    assert out.read_bytes() == whole
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_program_reads_what_was_added(tools, decoder_set):
    import subprocess

    binary = os.environ.get("VIXEN_BINARY", "")
    if not os.path.exists(binary):
        pytest.skip("no VIXEN_BINARY")
    out, model = decoder_set
    tools.run("add_prompts.py", out, "--model", model, "Text:")
    report = subprocess.run([binary, "inspect", out], capture_output=True, text=True, timeout=60)
    assert report.returncode == 0, report.stderr
    assert 'prompt "Text:": tokens ' in report.stdout and "every text begins with token 1" in report.stdout


def test_a_tokenizer_with_a_byte_order_mark(tools, raw, model, tmp_path):
    """It is read without the mark; its checksum is that of the file as it lies there."""
    import shutil

    marked = tmp_path / "marked"
    shutil.copytree(model, marked)
    (marked / "tokenizer.json").write_bytes(b"\xef\xbb\xbf" + (model / "tokenizer.json").read_bytes())
    sets = []
    for name, folder in (("plain", model), ("marked", marked)):
        tools.run("prepare_dataset.py", "--raw", raw, "--model", folder, "--out", tmp_path / f"{name}.h5")
        with h5py.File(tmp_path / f"{name}.h5") as file:
            sets.append(file["train/tokens/values"][:].tolist())
            assert file.attrs["tokenizer_sha256"] == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert sets[0] == sets[1]


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda json: json["model"].update(unk_token="[GONE]"), "can use: WordLevel error: Missing [UNK] token from the vocabulary"),
        (
            lambda json: json["post_processor"].update(special_tokens={}),
            "tokenizer.json: not a tokenizer.json that the tokenizers library can use: ",
        ),
        (lambda json: json.update(model=3), "tokenizer.json: not a tokenizer.json that the tokenizers library can use: "),
    ],
)
def test_a_tokenizer_that_fails_when_it_is_used(tools, raw, model, tmp_path, change, expected):
    import shutil

    folder = tmp_path / "odd"
    shutil.copytree(model, folder)
    content = json.loads((model / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    result = tools.run("prepare_dataset.py", "--raw", raw, "--model", folder, "--out", tmp_path / "data.h5", code=2)
    assert expected in result.stderr.splitlines()[-1]
