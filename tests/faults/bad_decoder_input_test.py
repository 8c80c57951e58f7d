"""A user's mistakes with decoders, adapters, templates and memory budgets: each one line that names file or key, and exit code 2."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from make_tiny_run import WORDS, write_raw
from peft import LoraConfig, get_peft_model
from refusals import assert_refused, damaged, emptied_row, with_pictures
from transformers import LlamaModel
from word_llama import PROMPT, save_word_tokenizer, word_llama

ROOT = Path(__file__).resolve().parents[2]
IMAGE_WIDTH = 8


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    """A Llama of two layers in shards, its tokenizer, and data sets of it without pictures and with ones of two widths."""
    folder = tmp_path_factory.mktemp("decoder")
    model = folder / "llama"
    word_llama(WORDS).save_pretrained(model, max_shard_size="40KB")
    assert len(list(model.glob("model-*.safetensors"))) > 1
    save_word_tokenizer(WORDS, model)
    write_raw(folder / "raw", 128, 32)
    data = folder / "data.h5"
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools/prepare_dataset.py"),
            "--raw",
            str(folder / "raw"),
            "--model",
            str(model),
            "--out",
            str(data),
            "--max-length",
            "16",
        ],
        check=True,
        capture_output=True,
    )
    pictures = np.random.default_rng(0).normal(size=(128, 2 * IMAGE_WIDTH))
    return SimpleNamespace(
        model=model,
        data=data,
        pictures=with_pictures(data, folder / "pictures.h5", pictures[:, :IMAGE_WIDTH]),
        wide_pictures=with_pictures(data, folder / "wide_pictures.h5", pictures),
    )


@pytest.fixture
def copy(decoder, tmp_path) -> Path:
    """A model folder of its own, to damage."""
    return Path(shutil.copytree(decoder.model, tmp_path / "copy"))


@pytest.fixture
def train(tiny, decoder, tmp_path):
    """Trains on the tiny decoder; keys of `more` win."""

    def run(**more) -> subprocess.CompletedProcess:
        settings = {
            "data.path": decoder.data,
            "model.path": decoder.model,
            "lora.rank": 4,
            "lora.alpha": 4,
            "train.epochs": 1,
            "run.log_level": "error",
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        return tiny.run("train", *tiny.train_options(tmp_path / "run", **settings))

    return run


def edit_config(model: Path, **changes) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_adapter(folder: Path, model: LlamaModel, rank: int = 4, **more) -> Path:
    """A PEFT folder as PEFT writes it."""
    options = {"r": rank, "lora_alpha": 4, "use_rslora": True, "target_modules": ["q_proj", "down_proj"], **more}
    get_peft_model(model, LoraConfig(**options)).save_pretrained(folder)
    return folder


def test_the_whole_input_is_good(train, tmp_path, decoder):
    """What the tests below damage is trained on without them."""
    result = train(data__path=decoder.pictures, lora__adapter=write_adapter(tmp_path / "adapter", word_llama(WORDS)))
    assert result.returncode == 0, result.stderr
    assert "P@1" in json.loads((tmp_path / "run/metrics.json").read_text())


@pytest.mark.parametrize(
    "mode",
    [
        "text_only",
        "ngame",
        "naive_llm",
        "image_first",
        "no_prefix",
        "no_closing",
        "last_token",
        "bidirectional",
        "late_fusion",
        "image_mlp",
        "image_dropout",
        "soft_start",
    ],
)
def test_every_mode_of_the_configurations_trains(tiny, decoder, tmp_path, mode):
    """An overlay of configs/ over a decoder with pictures: no contradiction between keys, to the end of a run."""
    settings = {"data.path": decoder.pictures, "model.path": decoder.model, "lora.alpha": 4, "train.epochs": 1, "run.log_level": "error"}
    result = tiny.run(
        "train",
        "--config",
        ROOT / f"configs/{mode}.ini",
        *tiny.train_options(tmp_path / "run", **settings),
        *([] if mode == "naive_llm" else ["--lora.rank", 4]),
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["R@100"] == pytest.approx(100), "all 40 labels are ranked"


def test_adapters_on_an_encoder_train(tiny, tmp_path):
    result = tiny.run("train", "--config", ROOT / "configs/lora_encoder.ini", *tiny.train_options(tmp_path / "run", **{"train.epochs": 1}))
    assert result.returncode == 0, result.stderr


def test_missing_shard(train, copy):
    shard = sorted(copy.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert_refused(train(model__path=copy), shard.name, "missing")


def test_tensor_that_its_shard_lacks(train, copy):
    path = copy / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shards = sorted(set(index["weight_map"].values()))
    name = next(tensor for tensor, shard in index["weight_map"].items() if shard == shards[0])
    index["weight_map"][name] = shards[1]
    path.write_text(json.dumps(index))
    assert_refused(train(model__path=copy), shards[1], name)


def test_no_weights_at_all(train, copy):
    for path in copy.glob("*.safetensors*"):
        path.unlink()
    assert_refused(train(model__path=copy), "model.safetensors", "model.safetensors.index.json")


def test_weights_of_other_heads(train, copy):
    edit_config(copy, num_key_value_heads=4)
    assert_refused(train(model__path=copy), "k_proj", "[16, 32]", "[32, 32]")


def test_heads_that_do_not_divide(train, copy):
    edit_config(copy, num_key_value_heads=3)
    assert_refused(train(model__path=copy), "config.json", "num_attention_heads", "4", "3")


def test_weights_of_another_vocabulary(train, copy):
    edit_config(copy, vocab_size=100)
    assert_refused(train(model__path=copy), "embed_tokens", f"{len(WORDS) + len(PROMPT) + 2}", "100")


def test_data_beyond_the_vocabulary(train, decoder, tmp_path):
    def more_tokens(file):
        file.attrs["vocabulary"] = np.int64(1000)

    known_to_the_tokenizer_only = damaged(decoder.data, tmp_path, more_tokens)
    result = train(data__path=known_to_the_tokenizer_only)
    assert result.returncode == 0, result.stderr

    def used(file):
        more_tokens(file)
        file["train/tokens/values"][3] = 999

    path = damaged(decoder.data, tmp_path, used)
    rows = len(WORDS) + len(PROMPT) + 2
    assert_refused(
        train(data__path=path, run__dir=tmp_path / "other"),
        "damaged.h5: train row ",
        "uses token 999",
        f"has {rows} rows (0 to {rows - 1})",
    )


def test_more_layers_than_there_are(train):
    assert_refused(train(model__layers=3), "model.layers", "3", "2")


def test_unknown_architecture(train, copy):
    edit_config(copy, model_type="gpt_neox")
    assert_refused(train(model__path=copy), "config.json", "gpt_neox", "bert", "distilbert", "qwen2", "qwen3", "llama", "mistral")


def test_unknown_rope_scaling(train, copy):
    edit_config(copy, rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "factor": 2.0})
    assert_refused(train(model__path=copy), "config.json", "longrope", "llama3")


def test_another_activation(train, copy):
    edit_config(copy, hidden_act="relu")
    assert_refused(train(model__path=copy), "config.json", "hidden_act", "relu", "silu")


@pytest.mark.parametrize(
    "text,expected",
    [
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page"),
        (b"", "an empty file"),
        (b"[" * 400_000, "nested deeper than 100 levels"),
        (b'{"model_type": "llama", "hidden_size": NaN}', "line 1"),
        (b'{"model_type": "llama", "rope_theta": 1e999}', "number overflow"),
        (b'{"model_type": "lla\xe2\x80\x8bma"}', "lla\\u200bma"),
        (b'{"model_type": "llama"}\0', "a NUL at byte 23"),
    ],
    ids=["utf16", "lfs", "html", "empty", "deep", "nan", "infinite", "invisible", "nul"],
)
def test_another_file_for_the_configuration(train, copy, text, expected):
    (copy / "config.json").write_bytes(text)
    assert_refused(train(model__path=copy), str(copy / "config.json"), expected)


def test_a_byte_order_mark_before_the_configuration(train, copy):
    for name in ("config.json", "model.safetensors.index.json"):
        (copy / name).write_bytes(b"\xef\xbb\xbf" + (copy / name).read_bytes())
    result = train(model__path=copy)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "key,value,expected",
    [
        ("hidden_size", 1 << 40, "at most 2^28"),
        ("intermediate_size", 1 << 27, "[134217728, 32]"),
        ("num_hidden_layers", 1_000_000, "at most 10000"),
        ("vocab_size", 1 << 26, "[67108864, 32]"),
        ("rms_norm_eps", -1e-6, "a positive number"),
        ("rope_theta", 1e300, "1e30"),
        ("max_position_embeddings", 0, "a positive integer"),
        ("auto_map", {"AutoModel": "modeling_x.XModel"}, "--model.mask causal or bidirectional"),
    ],
)
def test_numbers_that_no_model_has(train, copy, key, value, expected):
    """Before anything of that size is allocated."""
    edit_config(copy, **{key: value})
    assert_refused(train(model__path=copy, lora__rank=0), str(copy), expected)


def test_sequences_longer_than_the_model_s_positions(train, copy):
    edit_config(copy, max_position_embeddings=8)
    assert_refused(train(model__path=copy), "10 positions", "the model has 8", "--max-length")


def test_adapter_of_another_base(train, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", word_llama(WORDS, hidden_size=48))
    assert_refused(train(lora__adapter=adapter), "adapter_model.safetensors", "q_proj.lora_A", "[4, 48]", "[4, 32]")


def test_adapter_of_more_layers(train, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", word_llama(WORDS, num_hidden_layers=3))
    assert_refused(train(lora__adapter=adapter), "adapter_model.safetensors", "layers.2")


def test_adapter_of_another_rank_than_it_says(train, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", word_llama(WORDS))
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "r": 8}))
    assert_refused(train(lora__adapter=adapter), "adapter_model.safetensors", "lora_", "[4, ", "[8, ")


@pytest.mark.parametrize(
    "key,value",
    [
        ("r", 1_000_000_000),
        ("lora_alpha", 1e300),
        ("lora_dropout", -1),
        ("use_rslora", 1),
        ("peft_type", "IA3"),
        ("bias", "all"),
        ("use_dora", True),
        ("rank_pattern", {"q_proj": 2}),
    ],
)
def test_adapter_of_a_kind_that_we_do_not_know(train, tmp_path, key, value):
    adapter = write_adapter(tmp_path / "adapter", word_llama(WORDS))
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert_refused(train(lora__adapter=adapter), "adapter_config.json", key)


def test_adapter_that_is_not_there(train, tmp_path):
    assert_refused(train(lora__adapter=tmp_path / "nowhere"), "nowhere")


def test_unknown_lora_module(train):
    assert_refused(train(lora__modules="q,v,sideways"), "lora.modules", "sideways", "gate")


def test_template_that_the_data_set_does_not_have(train):
    assert_refused(
        train(template__text_prefix="Some other words"), "template.text_prefix", "Some other words", "This product text", "add_prompts.py"
    )


def test_data_set_prepared_without_prompts(train, tiny, decoder, tmp_path):
    path = damaged(decoder.data, tmp_path, lambda file: file.__delitem__("prompts"))
    assert_refused(train(data__path=path), "damaged.h5", "template.text_prefix", "add_prompts.py")
    mine = ["mine", "--data.path", decoder.data, "--model.path", decoder.model, "--out", tmp_path / "m.h5"]
    assert_refused(tiny.run(*mine, "--mine.corpus", path), "damaged.h5", "template.text_prefix", "add_prompts.py")


def test_row_without_text(train, decoder, tmp_path):
    """A template does not make up for a text that is missing."""
    path = damaged(decoder.data, tmp_path, emptied_row("train/tokens", 3))
    assert_refused(train(data__path=path), "damaged.h5", "train/tokens", "3")


def test_pictures_of_another_width_than_the_run_s(tiny, train, decoder, tmp_path):
    assert train(data__path=decoder.pictures).returncode == 0
    result = tiny.run(
        "evaluate",
        "--run.dir",
        tmp_path / "run",
        "--data.path",
        decoder.wide_pictures,
        "--run.log_level",
        "error",
        "--out",
        tmp_path / "metrics.json",
    )
    assert_refused(result, "8", "16")
    assert not (tmp_path / "metrics.json").exists()


def test_memory_budget_below_the_least_possible(train):
    result = train(train__memory_gb=1e-6)
    assert_refused(result, "memory budget", "expected at least", "train.batch_size")


def test_plan_refuses_the_budget_as_training_does(tiny, decoder, tmp_path):
    result = tiny.run(
        "plan",
        "--model.path",
        decoder.model,
        "--data.path",
        decoder.data,
        "--lora.rank",
        4,
        "--train.batch_size",
        32,
        "--train.memory_gb",
        1e-6,
        "--run.log_level",
        "error",
        "--prototype.heads",
        4,
    )
    assert_refused(result, "memory budget", "expected at least", "train.batch_size")


@pytest.mark.parametrize("damage", ["cut", "magic", "version"])
def test_damaged_gguf(tmp_path, damage):
    """A header that promises a tensor and ends, another file under the name, and a version of the future."""
    path = tmp_path / "model.gguf"
    magic, version = (b"GGUX" if damage == "magic" else b"GGUF"), (99 if damage == "version" else 3)
    path.write_bytes(magic + struct.pack("<IQQ", version, 1, 1) + b"\x01")
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools/fetch_model.py"), str(path), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "model.gguf" in result.stderr.strip().splitlines()[-1], result.stderr
    assert not (tmp_path / "out").exists()
