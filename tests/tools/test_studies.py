"""seed_study.py, world_study.py and make_configs.py: what they read is judged in one line, what they did not write stays."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

import make_configs

METRICS = dict.fromkeys(("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "R@100", "seconds"), 50.0)


def test_seeds_that_are_done_are_shown(tools, tmp_path):
    for seed, value in ((0, 40.0), (1, 60.0)):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}/metrics.json").write_text(json.dumps(METRICS | {"P@1": value}))
    command = ["seed_study.py", "--binary", "/bin/false", "--out", tmp_path, "--seeds", 0, 1]
    lines = tools.run(*command).stdout.splitlines()
    assert lines[-2].split()[:3] == ["mean", "50.00", "50.00"] and lines[-1].split()[:2] == ["deviation", "14.14"]
    for content, expected in (
        ("{", "metrics.json: line 1: not JSON: "),
        ("[]", "metrics.json: not a run's metrics in JSON: "),
        ("{}", "metrics.json: not a run's metrics in JSON: 'P@1'"),
    ):
        (tmp_path / "seed-1/metrics.json").write_text(content)
        assert expected in tools.fails(*command)


def test_a_seed_that_fails_ends_the_study_with_its_code(tools, tmp_path):
    result = tools.run("seed_study.py", "--binary", "/bin/false", "--out", tmp_path / "out", "--seeds", 3, "--", "--data.path=x", code=1)
    assert "Traceback" not in result.stderr
    error = tools.fails("seed_study.py", "--binary", tmp_path / "nothing", "--out", tmp_path / "out")
    assert error == f"error: {tmp_path}/nothing: No such file or directory"


def test_world_study_leaves_other_folders_alone(tools, tmp_path):
    (tmp_path / "out/ranks-1").mkdir(parents=True)
    (tmp_path / "out/ranks-1/notes.txt").write_text("mine\n")
    command = [
        "world_study.py",
        "--binary",
        "/bin/false",
        "--out",
        tmp_path / "out",
        "--ranks",
        1,
        "--",
        "--data.path",
        tmp_path / "x",
        "--model.path",
        "m",
    ]
    assert "ranks-1: exists and was not made by vixen (no .vixen.json)" in tools.fails(*command)
    assert [path.name for path in (tmp_path / "out/ranks-1").iterdir()] == ["notes.txt"]


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A copy of the made files, in their place."""
    shutil.copytree(make_configs.CONFIGS, tmp_path / "configs")
    monkeypatch.setattr(make_configs, "CONFIGS", tmp_path / "configs")
    return tmp_path / "configs"


def test_a_file_that_make_configs_did_not_make_stays(configs, monkeypatch):
    from vixen_tools.errors import UserError

    row = make_configs.all_rows()[0].file
    monkeypatch.setattr(sys, "argv", ["make_configs.py"])
    row.write_text(row.read_text() + "[run]\n")
    make_configs.main()  # one of its own is made anew
    assert make_configs.stale_files(make_configs.all_rows()) == []
    row.write_text("[train]\nepochs = 1\n")
    with pytest.raises(UserError, match="exists and was not made by this tool"):
        make_configs.main()
    assert row.read_text() == "[train]\nepochs = 1\n"


def test_the_table_of_a_page_is_replaced_in_its_place(configs, tmp_path, monkeypatch):
    from vixen_tools.errors import UserError

    plan = {
        "choice": {"chunks": 1, "recompute_layers": 0},
        "layers": 2,
        "memory": {"peak_bytes": 2e9, "host_bytes": 0},
        "time": {"hours": 3},
    }
    monkeypatch.setattr(make_configs, "plan_of", lambda binary, row: plan)
    page, rows = tmp_path / "page.md", make_configs.all_rows()[:1]
    page.write_text(f"before\n{make_configs.TABLE_BEGIN}\nold\n{make_configs.TABLE_END}\nafter\n")
    page.chmod(0o640)
    make_configs.write_plan_table(page, tmp_path, rows)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "| 2 |  | all kept | 3 |" in text
    assert page.stat().st_mode & 0o777 == 0o640
    for content, expected in (("no table\n", "found no table to replace"), (None, "no such file")):
        page.write_text(content) if content else page.unlink()
        with pytest.raises(UserError, match=expected):
            make_configs.write_plan_table(page, tmp_path, rows)
    with pytest.raises(UserError, match="lies in an input"):
        make_configs.write_plan_table(make_configs.OVERLAYS / "published.tsv", tmp_path, rows)
