"""What tools/report.py says of mined negatives, on five labels and four queries whose figures are worked out here by hand."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import query, write_lines
from PIL import Image
from safetensors.numpy import save_file
from test_report import ragged

LABELS = ["red car", "red cars", "Red  Car!", "house", "blue <i>icon</i>"]
QUERIES = [("a car", [0]), ("the house", [0, 3]), ("House", [4]), ("left", [1])]  # so the labels have 2, 1, 0, 1, 1 training queries
NEGATIVES = [[2, 1, -1], [4, -1, -1], [0, 3, -1], [-1, -1, -1]]
RANKS = [[2, 6, 0], [3, 0, 0], [1, 11, 0], [0, 0, 0]]
DROPPED = [[1, 0, 0, 2], [2, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]]
QUERY_ROWS = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], np.float32)
LABEL_ROWS = np.array([[0.8, 0.6], [0.65, 0.75993], [0.96, 0.28], [0, 1], [-1, 0]], np.float32)
SCORES = [[row @ LABEL_ROWS[i] if i >= 0 else -np.inf for i in ids] for row, ids in zip(QUERY_ROWS, NEGATIVES, strict=True)]


def write_mined(path: Path, ranks_as: str = "ranks", **changes) -> None:
    content = {
        "negatives": (NEGATIVES, np.int32),
        "scores": (SCORES, np.float32),
        ranks_as: (RANKS, np.int32),
        "dropped": (DROPPED, np.int32),
    }
    with h5py.File(path, "w") as file:
        file.attrs["created_by"] = "vixen mine 0.1.0"
        file.attrs["queries_content"], file.attrs["labels_content"] = "11", "33"
        file.attrs["settings"] = "mining.depth = 20\nmining.draw = hardest\n"
        for name, (values, dtype) in content.items():
            file[name] = np.array(changes.get(name, values), dtype)


@pytest.fixture
def world(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for split in ("train", "test"):
            ragged(file.create_group(f"{split}/labels"), [labels for _, labels in QUERIES], np.int32)
            ragged(file.create_group(f"{split}/texts"), [list(text.encode()) for text, _ in QUERIES], np.uint8)
        ragged(file.create_group("label/texts"), [list(text.encode()) for text in LABELS], np.uint8)
        file.attrs["content_train"], file.attrs["content_test"], file.attrs["content_label"] = "11", "22", "33"
    write_mined(tmp_path / "mined.h5")
    for name, rows in (("queries", QUERY_ROWS), ("labels", LABEL_ROWS)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["embeddings"] = rows.astype(np.float16)
    raw = tmp_path / "raw"
    raw.mkdir()
    write_lines(raw / "trn.json.gz", [query(text, labels, images=["a.png", "large.png"]) for text, labels in QUERIES])
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 300, 3), np.uint8)).save(large, "PNG")
    with zipfile.ZipFile(raw / "images.zip", "w") as archive:
        archive.writestr("a.png", b"a small picture")
        archive.writestr("large.png", large.getvalue())
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.json").write_text(json.dumps({"P@1": 50.0}))
    return tmp_path


def words(world, *more) -> list:
    return ["report.py", "--run", world / "run", "--data", world / "data.h5", "--mined", world / "mined.h5", *more]


def embedded(world) -> tuple:
    return "--query-embeddings", world / "queries.h5", "--label-embeddings", world / "labels.h5"


@pytest.mark.parametrize("ranks", ["ranks", "places"])
def test_the_terminal_has_the_figures(tools, world, ranks):
    write_mined(world / "mined.h5", ranks)
    said = tools.run(*words(world)).stdout
    assert "4 train queries, 1.25 negatives each, 25.0% without any" in said
    assert "2.00 dropped of each, of these: relevant 62.5%, skipped 0.0%, same_text 12.5%, margin 25.0%" in said
    # "Red  Car!" and, of the query House, "house"; "red cars" shares 7 of 10 trigrams with "red car"
    assert "of 5 negatives looked at: same text 40.00%, near text 20.00%; any of these 60.00%" in said
    assert "the tenth of the commonest labels: 20.0% of the negatives, 40.0% of training pairs" in said


def test_embeddings_add_scores(tools, world):
    said = tools.run(*words(world, *embedded(world))).stdout
    # limits .76, .57 and -.63 (a negative score's limit is below it): .96 above the first, .96 and .8 above the third
    assert "near text 20.00%, close score 60.00%, close embedding 40.00%; any of these 80.00%" in said
    said = tools.run(*words(world, *embedded(world), "--mined-close", 0.5, "--mined-cosine", 0.95, "--mined-near", 0.71)).stdout
    assert "near text 0.00%, close score 80.00%, close embedding 20.00%" in said


def bars(page: str, title: str) -> dict[str, str]:
    part = page.split(f"<h3>{title}</h3>")[1].split("</div>")[0]
    return dict(re.findall(r'<span>([^<]*)</span>.*?<span class="count">([^<]*)</span>', part))


def test_the_page(tools, world):
    tools.run(*words(world, *embedded(world), "--raw", world / "raw", "--out", world / "page.html"))
    page = (world / "page.html").read_text()
    ranks = bars(page, "Place in what the search found")
    assert (ranks["1 - 5"], ranks["6 - 10"], ranks["11 - 20"], ranks["21 - 50"]) == ("60.0%", "20.0%", "20.0%", "0.0%")
    gaps = bars(page, "Score less that of the weakest relevant label")
    assert {name: share for name, share in gaps.items() if share != "0.0%"} == {
        "to -0.5": "20.0%",
        "-0.2 to -0.1": "20.0%",
        "+0.1 to +0.2": "20.0%",
        "above +0.2": "40.0%",
    }
    assert list(bars(page, "By how often a label is trained").values())[-1] == "20.0% (40.0%)"
    assert bars(page, "Dropped, by rule")["margin"] == "25.0%"
    assert "1.25 negatives each of the 20 labels that the search looked at" in page
    assert re.search(r"<li>red cars <span class=\"score\">0\.650</span> <span class=\"flag\">near text: red car</span>", page)
    pairs = re.findall(r'<tr><td class="words">([^<]*)</td><td class="words">([^<]*)</td><td class="words">(.*?)</td><td>(\d+)</td>', page)
    assert [(*pair[:2], re.findall(r">([^<]+)</span>", pair[2]), pair[3]) for pair in pairs] == [
        ("Red  Car!", "Red  Car!", ["same text"], "1"),
        ("house", "house", ["same text"], "1"),
        ("red car", "Red  Car!", ["close embedding"], "1"),
        ("red car", "red cars", ["near text", "close embedding"], "1"),
    ]
    assert "blue &lt;i&gt;icon&lt;/i&gt;" in page and "<i>" not in page and "no negative is left" in page
    assert page.count("<img ") == 8 and base64.b64encode(b"a small picture").decode() in page
    small = re.search(r"data:image/webp;base64,([^\"]*)", page)
    assert small and max(Image.open(io.BytesIO(base64.b64decode(small.group(1)))).size) == 128
    assert not re.search(r'(?:src|href)="(?!data:)|url\(|@import|<script', page)


def test_flagged_queries_come_first_and_the_seed_decides(tools, world):
    pages = []
    for seed in (0, 0, 1):
        tools.run(*words(world, "--mined-examples", 2, "--seed", seed, "--out", world / "page.html"))
        pages.append((world / "page.html").read_text())
        first = pages[-1].split('<div class="card">')[1]
        assert 'class="flag"' in first
    assert pages[0] == pages[1]
    tools.run(*words(world, "--mined-sample", 3, "--out", world / "page.html"))
    page = (world / "page.html").read_text()
    assert "negatives of 3 queries drawn at random" in page and page.count('<div class="card">') == 3


def test_the_lists_of_a_checkpoint(tools, world):
    """Two ranks' shards, the newest of two checkpoints; what the rules dropped is in metrics.jsonl."""
    ids = np.array(NEGATIVES, np.int32)
    for step, lists in ((10, np.full_like(ids, -1)), (200, ids)):
        folder = world / f"run/checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        for rank, rows in enumerate((slice(0, 3), slice(3, 4))):
            scores = np.array(SCORES, np.float16)[rows]
            save_file({"mined": lists[rows], "mined.scores": scores}, str(folder / f"shard-{rank:05d}-of-00002.safetensors"))
        manifest: dict[str, Any] = {
            "format": "vixen checkpoint",
            "step": step,
            "world_size": 2,
            "scalars": {"mined_at": step - 5, "dataset": {"labels": 5, "content_train": "11", "content_label": "33"}},
            "tables": {"mined": {"rows": 4, "row_shape": [3], "shards": [[0, 3], [3, 4]]}},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
    counts = {"queries": 4, "kept": 5, "relevant": 3, "skipped": 0, "same_text": 1, "margin": 0, "seconds": 1.5}
    (world / "run/metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "mining": counts | {"margin": step}}) + "\n" for step in (5, 195)) + '{"step": 199, "mi'
    )
    command = ["report.py", "--run", world / "run", "--data", world / "data.h5", "--mined", world / "run"]
    said = tools.run(*command).stdout
    assert "checkpoint of step 200, mined at step 195" in said and "4 train queries, 1.25 negatives each" in said
    assert f"relevant {100 * 3 / 199:.1f}%" in said and "same text 40.00%, near text 20.00%" in said
    manifest["scalars"]["mined_at"] = -1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "nothing had been mined when this checkpoint was made" in tools.fails(*command)
    manifest["tables"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "its checkpoint holds no mined lists" in tools.fails(*command)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"negatives": [[2, 5, -1], *NEGATIVES[1:]]}, "the list of query 0 names label 5, expected -1..4"),
        ({"negatives": [*NEGATIVES[:2], [-1, 3, -1], NEGATIVES[3]]}, "the list of query 2 holds -1 before a label"),
        ({"scores": [*SCORES[:1], [np.nan, -np.inf, -np.inf], *SCORES[2:]]}, "a score of query 1 is not finite"),
        ({"dropped": np.zeros((4, 3))}, r"/dropped has the shape (4, 3), expected (4, 4) beside /negatives (4, 3)"),
        ({"ranks": np.zeros((4, 2))}, r"/ranks has the shape (4, 2), expected (4, 3) beside"),
    ],
)
def test_damaged_lists_are_one_line(tools, world, changes, message):
    write_mined(world / "mined.h5", **changes)
    assert f"mined.h5: {message}" in tools.fails(*words(world))


