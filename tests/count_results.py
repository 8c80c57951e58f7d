"""Totals of ctest's JUnit files: counts the cases inside each entry, and closes with `N passed, N failed[, N skipped]`.

An entry that ran GoogleTest, pytest or unittest counts as its cases; any other entry counts as one. An entry that ctest calls
failed without a failed case (crash, timeout, a rank that died) adds one failure. An entry that ctest calls skipped counts
by what it printed, because one skipped case must not hide a failed one beside it.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

GTEST_RAN = re.compile(r"^\[=+\] (\d+) tests? from \d+ test (?:suites?|cases?) ran", re.M)
GTEST_COUNT = {
    "passed": re.compile(r"^\[  PASSED  \] (\d+) tests?\.", re.M),
    "failed": re.compile(r"^\[  FAILED  \] (\d+) tests?, listed below", re.M),
    "skipped": re.compile(r"^\[  SKIPPED \] (\d+) tests?, listed below", re.M),
}
PYTEST_SUMMARY = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s", re.M)
UNITTEST_SUMMARY = re.compile(r"^Ran (\d+) tests? in [\d.]+s\s+(OK|FAILED)(?: \((.*)\))?\s*$", re.M)
PYTEST_COUNT = {"passed": r"(\d+) passed", "failed": r"(\d+) (?:failed|errors?)", "skipped": r"(\d+) skipped"}


def count_entry(output: str, status: str) -> dict[str, int]:
    """Cases of one ctest entry. status: run | fail | notrun | disabled, as ctest's JUnit names it."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    if GTEST_RAN.search(output):
        # Under mpirun every rank may print a summary: the ranks run the same cases, so the largest count is the count.
        for key, pattern in GTEST_COUNT.items():
            counts[key] = max((int(n) for n in pattern.findall(output)), default=0)
        if counts["failed"]:  # a case that failed on one rank only is counted as passed by the others
            total = max(int(n) for n in GTEST_RAN.findall(output))
            counts["passed"] = min(counts["passed"], total - counts["failed"] - counts["skipped"])
    elif summaries := PYTEST_SUMMARY.findall(output):  # an entry may run pytest several times
        for key, words in PYTEST_COUNT.items():
            counts[key] = sum(int(n) for summary in summaries for n in re.findall(words, summary))
    elif summary := UNITTEST_SUMMARY.search(output):
        named = dict(item.split("=") for item in (summary.group(3) or "").split(", ") if item)
        counts["failed"] = sum(int(named.get(key, 0)) for key in ("failures", "errors", "unexpected successes"))
        counts["skipped"] = int(named.get("skipped", 0))
        counts["passed"] = int(summary.group(1)) - counts["failed"] - counts["skipped"]
    elif status == "run":
        counts["passed"] = 1
    elif status in ("notrun", "disabled") and "[ RUN " not in output:
        counts["skipped"] = 1
    elif status != "fail":
        counts["failed"] = 1  # began its cases and never came to the end of them
    if status == "fail" and counts["failed"] == 0:
        counts["failed"] = 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="*", type=Path, help="JUnit files written by ctest, LABEL.xml")
    parser.add_argument("--ctest-failed", type=int, default=0, help="1 when a ctest call exited with an error")
    arguments = parser.parse_args()
    total = {"passed": 0, "failed": 0, "skipped": 0}
    entries = 0
    for report in arguments.reports:
        label = {"passed": 0, "failed": 0, "skipped": 0}
        seconds = 0.0
        cases = ElementTree.parse(report).getroot().findall("testcase")
        for case in cases:
            output = case.findtext("system-out") or ""
            counts = count_entry(output, case.get("status", "run"))
            seconds += float(case.get("time") or 0)
            if counts["failed"]:
                print(f"failed: {case.get('name')}")
            elif counts["skipped"]:
                reason = re.findall(r"^.*(?:Skipped$|[Ss]kipped: .*|: Skipped\n.*)", output, re.M)
                print(f"skipped: {case.get('name')} ({counts['skipped']})" + (f": {reason[-1].strip()}" if reason else ""))
            for key in total:
                label[key] += counts[key]
        for key in total:
            total[key] += label[key]
        entries += len(cases)
        print(
            f"{report.stem:>8}: {label['passed']:5d} passed {label['failed']:4d} failed {label['skipped']:4d} skipped"
            f"  {len(cases)} ctest entries, {seconds:.0f} s"
        )
    if arguments.ctest_failed and not total["failed"]:
        total["failed"] = 1  # ctest itself failed: never report green
    if not entries:
        print("no tests ran")
        total["failed"] = max(total["failed"], 1)
    print("counted: GoogleTest, pytest and unittest cases; any other ctest entry is one (a case at four world sizes counts four times)\n")
    line = f"{total['passed']} passed, {total['failed']} failed"
    print(line + (f", {total['skipped']} skipped" if total["skipped"] else ""))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
