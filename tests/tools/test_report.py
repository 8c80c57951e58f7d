"""tools/report.py: the table, the queries shown, and the page."""

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["arrow", "<b>bold</b>", "car", "dog"]
QUERIES = [("left arrow", [0]), ("car & dog", [2, 3]), ("nothing", [])]


def ragged(group, rows, dtype):
    group["offsets"] = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    group["values"] = np.concatenate([np.asarray(row, dtype) for row in rows])


@pytest.fixture
def world(tmp_path):
    """A run folder, a data set of three test queries, predictions, raw pictures."""
    with h5py.File(tmp_path / "data.h5", "w") as file:
        ragged(file.create_group("test/labels"), [truth for _, truth in QUERIES], np.int32)
        ragged(file.create_group("test/texts"), [list(text.encode()) for text, _ in QUERIES], np.uint8)
        ragged(file.create_group("label/texts"), [list(text.encode()) for text in LABELS], np.uint8)
    with h5py.File(tmp_path / "predictions.h5", "w") as file:
        file["indices"] = np.array([[1, 0], [2, -1], [0, 1]], np.int64)
        file["scores"] = np.array([[0.5, 0.25], [0.5, -np.inf], [0.5, 0.25]], np.float32)
    raw = tmp_path / "raw"
    raw.mkdir()
    with gzip.open(raw / "tst.json.gz", "wt") as file:
        for row, (text, truth) in enumerate(QUERIES):
            images = {"images": [f"{row}.webp"]} if row != 1 else {}
            file.write(
                json.dumps({"uid": str(row), "title": text, "content": "", "target_ind": truth, "target_rel": [1.0] * len(truth), **images})
                + "\n"
            )
    with zipfile.ZipFile(raw / "images.zip", "w") as archive:
        archive.writestr("0.webp", b"picture zero")
        archive.writestr("2.webp", b"picture two")
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.json").write_text(json.dumps({"P@1": 50.0, "P@5": 20.5, "queries": 3, "labels": 4}))
    (run / "config.ini").write_text("device = cpu\n[train]\nepochs = 7\n")
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": step, "loss": 1.0 / step}) + "\n" for step in range(1, 9)))
    (tmp_path / "other.json").write_text(json.dumps({"P@1": 60.0}))
    return tmp_path


