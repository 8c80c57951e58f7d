"""Jobs over the doubles of libnccl and the CUDA runtime of which one rank goes wrong; each must end soon, and say why.

usage: faults.py MPIEXEC NCCL_FAULTY_JOB RANKS

Where mpirun itself would take the others down first, it is told to let them be (--enable-recovery): what they notice is
what is tested, as on nodes whose launcher notices nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

DEADLINE = 2.0
AT_ONCE = 6  # seconds, of which a machine with other work takes most
AFTER_THE_DEADLINE = AT_ONCE + DEADLINE
STOP, KILL = 19, 9


@dataclass
class Case:
    name: str
    fault: str  # of mpi_faulty_job
    seconds: float  # from the fault to the end of the job
    patterns: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    recovery: bool = True
    ends_well: bool = False
    watched: bool = False  # the ranks watch one another, as those of a command do


UNNOTICED = {"VIXEN_DOUBLE_LOST_PEERS": "unnoticed"}


def dies(where: str, signal: int) -> dict[str, str]:
    """Rank 1 dies in a call of NCCL (tests/nccl_doubles/faults.hpp)."""
    return {"VIXEN_DOUBLE_DIES": f"1:{where}:{signal}"}


def cases(ranks: int) -> list[Case]:
    own = rf"rank 0( of {ranks})? on \S+(, step \d+)?: "
    silent = own + rf"all_reduce_sum #\d+: no progress for {DEADLINE:.0f}\.\d s \(a rank is dead"
    lost = own + r"all_reduce_sum #\d+(:| failed:) remote process exited or there was a network error"
    no_bootstrap = own + rf"ncclCommInitRankConfig: NCCL made no progress for {DEADLINE:.0f}\."
    lost_in_bootstrap = own + r"ncclCommInitRankConfig failed: remote process exited"
    unseen = own + "the program did not end by itself"
    one_line = rf"rank 1 on \S+(, step \d+)?: no sign of life for .*; ending the job \({ranks} ranks, exit code 1\)"
    deaths = [
        Case("killed in the bootstrap", "none", AT_ONCE, [lost_in_bootstrap], dies("bootstrap", KILL)),
        Case("the same, unnoticed", "none", AFTER_THE_DEADLINE, [no_bootstrap], dies("bootstrap", KILL) | UNNOTICED),
        Case("stopped in the bootstrap", "none", AFTER_THE_DEADLINE, [no_bootstrap], dies("bootstrap", STOP) | UNNOTICED),
        Case("killed in a collective", "none", AT_ONCE, [lost], dies("10", KILL)),
        Case("the same, unnoticed", "none", AFTER_THE_DEADLINE, [silent], dies("10", KILL) | UNNOTICED),
        Case("stopped in a collective", "none", AFTER_THE_DEADLINE, [silent], dies("10", STOP) | UNNOTICED),
        Case("killed between collectives", "kill", AT_ONCE, [lost]),
        Case("the same, unnoticed", "kill", AFTER_THE_DEADLINE, [silent], UNNOTICED),
        Case("stopped between collectives", "stop", AFTER_THE_DEADLINE, [silent], UNNOTICED),
        Case("stopped, and watched", "stop", AFTER_THE_DEADLINE, [one_line], UNNOTICED, recovery=False, watched=True),
    ]
    if ranks == 3:
        return [
            *deaths,
            Case("too few GPUs", "none", 30, ["process 2 of this node needs a GPU of its own"], {"VIXEN_DOUBLE_GPUS": "2"}, recovery=False),
        ]
    if ranks != 2:
        return deaths
    return [
        # The longest first.
        Case("silent, and the others compute on", "busy", AFTER_THE_DEADLINE + 10, [silent, unseen], UNNOTICED),
        Case("silent, and the others end", "unseen", AFTER_THE_DEADLINE + DEADLINE, [silent, unseen], UNNOTICED),
        *deaths,
        Case("none", "none", 30, ["^finished$"], recovery=False, ends_well=True),
        Case("killed, and its launcher notices", "kill", AT_ONCE, [r"rank 1 .*exited on signal 9"], recovery=False),
        Case("throws", "throw", AT_ONCE, [r"rank 1 on \S+, step 10: step 10: no space left on device"], recovery=False),
        Case("two ranks on one GPU", "none", 30, ["ranks 0 and 1 have the same GPU"], {"VIXEN_DOUBLE_GPUS": "1"}, recovery=False),
    ]


def run(mpiexec: str, job: str, ranks: int, case: Case) -> str:
    """What is wrong with how the job ended; empty when nothing is."""
    command = [mpiexec, "-n", str(ranks), "--oversubscribe", *(["--enable-recovery"] if case.recovery else [])]
    command += [job, case.fault, "1", "10", str(DEADLINE), "cuda", *(["watched"] if case.watched else [])]
    begin = time.monotonic()
    lines: list[str] = []
    # The last mpirun that ends in a folder removes it from under those that begin: each has its own.
    with (
        tempfile.TemporaryDirectory(prefix="vixen") as folder,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"TMPDIR": folder} | case.environment,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if re.match(r"rank 1: \w+ (at step|in group|in the bootstrap)", line):
                begin = time.monotonic()
    seconds = time.monotonic() - begin
    output = "".join(lines)
    wrong = [f"no line matches '{pattern}'" for pattern in case.patterns if not re.search(pattern, output, re.M)]
    if seconds > case.seconds:
        wrong.append(f"took longer than {case.seconds} s")
    # With recovery, mpirun's own exit status says nothing.
    if not case.recovery and (process.returncode == 0) != case.ends_well:
        wrong.append(f"exit status {process.returncode}")
    if case.watched and output.count("ending the job") != 1:
        wrong.append("not one line of the end")
    if re.search("^finished$", output, re.M) and not case.ends_well:
        wrong.append("the job went to its end")
    print(f"{case.name}: ended in {seconds:.1f} s: {', '.join(wrong) or 'ok'}", flush=True)
    return "".join(f"  | {line}" for line in lines) if wrong else ""


def main() -> int:
    mpiexec, job, ranks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # They mostly wait.
    with ThreadPoolExecutor(max_workers=8) as pool:
        reports = list(pool.map(lambda case: run(mpiexec, job, ranks, case), cases(ranks)))
    print("".join(reports), end="")
    return 1 if any(reports) else 0


if __name__ == "__main__":
    sys.exit(main())
