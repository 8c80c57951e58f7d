"""vixen export end to end: tiny trained runs, every format loaded by the library it is for, embeddings as `vixen embed`'s."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_add_prompts import byte_bpe, word_piece
from test_prepare_dataset import rows

from vixen_tools.program import mpi_environment

VIXEN = os.environ.get("VIXEN_BINARY", "")
pytestmark = pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
TOLERANCE = 1e-5
WIDTH = 12  # of a picture embedding
LABELS = ["red car", "big house", "green tree", "blue icon", "open arrow", "left, right", "small red tree", "close the house"]


def vixen(*arguments, code: int = 0, ranks: int = 0) -> str:
    """Standard error of the command."""
    launcher = ["mpirun", "-n", str(ranks), "--oversubscribe"] if ranks else []
    done = subprocess.run([*launcher, VIXEN, *map(str, arguments)], capture_output=True, text=True, timeout=250, env=mpi_environment())
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stderr


def mistake(*arguments) -> str:
    lines = vixen(*arguments, code=2).strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vixen: "), lines
    return lines[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """models/{bert,distilbert,qwen2,llama}, raw/, images.h5 and one data set for each model."""
    import torch
    import transformers

    from vixen_tools.image_rows import write_images

    folder = tmp_path_factory.mktemp("export")
    (folder / "models").mkdir()
    torch.manual_seed(3)
    bert = word_piece(folder / "models/bert")
    encoder = {"vocab_size": 300, "max_position_embeddings": 48}
    transformers.BertModel(
        transformers.BertConfig(**encoder, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    ).save_pretrained(bert)
    distilbert = word_piece(folder / "models/distilbert")
    transformers.DistilBertModel(transformers.DistilBertConfig(**encoder, dim=32, n_layers=2, n_heads=4, hidden_dim=48)).save_pretrained(
        distilbert
    )
    decoder = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    }
    qwen2 = byte_bpe(folder / "models/qwen2")
    transformers.Qwen2Model(transformers.Qwen2Config(**decoder)).to(torch.bfloat16).save_pretrained(qwen2)
    llama = byte_bpe(folder / "models/llama", ("<|begin|>", "<|endoftext|>"), template="<|begin|> $A")
    transformers.LlamaModel(transformers.LlamaConfig(**decoder, tie_word_embeddings=False)).save_pretrained(llama)

    generator = np.random.default_rng(1)
    names = [f"{i}.png" for i in range(9)]
    write_images(folder / "images.h5", names, WIDTH, iter([generator.normal(size=(9, WIDTH)).astype(np.float16)]), "test", 32, "test")
    (folder / "raw").mkdir()

    def item(number: int, title: str, **more) -> str:
        pictures = [names[(number + i) % 9] for i in range(number % 3)]
        return json.dumps({"uid": str(number), "title": title, "content": "", **({"images": pictures} if pictures else {}), **more}) + "\n"

    def side(name: str, count: int) -> None:
        with open(folder / "raw" / name, "w") as file:
            for i in range(count):
                truth = sorted({i % len(LABELS), *generator.integers(len(LABELS), size=2).tolist()})
                words = " ".join(LABELS[label] for label in truth).split()
                title = " ".join(generator.permutation(words)[: 1 + i % 9])
                file.write(item(i, title, target_ind=truth, target_rel=[1.0] * len(truth)))

    side("trn.json", 24)
    side("tst.json", 11)
    (folder / "raw/lbl.json").write_text("".join(item(i, text) for i, text in enumerate(LABELS)))
    for model in ("bert", "distilbert", "qwen2", "llama"):
        tool = Path(__file__).resolve().parents[2] / "tools/prepare_dataset.py"
        subprocess.run(
            [
                sys.executable,
                tool,
                "--raw",
                folder / "raw",
                "--images",
                folder / "images.h5",
                "--model",
                folder / "models" / model,
                "--out",
                folder / f"{model}.h5",
                "--max-length",
                "10",
            ],
            check=True,
            capture_output=True,
        )
    return folder


@dataclass
class Run:
    folder: Path
    data: Path
    base: Path
    out: Path  # where exports go

    def export(self, form: str, *more, **how) -> Path:
        vixen("export", "--run.dir", self.folder, "--export.format", form, "--out", self.out / form, *more, **how)
        return self.out / form

    def embed(self, *more) -> np.ndarray:
        out = self.out / "embedded.h5"
        vixen("embed", "--run.dir", self.folder, "--embed.side", "queries", "--embed.dtype", "fp32", "--out", out, *more)
        with h5py.File(out) as file:
            return file["embeddings"][:]

    def inputs(self) -> tuple[list[str], list]:
        """Texts and pictures [m, I] of the test queries."""
        with h5py.File(self.data) as file:
            store = file["images/embeddings"][:].astype(np.float32)
            return [bytes(text).decode() for text in rows(file, "test/texts")], [store[i] for i in rows(file, "test/images")]

    def inputs_as_dicts(self) -> list:
        return [{"text": text, "images": images} if len(images) else text for text, images in zip(*self.inputs(), strict=True)]


@pytest.fixture
def train(place, tmp_path):
    def train(model: str, *more) -> Run:
        run = Run(tmp_path / "run", place / f"{model}.h5", place / "models" / model, tmp_path)
        vixen(
            "train",
            "--data.path",
            run.data,
            "--model.path",
            run.base,
            "--run.dir",
            run.folder,
            "--train.epochs",
            2,
            "--train.batch_size",
            12,
            "--train.lr",
            1e-2,
            "--train.image_lr",
            1e-2,
            "--train.warmup_steps",
            1,
            "--loss.negatives",
            2,
            "--prototype.free_vectors",
            2,
            *more,
        )
        return run

    return train


LORA = ("--lora.rank", 4, "--lora.alpha", 8)


def loader(folder: Path):
    """The class in the folder's own vixen_encoder.py."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("vixen_encoder", folder / "vixen_encoder.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["vixen_encoder"] = module
    spec.loader.exec_module(module)
    return module.VixenEncoder


