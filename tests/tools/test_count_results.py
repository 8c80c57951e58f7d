"""tests/count_results.py: what tests/run says at the end."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "count_results.py"
spec = importlib.util.spec_from_file_location("count_results", SCRIPT)
assert spec and spec.loader
count_results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(count_results)

GTEST = "[==========] Running 3 tests from 1 test suite.\n[ RUN      ] A.a\n"
RAN = "[==========] 3 tests from 1 test suite ran. (5 ms total)\n"


def counts(passed=0, failed=0, skipped=0):
    return {"passed": passed, "failed": failed, "skipped": skipped}


@pytest.mark.parametrize(
    "output, status, expected",
    [
        (GTEST + RAN + "[  PASSED  ] 3 tests.\n", "run", counts(3)),
        (GTEST + RAN + "[  PASSED  ] 1 test.\n[  FAILED  ] 2 tests, listed below:\n", "fail", counts(1, 2)),
        # A skipped case makes ctest call the whole entry skipped: its failures still count.
        (
            GTEST + RAN + "[  PASSED  ] 1 test.\n[  SKIPPED ] 1 test, listed below:\n[  FAILED  ] 1 test, listed below:\n",
            "notrun",
            counts(1, 1, 1),
        ),
        (GTEST + RAN + "[  PASSED  ] 2 tests.\n[  SKIPPED ] 1 test, listed below:\n", "notrun", counts(2, 0, 1)),
        # Every case passed, then the process died in its destructors.
        (GTEST + RAN + "[  PASSED  ] 3 tests.\n", "fail", counts(3, 1)),
        # It never came to its end.
        (GTEST, "fail", counts(0, 1)),
        (GTEST + "[  SKIPPED ] A.a (0 ms)\n", "notrun", counts(0, 1)),
        # Two ranks print the same summary; one of them failed a case.
        (
            GTEST + RAN + "[  PASSED  ] 3 tests.\n" + RAN + "[  PASSED  ] 2 tests.\n[  FAILED  ] 1 test, listed below:\n",
            "fail",
            counts(2, 1),
        ),
        ("....\n4 passed in 0.10s\n", "run", counts(4)),
        ("==== 1 failed, 2 passed, 1 skipped in 3.00s ====\n", "fail", counts(2, 1, 1)),
        ("1 error in 0.10s\n", "fail", counts(0, 1)),
        ("....\n-----\nRan 4 tests in 0.003s\n\nOK\n", "run", counts(4)),
        ("Ran 5 tests in 0.003s\n\nFAILED (failures=1, errors=1, skipped=1)\n", "fail", counts(2, 2, 1)),
        ("anything", "run", counts(1)),
        ("anything", "fail", counts(0, 1)),
        ("skipped: unshare is refused\n", "notrun", counts(0, 0, 1)),
    ],
)
def test_cases_of_one_entry(output, status, expected):
    assert count_results.count_entry(output, status) == expected


def run_script(tmp_path, entries, *options):
    cases = "".join(
        f'<testcase name="{name}" status="{status}" time="1"><system-out>{output}</system-out></testcase>'
        for name, status, output in entries
    )
    report = tmp_path / "unit.xml"
    report.write_text(f"<testsuite>{cases}</testsuite>")
    result = subprocess.run([sys.executable, str(SCRIPT), *options, str(report)], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout.splitlines()


def test_last_line_and_exit_code(tmp_path):
    code, lines = run_script(tmp_path, [("a", "run", "2 passed in 0.1s"), ("b", "notrun", "skipped: no")])
    assert (code, lines[-1]) == (0, "2 passed, 0 failed, 1 skipped")
    code, lines = run_script(tmp_path, [("a", "run", "2 passed in 0.1s"), ("b", "fail", "")])
    assert (code, lines[-1]) == (1, "2 passed, 1 failed")
    assert "failed: b" in lines


def test_ctest_s_own_failure_is_never_green(tmp_path):
    code, lines = run_script(tmp_path, [("a", "run", "2 passed in 0.1s")], "--ctest-failed", "1")
    assert (code, lines[-1]) == (1, "2 passed, 1 failed")


def test_no_tests_is_a_failure(tmp_path):
    code, lines = run_script(tmp_path, [])
    assert (code, lines[-1]) == (1, "0 passed, 1 failed")