def test_files_that_do_not_belong_together_are_one_line(tools, world):
    assert "was mined for other queries (content 99)" in relabelled(tools, world, queries_content="99")
    assert "was mined among other labels (content 99)" in relabelled(tools, world, queries_content="11", labels_content="99")
    assert "holds labels of another corpus" in relabelled(tools, world, labels_content="33", relevant_labels_content="33")
    write_mined(world / "mined.h5", scores=np.array(SCORES) + 0.1)
    assert "they are not the embeddings that were searched" in tools.fails(*words(world, *embedded(world)))
    assert "/embeddings has 4 rows, expected 5" in tools.fails(
        *words(world, "--query-embeddings", world / "queries.h5", "--label-embeddings", world / "queries.h5")
    )
    assert "no /negatives: expected a file written by `vixen mine`" in tools.fails(*words(world)[:-1], world / "data.h5")
    assert "has no checkpoint" in tools.fails(*words(world)[:-1], world / "run")


def relabelled(tools, world, **attributes) -> str:
    with h5py.File(world / "mined.h5", "r+") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
    return tools.fails(*words(world))


def test_the_split_is_found_by_content(tools, world):
    with h5py.File(world / "mined.h5", "r+") as file:
        file.attrs["queries_content"] = "22"
    assert "4 test queries" in tools.run(*words(world, "--split", "train")).stdout
    with h5py.File(world / "mined.h5", "r+") as file:
        del file.attrs["queries_content"]
    assert "4 train queries" in tools.run(*words(world, "--split", "train")).stdout