def encode(folder: Path, run: Run, **how) -> np.ndarray:
    return loader(folder).from_pretrained(folder, **how).encode(*run.inputs(), batch_size=4)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def test_lora_decoder_with_pictures(train):
    """The paper's model: template, pictures behind the text, rsLoRA; every format."""
    import torch
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    run = train("qwen2", *LORA, "--lora.dropout", 0.1)
    expected = run.embed()
    texts, pictures = run.inputs()
    assert sum(map(len, pictures)) > 5 and min(map(len, pictures)) == 0, "some queries have pictures, some have none"

    peft = run.export("peft")
    assert distance(encode(peft, run), expected) <= TOLERANCE
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(run.base, dtype=torch.float32), str(peft))
    assert json.loads((peft / "adapter_config.json").read_text())["use_rslora"] is True
    for name in ("adapter_model.safetensors", "image_projection.safetensors"):
        assert (peft / name).read_bytes() == (run.folder / "model" / name).read_bytes(), name

    merged = run.export("merged", "--export.max_shard_mb", 1)
    assert distance(encode(merged, run), expected) <= TOLERANCE
    plain = AutoModel.from_pretrained(merged)
    ids = torch.tensor([[5, 9, 21, 300, 7]])
    with torch.no_grad():
        states = plain(ids).last_hidden_state
        assert float((states - adapted.eval()(ids).last_hidden_state).abs().max()) <= TOLERANCE * float(states.abs().max())
        base = AutoModel.from_pretrained(run.base, dtype=torch.float32)(ids).last_hidden_state
    assert float((states - base).abs().max()) > 1e-2, "training changed nothing"

    folder = run.export("sentence-transformers")
    with pytest.raises(ValueError, match="trust_remote_code"):
        SentenceTransformer(str(folder), device="cpu")
    model = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    found = model.encode(run.inputs_as_dicts(), batch_size=3)
    assert distance(found, expected) <= TOLERANCE
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    # text alone: as vixen answers without the queries' pictures
    assert distance(model.encode(texts), run.embed("--data.query_images", "false")) <= TOLERANCE
    model.save(str(run.out / "saved"))
    again = SentenceTransformer(str(run.out / "saved"), trust_remote_code=True, device="cpu")
    assert distance(again.encode(run.inputs_as_dicts()), expected) <= TOLERANCE

    half = run.export("merged", "--export.dtype", "bf16")
    assert AutoModel.from_pretrained(half, dtype="auto").dtype == torch.bfloat16
    assert 1e-6 < distance(encode(half, run), expected) < 0.05


