"""configs/: every file is read by the program as it stands, and says what the paper's table says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.ini"))
AMAZON = {"minilm_l3": ("5e-4", "3"), "distilbert": ("2e-4", "0"), "bert": ("1e-4", "0")}


def resolved(*files: Path) -> dict[str, tuple[str, str]]:
    """section.key -> (value, where it came from), as `--print-config` says."""
    options = [word for file in files for word in ("--config", str(file))]
    result = subprocess.run([os.environ["VIXEN_BINARY"], "train", *options, "--print-config"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    section, values = "", {}
    for line in result.stdout.splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line.strip()):
            section = heading.group(1) + "."
        elif entry := re.match(r"(\w+) *=(.*?)(?:\s+[#;] *(.*))?$", line):
            values[section + entry.group(1)] = (entry.group(2).strip(), entry.group(3) or "")
    return values


pytestmark = pytest.mark.skipif("VIXEN_BINARY" not in os.environ, reason="VIXEN_BINARY is not set")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_file_is_read_and_every_line_of_it_counts(file):
    values = resolved(file)
    lines = [line for line in file.read_text().splitlines() if re.match(r"\w+ *=", line)]
    assert lines
    assert sum(file.name in origin for _, origin in values.values()) == len(lines)


@pytest.mark.parametrize("file", [file for file in CONFIGS if "amazon" in file.stem], ids=lambda file: file.stem)
def test_amazon_files_hold_the_paper_s_schedule(file):
    backbone = next(name for name in sorted(AMAZON, key=len, reverse=True) if file.stem.endswith(name))
    values = {key: value for key, (value, _) in resolved(file).items()}
    lr, layers = AMAZON[backbone]
    assert float(values["train.lr"]) == float(lr) and values["model.layers"] == layers
    assert (values["train.epochs"], values["train.batch_size"], values["prototype.free_vectors"]) == ("150", "2048", "65536")
    assert [int(epoch) for epoch in values["cluster.double_at"].split(",")] == [20, 40, 60, 80, 100, 120]
    assert (float(values["data.propensity_a"]), float(values["data.propensity_b"])) == (0.6, 2.6)


def test_an_overlay_wins_over_the_file_before_it():
    values = resolved(ROOT / "configs/quickstart.ini", ROOT / "configs/text_only.ini")
    assert values["data.images"][0] == "false" and "text_only.ini" in values["data.images"][1]
    assert values["train.batch_size"] == ("512", values["train.batch_size"][1]) and "quickstart.ini" in values["train.batch_size"][1]
