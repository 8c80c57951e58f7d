"""configs/: every file is read by the program as it stands, says what the paper's table says, and fits one 80 GB GPU."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_configs  # noqa: E402

CONFIGS = sorted((ROOT / "configs").glob("*.ini"))
OVERLAYS = sorted((ROOT / "configs/overlays").rglob("*.ini"))
ROWS = make_configs.all_rows()
DATASETS = ["lf_amazon_131k", "lf_amazontitles_1.3m", "lf_amazontitles_131k", "mm_amazontitles_300k"]
ENCODER_LR = {"minilm_l3": 5e-4, "distilbert": 2e-4, "bert": 1e-4}
DECODERS = ["llama3.2_1b", "llama3.2_3b", "qwen2.5_0.5b", "qwen2.5_1.5b", "qwen2.5_3b", "qwen2.5_7b"]
GPU_BYTES = 80e9
# The largest label sides: their centroids and query bank leave the GPU.
HOST_TABLES = {"lf_amazontitles_1.3m_llama3.2_3b", "lf_amazontitles_1.3m_qwen2.5_7b"}

pytestmark = pytest.mark.skipif("VIXEN_BINARY" not in os.environ, reason="VIXEN_BINARY is not set")


def vixen(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([os.environ["VIXEN_BINARY"], *map(str, arguments)], capture_output=True, text=True, timeout=60)


@functools.cache
def resolved(*files: Path) -> dict[str, tuple[str, str]]:
    """section.key -> (value, where it came from), as `--print-config` says."""
    result = vixen("train", *(word for file in files for word in ("--config", file)), "--print-config")
    assert result.returncode == 0, result.stderr
    section, values = "", {}
    for line in result.stdout.splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line.strip()):
            section = heading.group(1) + "."
        elif entry := re.match(r"(\w+) *=(.*?)(?:\s+[#;] *(.*))?$", line):
            values[section + entry.group(1)] = (entry.group(2).strip(), entry.group(3) or "")
    return values


def values_of(*files: Path) -> dict[str, str]:
    return {key: value for key, (value, _) in resolved(*files).items()}


@pytest.mark.parametrize("file", CONFIGS + OVERLAYS, ids=lambda file: str(file.relative_to(ROOT / "configs")))
def test_every_file_is_read_and_every_line_of_it_counts(file):
    values = resolved(file)
    lines = [line for line in file.read_text().splitlines() if re.match(r"\w+ *=", line)]
    assert lines
    assert sum(str(file) in origin for _, origin in values.values()) == len(lines)


def test_the_committed_files_are_what_the_script_makes():
    assert make_configs.stale_files(ROWS) == []
    assert [(row.dataset, row.backbone) for row in ROWS] == [
        (dataset, backbone) for dataset in DATASETS for backbone in sorted([*ENCODER_LR, *DECODERS])
    ]


def test_the_check_finds_a_changed_and_a_forgotten_file(tmp_path, monkeypatch):
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)
    monkeypatch.setattr(make_configs, "CONFIGS", configs)
    changed = configs / "lf_amazon_131k_bert.ini"
    changed.write_text(changed.read_text().replace("lr = 1e-4", "lr = 2e-4"))
    shutil.copy(changed, configs / "lf_amazon_131k_gone.ini")
    assert make_configs.stale_files(ROWS) == ["lf_amazon_131k_bert.ini", "lf_amazon_131k_gone.ini"]


def test_the_paper_s_figures_belong_to_rows():
    rows = {(row.dataset, row.backbone) for row in ROWS}
    published = make_configs.published()
    assert len(published) == 11 and set(published) <= rows
    for text, pictures in published.values():
        assert float(text.split("/")[0]) < float(pictures.split("/")[0]), "pictures help in every row of the paper"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file.stem)
def test_rows_hold_the_paper_s_schedule(row):
    values = values_of(row.file)
    number = lambda key: float(values[key])  # noqa: E731
    assert values["prototype.free_vectors"] == "65536" and values["cluster.size"] == "16" and values["train.warmup_steps"] == "100"
    assert (number("data.propensity_a"), number("data.propensity_b"), number("train.weight_decay")) == (0.6, 2.6, 0.01)
    assert (number("train.prototype_lr"), number("train.image_lr")) == (5e-4, 5e-4)
    assert values["model.compute"] == "bf16" and values["model.pooling"] == "mean" and values["model.fusion"] == "early"
    doubled = [int(epoch) for epoch in values["cluster.double_at"].split(",")]
    schedule = (values["cluster.start_epoch"], values["cluster.update_epochs"], doubled)
    if row.kind == "encoder":
        assert number("train.lr") == ENCODER_LR[row.backbone] and values["model.layers"] == ("3" if row.backbone == "minilm_l3" else "0")
        assert (values["train.epochs"], values["train.batch_size"]) == ("150", "2048")
        assert schedule == ("10", "5", [20, 40, 60, 80, 100, 120])
        assert (values["lora.rank"], values["prototype.init"], number("train.clip_norm")) == ("0", "xavier", 0)
        return
    assert values["train.epochs"] == ("40" if row.dataset.endswith("1.3m") else "30")
    expected_batch = "512" if row.dataset == "lf_amazon_131k" else "1024" if row.backbone.endswith("7b") else "2048"
    assert values["train.batch_size"] == expected_batch
    assert number("train.lr") == 5e-5 and number("train.clip_norm") == 1 and values["prototype.init"] == "mean"
    assert schedule == ("4", "2", [8, 12, 16, 20, 24])
    assert (values["lora.rank"], number("lora.alpha"), values["lora.scale"]) == ("256", 256, "rslora")
    assert (values["lora.modules"], number("lora.dropout")) == ("q,k,v,o,gate,up,down", 0)
    prompt = [values[f"template.{key}"] for key in ("use", "order", "text_prefix", "image_prefix", "closing")]
    closing = "<|end_of_text|>" if row.backbone.startswith("llama") else "<|endoftext|>"
    assert prompt == ["yes", "text_first", "This product text", "and its image", closing]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file.stem)
def test_rows_fit_one_80_gb_gpu(row, tmp_path):
    out = tmp_path / "plan.json"
    plan = ("plan", "--config", row.file, "--model.path", row.model, "--plan.gpu", "h100", "--out", out)
    if row.file.stem in HOST_TABLES:
        refused = vixen(*plan, "--train.tables", "device")
        assert refused.returncode == 2 and "use more ranks" in refused.stderr, "fits with its tables on the GPU: take it out of HOST_TABLES"
    result = vixen(*plan)
    assert result.returncode == 0, result.stderr
    plan = json.loads(out.read_text())
    memory = plan["memory"]
    assert memory["budget_bytes"] == 76e9 < GPU_BYTES
    assert 0.5e9 < memory["peak_bytes"] <= memory["budget_bytes"], memory
    assert ("query bank (fp16)" in memory["host"]) == (plan["choice"]["tables"] == "host")
    if row.file.stem in HOST_TABLES:
        assert plan["choice"]["tables"] == "host" and "query bank and centroids in host memory" in result.stdout
    assert plan["world_size"] == 1 and plan["batch_size"] == int(values_of(row.file)["train.batch_size"])
    epochs = int(values_of(row.file)["train.epochs"])
    assert plan["time"]["hours"] * 3600 > epochs * plan["time"]["steps_per_epoch"] * plan["time"]["step_seconds"] * 0.999 > 0


def test_an_overlay_wins_over_the_file_before_it():
    values = resolved(ROOT / "configs/quickstart_full.ini", ROOT / "configs/text_only.ini")
    assert values["data.images"][0] == "false" and "text_only.ini" in values["data.images"][1]
    assert values["train.batch_size"][0] == "512" and "quickstart_full.ini" in values["train.batch_size"][1]


@pytest.mark.parametrize(
    "mode,changed",
    [
        ("naive_llm", {"template.use": "no", "model.pooling": "last", "lora.rank": "16", "lora.alpha": "32", "lora.scale": "classic"}),
        ("image_first", {"template.order": "images_first"}),
        ("no_prefix", {"template.text_prefix": "", "template.image_prefix": ""}),
        ("no_closing", {"template.closing": ""}),
        ("last_token", {"model.pooling": "last"}),
        ("bidirectional", {"model.mask": "bidirectional"}),
        ("late_fusion", {"model.fusion": "late"}),
        ("image_mlp", {"model.image_adapter": "mlp"}),
        ("image_dropout", {"train.image_dropout": "0.3"}),
        ("soft_start", {"loss.soft_steps": "100"}),
        ("text_only", {"data.images": "false"}),
        ("ngame", {"train.method": "ngame", "loss.fixed_positive": "true"}),
    ],
)
def test_a_mode_changes_a_row_as_it_says_and_nothing_else(mode, changed):
    row = ROOT / "configs/lf_amazontitles_131k_qwen2.5_3b.ini"
    before, after = values_of(row), values_of(row, ROOT / f"configs/{mode}.ini")
    assert {key: value for key, value in after.items() if before[key] != value} == changed


@pytest.mark.parametrize("name", ["icontags_smollm2_l6", "msdocs_smollm2_l6"])
def test_small_decoder_runs_keep_the_recipe(name):
    """What the small runs share with the paper's decoder rows."""
    small, paper = values_of(ROOT / f"configs/{name}.ini"), values_of(ROOT / "configs/lf_amazontitles_131k_qwen2.5_3b.ini")
    for key in (
        "model.compute",
        "model.pooling",
        "lora.scale",
        "lora.modules",
        "template.text_prefix",
        "template.image_prefix",
        "template.closing",
        "prototype.init",
        "train.clip_norm",
        "train.prototype_lr",
        "cluster.size",
    ):
        assert small[key] == paper[key], key
    assert (small["model.layers"], small["lora.rank"], small["lora.alpha"]) == ("6", "64", "64")
