"""scaling_study.py: a whole study of a tiny backbone, taken up again, its page, its job arrays, its fits, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest
from test_export import VIXEN, place  # noqa: F401  (place: the fixture)

from vixen_tools.scaling_fit import PowerLaw, StepSample, fit_power_law, fit_steps

GRID = """
data = "{place}/bert.h5"
[options]
"data.images" = false
"train.epochs" = 1
"loss.negatives" = 2
"prototype.free_vectors" = 2
"run.log_every_steps" = 1
"threads" = 1
[[model]]
name = "one layer"
path = "{place}/models/bert"
options = {{ "model.layers" = 1 }}
[[model]]
name = "whole"
path = "{place}/models/bert"
[grid]
ranks = [1, 2]
batch = [12]
seeds = [{seeds}]
"""


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_whole_study(tools, place, tmp_path):  # noqa: F811
    grid, out = tmp_path / "tiny.toml", tmp_path / "out"
    grid.write_text(GRID.format(place=place, seeds="0"))
    common = [grid, "--out", out, "--binary", VIXEN, "--device", "h100"]  # of a CPU every plan measures the rates
    planned = tools.run("scaling_study.py", "plan", *common).stdout
    assert planned.count("-b12-s0") == 4 and "to be run: " in planned and "does not fit" not in planned
    assert "no finished run of this grid" in tools.fails("scaling_study.py", "report", *common)

    tools.run("scaling_study.py", "run", *common)
    assert {run.name for run in (out / "runs").iterdir()} == {
        f"{model}-w{ranks}-b12-s0" for model in ("one-layer", "whole") for ranks in (1, 2)
    }
    # What is missing is done alone; what is there is left as it is.
    kept = (out / "runs/whole-w1-b12-s0/metrics.json").stat().st_mtime_ns
    shutil.rmtree(out / "runs/one-layer-w2-b12-s0")
    assert tools.run("scaling_study.py", "run", *common).stdout.splitlines()[0].startswith("one-layer-w2-b12-s0: ")
    assert (out / "runs/whole-w1-b12-s0/metrics.json").stat().st_mtime_ns == kept

    said = tools.run("scaling_study.py", "report", *common, "--predict", 4).stdout
    page = (out / "page.html").read_text()
    assert "page.html: 4 of 4 cells" in said and "by parameters: not fitted: 2 different values" in said
    assert "not fitted: 4 runs for 4 parameters" in said, "of rates of two models, a latency and a bandwidth"
    figures = {path.stem for path in (out / "figures").glob("*.png")}
    assert figures == {"time-to-accuracy", "throughput", "strong-scaling", "memory", "error-by-parameters", "error-by-hours"}
    assert page.count("data:image/png;base64,") == 6 and 'content="vixen scaling_study.py' in page and "one layer" in page

    # One more seed: enough to fit; the study grows in the same folder, and its page is written anew.
    grid.write_text(GRID.format(place=place, seeds="0, 1"))
    tools.run("scaling_study.py", "run", *common)
    bench = tmp_path / "bench.json"
    rates = {"memory_bytes": 1e9, "fp32_flops_per_s": 1e11, "bf16_flops_per_s": 1e11, "memory_bytes_per_s": 1e10}
    bench.write_text(json.dumps({"rates": rates}))
    said = tools.run("scaling_study.py", "report", *common, "--predict", 4, "--rates", bench).stdout
    assert "Step times: " in said and "8 of 8 cells" in said and "±" in said
    assert "Predicted" in (out / "page.html").read_text()
    fitted = json.loads((out / "rates.json").read_text())["rates"]
    assert fitted.items() >= rates.items() and 0 < fitted["products_share_fp32"] <= 1
    tools.run("scaling_study.py", "plan", *common)
    shown = tools.run("scaling_study.py", "submit", *common, "--dry-run", "--sbatch", "--time 1:00:00")
    assert "all cells are done" in shown.stdout
    shutil.rmtree(out / "runs/whole-w2-b12-s1")
    shown = tools.run("scaling_study.py", "submit", *common, "--dry-run", "--sbatch", "--time 1:00:00", "--ranks-per-node", 1)
    assert "--array=1-1 --nodes=2 --ntasks-per-node=1 --time 1:00:00" in shown.stdout
    listed = (out / "cells-2.txt").read_text().splitlines()
    assert len(listed) == 2 and listed[1].startswith("whole-w2-b12-s1 ") and listed[1].endswith("--train.seed 1")


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_cell_that_fails_stops_no_other(tools, place, tmp_path):  # noqa: F811
    grid = tmp_path / "tiny.toml"
    text = GRID.format(place=place, seeds="0").replace("ranks = [1, 2]", "ranks = [1]").replace('"model.layers" = 1', '"model.layers" = 99')
    grid.write_text(text)
    assert "99" in tools.fails("scaling_study.py", "plan", grid, "--out", tmp_path / "out", "--binary", VIXEN)
    grid.write_text(text.replace('"model.layers" = 99', '"train.lr" = 1e30'))
    common = [grid, "--out", tmp_path / "out", "--binary", VIXEN]
    said = tools.run("scaling_study.py", "run", *common, code=1).stdout
    assert "one-layer-w1-b12-s0: " in said and "exit code 2" in said and (tmp_path / "out/runs/whole-w1-b12-s0/metrics.json").exists()
    tools.run("scaling_study.py", "report", *common)
    assert "Failed" in (tmp_path / "out/page.html").read_text()


def test_fits_find_what_made_the_numbers():
    samples = [
        StepSample(model, ranks, flops / ranks / rate + 2e-3 * (ranks // 2) + moved / 1e9, flops / ranks, moved)
        for model, flops, rate in (("a", 1e9, 1e10), ("b", 4e9, 2e10))
        for ranks, moved in ((1, 0.0), (2, 1e7), (4, 1.5e7))
    ]
    # ranks // 2: 0, 1, 2 is log2 of 1, 2, 4
    found = fit_steps(samples)
    assert not isinstance(found, str)
    model, resampled = found
    assert model.rates == pytest.approx({"a": 1e10, "b": 2e10}, rel=1e-6)
    assert model.latency == pytest.approx(2e-3, rel=1e-6) and model.bandwidth == pytest.approx(1e9, rel=1e-6)
    assert model.seconds("a", 8, 1e9 / 8, 0) == pytest.approx(1e9 / 8 / 1e10 + 3 * 2e-3) and resampled
    assert fit_steps(samples[:1] * 9) == "not fitted: every run has as many ranks"

    law = fit_power_law([1.0, 10, 100, 1000], [3 * x**-0.25 for x in (1.0, 10, 100, 1000)])
    assert isinstance(law, PowerLaw) and (law.scale, law.exponent) == pytest.approx((3, -0.25)) and law.low <= law.exponent <= law.high
    assert fit_power_law([1, 2, 1], [1, 2, 1]) == "not fitted: 2 different values of x, a line has two parameters"


def test_mistakes_are_one_line(tools, tmp_path):
    grid = tmp_path / "grid.toml"
    good = 'data = "d.h5"\n[[model]]\nname = "a"\npath = "m"\n[grid]\nranks = [1]\nbatch = [8]\n'
    for text, expected in (
        ("data = ", "is no readable a grid (TOML)"),
        ('[grid]\nranks = [1]\nbatch = [8]\n[[model]]\nname = "a"\npath = "m"\n', "data is missing, expected a data set (HDF5)"),
        (good.replace("ranks = [1]", "ranks = [0]"), "ranks = [0], expected a list of whole numbers, at least 1, none twice"),
        (good.replace("batch", "batches"), "grid: unknown key batches, expected one of batch, ranks, seeds"),
        (good.replace('path = "m"', 'path = "m"\noptions = { "train.seed" = 1 }'), "options.train.seed: is set by grid.seeds"),
        (good.replace('path = "m"', 'path = "m"\noptions = { train.lr = 1 }'), "options.train is a dict: quote the key"),
        (good + '[[model]]\nname = "a."\npath = "n"\n', "two models have names that are alike"),
    ):
        grid.write_text(text)
        error = tools.fails("scaling_study.py", "plan", grid, "--out", tmp_path / "out", "--binary", "/bin/false")
        assert str(grid) in error and (expected in error or text == "data = "), error
