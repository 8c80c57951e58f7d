"""tests/gpu/run_all: a list of steps of which none ends the others, and what it writes of them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "gpu/run_all.py"


@pytest.fixture(scope="module")
def run_all():
    spec = importlib.util.spec_from_file_location("run_all", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_all"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    yield module
    del sys.modules["run_all"]


@pytest.fixture
def kit(run_all, tmp_path):
    return run_all.Kit("cpu", tmp_path)


def shell(text: str):
    """A step that runs a command and is passed when it is."""
    return lambda kit: (kit.run("sh", "-c", text).strip(), {"said": text})


def test_no_step_ends_the_others(run_all, kit, capsys):
    def wrong(kit):
        raise KeyError("a mistake of the step")

    table = [
        run_all.Step("good", 10, shell("echo fine")),
        run_all.Step("bad", 10, shell("echo first; echo last words; exit 3")),
        run_all.Step("endless", 0.5, shell("echo begun; sleep 60 & sleep 60")),
        run_all.Step("wrong", 10, wrong),
        run_all.Step("of a GPU", 10, run_all.waits),
        run_all.Step("missing", 10, lambda kit: kit.run("/no/such/program")),
        run_all.Step("good again", 10, shell("echo fine too")),
    ]
    begin = time.monotonic()
    results = run_all.run_steps(kit, table, 60)
    assert time.monotonic() - begin < 10
    assert [result.outcome for result in results] == ["passed", "failed", "failed", "failed", "skipped", "failed", "passed"]
    remarks = [result.remark for result in results]
    assert remarks[0] == "fine" and remarks[1] == "exit code 3: last words" and remarks[2] == "did not end within its time"
    assert "a mistake of the step" in remarks[3] and remarks[4].startswith("no GPU: ") and "/no/such/program" in remarks[5]
    assert results[1].log[1:] == ["first", "last words"] and results[2].log[1:] == ["begun"] and not results[0].log
    assert run_all.summary(results) == "2 passed, 4 failed, 1 skipped"
    assert "last words" in capsys.readouterr().out


def test_all_steps_together_have_their_time(run_all, kit):
    table = [run_all.Step(name, 30, shell("sleep 60")) for name in "abc"]
    results = run_all.run_steps(kit, table, 0.5)
    assert [result.outcome for result in results] == ["failed", "skipped", "skipped"]
    assert "minutes are over" in results[1].remark


def test_what_is_written(run_all, kit):
    kernel = {"name": "norm", "microseconds": 12.0, "gb_per_s": 100.5, "share_of_copy": 0.5, "reference_microseconds": 80.0}
    results = [
        run_all.Result("rates", "passed", 1.5, "fast | faster", {"kernels": [kernel]}),
        run_all.Result("doctor", "failed", 2.0, "no", {}, ["$ vixen doctor", "no"]),
        run_all.Result("waits", "skipped", 0.0, "no GPU"),
    ]
    report = json.loads(json.dumps(run_all.report_of("cpu", results, "2026-01-31")))
    assert [step["outcome"] for step in report["steps"]] == ["passed", "failed", "skipped"]
    assert report["steps"][0]["figures"]["kernels"] == [kernel] and "figures" not in report["steps"][2]
    text = run_all.markdown_of("A CPU", "cpu", results, "2026-01-31")
    assert "1 passed, 1 failed, 1 skipped." in text and "fast \\| faster" in text and "| norm | 12 | 100.5 | 50% | 80 |" in text
    assert run_all.file_name("NVIDIA H100 80GB HBM3", "2026-01-31") == "nvidia-h100-80gb-hbm3-2026-01-31"


@pytest.mark.parametrize(
    "output, expected",
    [
        ("[  PASSED  ] 7 tests.", "7 tests"),
        ("[  SKIPPED ] A.b (0 ms)\n[  PASSED  ] 7 tests.", "7 tests, 1 skipped"),
        ("[  SKIPPED ] A.b (0 ms)\n[  PASSED  ] 0 tests.", "skip"),
        ("[  SKIPPED ] no GPU", "skip"),
        ("", "fail"),
    ],
)
def test_a_test_program_that_ran_nothing_has_not_passed(run_all, kit, output, expected):
    kit.ends_at = time.monotonic() + 10
    errors = {"skip": run_all.Skipped, "fail": run_all.Failed}
    if expected in errors:
        with pytest.raises(errors[expected]):
            run_all.google_tests(kit, "printf", "%s", output)
    else:
        assert run_all.google_tests(kit, "printf", "%s", output)[0] == expected


def test_a_cpu_and_a_card_run_one_list(run_all):
    names = [[step.name for step in run_all.steps(device)] for device in ("cpu", "cuda")]
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])


def test_the_machine_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--out", tmp_path / "out", "--steps", "machine,sanitizer memcheck"],
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1] == "1 passed, 0 failed, 1 skipped", done.stdout + done.stderr
    written = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert written == [".json", ".md"]
    done = subprocess.run([sys.executable, SCRIPT, "--steps", "nothing of the kind"], capture_output=True, text=True)
    assert done.returncode == 2 and "--list" in done.stderr