def test_options_that_belong_together(tools, world):
    run = ["report.py", "--run", world / "run"]
    assert "--mined: lists are of a data set's queries, which need --data" in tools.fails(*run, "--mined", world / "mined.h5")
    assert "--query-embeddings and --label-embeddings belong together" in tools.fails(*words(world, "--query-embeddings", "q.h5"))
    assert "is an input (--mined" in tools.fails(*words(world, "--out", world / "mined.h5"))
    assert "is an input (--label-embeddings" in tools.fails(*words(world, *embedded(world), "--out", world / "labels.h5"))


def test_likeness_of_texts():
    from vixen_tools.text_similarity import normal, similarity

    assert normal("Red  Car!") == normal("red, car") == "red car" and normal("(!)") == "(!)"
    assert similarity("red car", "car red") == 1 and similarity("red car", "blue") == 0 and similarity("", "") == 0
    assert similarity("red cars", "red car") == pytest.approx(7 / 10)
    assert similarity("arrow", "arrows") == pytest.approx(5 / 8)


def test_the_limit_of_a_close_score():
    from vixen_tools.mined_statistics import limit_of

    assert limit_of(0.6, 0.95) == pytest.approx(0.57) and limit_of(-0.6, 0.95) == pytest.approx(-0.63) and limit_of(-0.6, 1.0) == -0.6