def report(world, *options):
    command = [sys.executable, str(ROOT / "tools/report.py"), "--run", str(world / "run"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def whole(world):
    return (
        "--row",
        f"other={world}/other.json",
        "--row",
        f"ours={world}/run/metrics.json",
        "--data",
        world / "data.h5",
        "--predictions",
        world / "predictions.h5",
        "--raw",
        world / "raw",
        "--out",
        world / "report.html",
    )


QUERY_OPTIONS = ("--data", "{world}/data.h5", "--predictions", "{world}/predictions.h5")


def ranking(world, rows, scores=((0.5, 0.25),) * 3):
    """Predictions in place of the world's."""
    with h5py.File(world / "predictions.h5", "w") as file:
        file["indices"] = np.array(rows)
        file["scores"] = np.array(scores, np.float32)


def test_the_terminal_shows_rows_and_marked_predictions(world):
    result = report(world, *whole(world))
    assert result.returncode == 0, result.stderr
    assert re.search(r"other +60\.00\s*$", result.stdout, re.M)
    assert re.search(r"ours +50\.00 +20\.50\s*$", result.stdout, re.M)
    assert re.search(r"left arrow +-<b>bold</b>, \+arrow", result.stdout)
    assert re.search(r"car & dog +\+car$", result.stdout, re.M)
    assert "nothing" not in result.stdout  # it has no true label: nothing to mark


def test_the_page_is_self_contained_and_escaped(world):
    assert report(world, *whole(world)).returncode == 0
    page = (world / "report.html").read_text()
    assert base64.b64encode(b"picture zero").decode() in page
    assert page.count("<img ") == 1  # the second query has no picture, the third is not shown
    assert "&lt;b&gt;bold&lt;/b&gt;" in page and "<b>bold" not in page
    assert "car &amp; dog" in page and "also true: dog" in page
    assert '<td class="best">60.00</td>' in page and "<polyline" in page and "epochs 7" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_without_options_it_shows_the_run_alone(world):
    result = report(world)
    assert result.returncode == 0 and re.search(r"^run +50\.00", result.stdout, re.M)


@pytest.mark.parametrize(
    "change, options, message",
    [
        (lambda world: (world / "run/metrics.json").write_text("{"), (), r"metrics\.json: line 1: not JSON"),
        (lambda world: None, ("--row", "x"), r"--row x: expected NAME=METRICS\.json"),
        (lambda world: None, ("--row", "x=absent.json"), r"absent\.json: no such file"),
        (
            lambda world: (world / "run/metrics.jsonl").write_text('{"step": 1, "loss": 2}\noops\n'),
            ("--out", "{world}/page.html"),
            r"metrics\.jsonl: line 2: not JSON",
        ),
        (
            lambda world: ranking(world, np.zeros((5, 2), np.int64), np.zeros((5, 2))),
            ("--data", "{world}/data.h5", "--predictions", "{world}/predictions.h5"),
            r"predictions\.h5: /indices has 5 rows, .*data\.h5 has 3 test queries",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(world, change, options, message):
    change(world)
    result = report(world, *(option.format(world=world) for option in options))
    assert result.returncode == 2
    assert re.search(message, result.stderr) and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "change, options, message",
    [
        (
            lambda world: (world / "run/metrics.json").write_text('{"P@1": 1e999}'),
            (),
            r"metrics\.json: P@1 is inf, expected a finite number",
        ),
        (lambda world: (world / "run/metrics.json").write_text('{"P@1": NaN}'), (), r"metrics\.json: P@1 is nan, expected a finite number"),
        (
            lambda world: (world / "run/metrics.json").write_text('{"P@1": 1' + "0" * 400 + "}"),
            (),
            r"metrics\.json: P@1 is 10+\.\.\., expected a finite number",
        ),
        (lambda world: (world / "run/metrics.json").write_text("[" * 100000), (), r"metrics\.json: not JSON: nested too deeply"),
        (lambda world: (world / "run/metrics.json").write_text("<!DOCTYPE html>"), (), r"metrics\.json: not JSON: it is an HTML page"),
        (
            lambda world: (world / "run/metrics.jsonl").write_text("3\n"),
            ("--out", "{world}/page.html"),
            r"metrics\.jsonl: line 1: is a JSON int, expected an object",
        ),
        (
            lambda world: (world / "run/config.ini").write_text("[a]\nx = 1\nx = 2\n"),
            ("--out", "{world}/page.html"),
            r"config\.ini: not a run's configuration: ",
        ),
        (lambda world: None, ("--data", "{world}/data.h5"), r"--data and --predictions belong together"),
        (lambda world: None, ("--raw", "{world}/raw"), r"--raw: the pictures are shown of queries"),
        (
            lambda world: ranking(world, [[1, 0], [2, 2], [0, 1]]),
            QUERY_OPTIONS,
            r"predictions\.h5: /indices row 1 names label 2 2 times, expected each once",
        ),
        (
            lambda world: ranking(world, [[1, 0], [2, 4], [0, 1]]),
            QUERY_OPTIONS,
            r"predictions\.h5: /indices row 1 names label 4, expected -1\.\.3",
        ),
        (
            lambda world: ranking(world, [[1, 0], [2, -2], [0, 1]]),
            QUERY_OPTIONS,
            r"predictions\.h5: /indices row 1 names label -2, expected -1\.\.3",
        ),
        (
            lambda world: ranking(world, [[1, 0], [-1, 2], [0, 1]]),
            QUERY_OPTIONS,
            r"/indices row 1 holds -1 before a label, expected -1 only where",
        ),
        (
            lambda world: ranking(world, [[1, 0]] * 3, [[2, 1], [1, 2], [2, 1]]),
            QUERY_OPTIONS,
            r"/scores row 1 rises, expected the best label first",
        ),
        (
            lambda world: ranking(world, [[1, 0]] * 3, [[2, 1], [2, np.nan], [2, 1]]),
            QUERY_OPTIONS,
            r"/scores row 1 holds nan, expected finite numbers",
        ),
        (
            lambda world: ranking(world, [[1, 0]] * 3, [[2, 1]] * 2),
            QUERY_OPTIONS,
            r"/scores has the shape \(2, 2\), expected \(3, 2\) as /indices has",
        ),
        (
            lambda world: ranking(world, [[1.0, 0], [2, 1], [0, 1]]),
            QUERY_OPTIONS,
            r"predictions\.h5:/indices: holds float64 \(3, 2\), expected whole numbers",
        ),
        (
            lambda world: (world / "raw/tst.json.gz").write_bytes(gzip.compress(b'{"images": 5}\n')),
            (*QUERY_OPTIONS, "--raw", "{world}/raw"),
            r"tst\.json\.gz:1: 'images' is 5, expected a list of file names",
        ),
        (
            lambda world: (world / "raw/tst.json.gz").write_bytes(gzip.compress(b'{"images"\n')),
            (*QUERY_OPTIONS, "--raw", "{world}/raw"),
            r"tst\.json\.gz:1: not a row of JSON: ",
        ),
    ],
)
def test_odd_files_are_one_line_and_exit_code_2(world, change, options, message):
    change(world)
    result = report(world, *(option.format(world=world) for option in options))
    assert result.returncode == 2
    assert re.search(message, result.stderr) and len(result.stderr.splitlines()) == 1, result.stderr


def test_what_a_running_run_has_written_so_far(world):
    """Byte order marks are left out, and the line that is being written."""
    (world / "run/metrics.json").write_bytes(b"\xef\xbb\xbf" + (world / "run/metrics.json").read_bytes())
    (world / "run/config.ini").write_bytes(b"\xef\xbb\xbf" + (world / "run/config.ini").read_bytes())
    (world / "run/metrics.jsonl").write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": 1}\n{"step": 4, "lo')
    assert report(world, "--out", world / "page.html").returncode == 0
    page = (world / "page.html").read_text()
    assert page.count("<polyline") == 1 and len(re.search(r'points="([^"]*)"', page).group(1).split()) == 2 and "epochs 7" in page
    assert '<meta name="generator" content="vixen 0.1.0">' in page


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_shows_any_text(world, encoding):
    (world / "run/metrics.json").rename(world / "größe.json")
    name = os.fsdecode(b"gr\xc3\xb6\xc3\x9fe \xff")
    command = [
        sys.executable,
        str(ROOT / "tools/report.py"),
        "--run",
        str(world / "run"),
        "--row",
        f"{name}={world}/größe.json",
        "--out",
        str(world / "page.html"),
    ]
    result = subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert result.returncode == 0, result.stderr
    assert ("gr\\xf6\\xdfe" if encoding == "ascii" else "größe") + " \\xff" in result.stdout.decode(encoding)
    assert "größe \\xff" in (world / "page.html").read_text(encoding="utf-8")
