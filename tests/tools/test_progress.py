"""vixen_tools/progress.py: what takes long says so, what does not is silent."""

import time

from conftest import TOOLS  # noqa: F401 (puts the tools on the path)

from vixen_tools.progress import Progress, waiting


def test_a_stage_without_a_count_says_how_long_it_takes(capsys):
    with waiting("a stage", first=0.05, seconds=0.05):
        time.sleep(0.4)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and set(lines) == {"a stage: 0 s"}
    with waiting("short", first=5.0):
        pass
    assert capsys.readouterr().err == ""


def test_a_stage_that_fails_is_not_waited_for(capsys):
    begin = time.monotonic()
    try:
        with waiting("fails", first=60.0):
            raise ValueError("no")
    except ValueError:
        pass
    assert time.monotonic() - begin < 10 and capsys.readouterr().err == ""


def test_a_count_says_its_share_and_what_is_left(capsys):
    with Progress("rows", 4, seconds=0.0) as progress:
        progress.add(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("rows: 2/4 rows, 50%, ") and lines[-1].startswith("rows: 2 rows, ")