@pytest.mark.parametrize(
    "model, settings",
    [
        ("llama", (*LORA, "--model.pooling", "last", "--model.layers", 2, "--lora.scale", "classic")),
        ("llama", (*LORA, "--template.order", "images_first", "--model.mask", "bidirectional", "--template.closing", "")),
        ("qwen2", (*LORA, "--compat.padded_positions", "true", "--model.image_adapter", "mlp")),
        ("qwen2", ("--model.fusion", "late", "--model.fusion_heads", 4, "--model.image_adapter", "mlp")),
        ("bert", ("--model.fusion", "late", "--model.fusion_heads", 4)),
        ("bert", (*LORA, "--lora.modules", "q,v")),
        ("bert", ("--model.pooling", "cls")),
        (
            "distilbert",
            (
                "--compat.padded_positions",
                "true",
            ),
        ),
    ],
    ids=[
        "last_token",
        "images_first",
        "padded_mlp",
        "decoder_late_fusion",
        "bert_late_fusion",
        "bert_lora",
        "bert_cls",
        "distilbert_padded",
    ],
)
def test_python_gives_the_same_embeddings(train, model, settings):
    run = train(model, *settings)
    expected = run.embed()
    folder = run.export("sentence-transformers")
    assert distance(encode(folder, run), expected) <= TOLERANCE
    if "--lora.rank" in settings:
        assert distance(encode(run.export("peft"), run), expected) <= TOLERANCE
    else:
        assert "trained the whole backbone" in mistake("export", "--run.dir", run.folder, "--export.format", "peft", "--out", run.out / "x")
        assert not (run.out / "x").exists()
    # pictures matter to this model, and so does the order of a batch not
    texts, pictures = run.inputs()
    without = loader(folder).from_pretrained(folder).encode(texts)
    with_pictures = [i for i, images in enumerate(pictures) if len(images)]
    bare = [i for i, images in enumerate(pictures) if not len(images)]
    assert np.abs(without - expected)[with_pictures].max(1).min() > 1e-4
    assert distance(without[bare], expected[bare]) <= TOLERANCE


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_text_encoder_is_plain_sentence_transformers(train, pooling):
    from sentence_transformers import SentenceTransformer

    run = train("bert", "--data.images", "false", "--model.pooling", pooling)
    expected = run.embed()
    folder = run.export("sentence-transformers", ranks=2)
    # the folder that vixen wrote is one that it reads: an untrained model of the same pooling
    out = run.out / "again.h5"
    vixen("embed", "--data.path", run.data, "--model.path", folder, "--data.images", "false", "--embed.dtype", "fp32", "--out", out)
    with h5py.File(out) as file:
        assert distance(file["embeddings"][:], expected) <= TOLERANCE
    model = SentenceTransformer(str(folder), device="cpu")  # no code of ours is run
    assert distance(model.encode(run.inputs()[0], batch_size=4), expected) <= TOLERANCE
    assert model.max_seq_length == 10
    long = " ".join(LABELS)  # cut at the data set's length by both
    assert distance(model.encode([long]), loader(folder).from_pretrained(folder).encode([long])) <= TOLERANCE


def test_faiss_index(train):
    import faiss

    run = train("bert")
    vixen("export", "--run.dir", run.folder, "--export.format", "faiss", "--out", run.out / "labels.faiss")
    index = faiss.read_index(str(run.out / "labels.faiss"))
    assert index.ntotal == len(LABELS) and index.metric_type == faiss.METRIC_INNER_PRODUCT
    assert (run.out / "labels.txt").read_text().splitlines() == LABELS
    vectors = index.reconstruct_n(0, index.ntotal)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    with h5py.File(run.folder / "model/label_embeddings.h5") as file:
        assert np.array_equal(vectors, file["embeddings"][:].astype(np.float32))

    out = run.out / "predicted.h5"
    vixen("predict", "--run.dir", run.folder, "--predict.k", 3, "--out", out)
    scores, ids = index.search(run.embed(), 3)
    with h5py.File(out) as file:
        assert np.allclose(scores, file["scores"][:], atol=1e-5)
        for row, (mine, theirs) in enumerate(zip(ids, file["indices"][:], strict=True)):
            assert set(mine) == set(theirs), row

    folder = run.out / "folder"
    folder.mkdir()
    vixen("export", "--run.dir", run.folder, "--export.format", "faiss", "--out", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.faiss", "labels.txt", "labels.vixen.json"]


def test_mistakes(train, place):
    run = train("bert", "--data.images", "false")
    export = ("export", "--run.dir", run.folder, "--out")
    file = run.out / "file"
    file.write_text("")
    assert f"--out {file}: is a file" in mistake(*export, file, "--export.format", "merged")
    assert "is a part of the run" in mistake(*export, run.folder / "model", "--export.format", "merged")
    assert "no finished model" in mistake("export", "--run.dir", run.out / "none", "--out", run.out / "x")
    assert "--out" in mistake("export", "--run.dir", run.folder)
    assert "--run.dir" in mistake("export", "--out", run.out / "x")
    assert "tokenised with" in mistake(*export, run.out / "x", "--export.format", "merged", "--data.path", place / "qwen2.h5")
    assert not (run.out / "x").exists(), "a refused export leaves nothing"
    with h5py.File(run.folder / "model/label_embeddings.h5", "a") as stored:
        vectors = stored["embeddings"][:-1]
        del stored["embeddings"]
        stored["embeddings"] = vectors
    assert "was trained on 7" in mistake(*export, run.out / "x.faiss", "--export.format", "faiss")
