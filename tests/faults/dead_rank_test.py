"""A killed rank takes the job down within seconds, and the output names rank and reason."""

import os
import re
import signal
import subprocess
import time

from conftest import ranks_of


def test_one_rank_killed(tiny, tmp_path):
    run = tmp_path / "run"
    options = tiny.train_options(run, **{"train.epochs": 2000})
    process = subprocess.Popen(tiny.command("train", *options, ranks=2), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.time() + 60
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None and time.time() < deadline, "training did not start"
        time.sleep(0.05)
    time.sleep(0.5)
    victims = ranks_of(run)
    assert len(victims) == 2, victims
    start = time.time()
    os.kill(max(victims), signal.SIGKILL)
    output, _ = process.communicate(timeout=30)
    seconds = time.time() - start
    assert seconds < 5, f"the job took {seconds:.1f} s to end"
    assert process.returncode not in (0, 2, 75)
    assert "Killed" in output or "signal 9" in output, output
    ends = re.findall(r"^.*ending the job.*$", output, flags=re.M)
    assert len(ends) == 1, output
    assert re.search(r"rank \d on \S+, step \d+: its process is gone .*; meanwhile rank \d on \S+ ", ends[0]), ends
    assert not ranks_of(run), "no rank is left behind"
