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
    least_ranks: int = 2


def dies(where: str, signal: int, noticed: bool = True) -> dict[str, str]:
    """Rank 1 dies in a call of NCCL (tests/nccl_doubles/faults.hpp)."""
    lost = {} if noticed else {"VIXEN_DOUBLE_LOST_PEERS": "unnoticed"}
    return {"VIXEN_DOUBLE_DIES": f"1:{where}:{signal}", **lost}


def cases(ranks: int) -> list[Case]:
    own = rf"rank 0 of {ranks} on \S+: "
    silent = own + rf"all_reduce_sum #\d+: no progress for {DEADLINE:.0f}\.\d s \(a rank is dead"
    lost = own + r"all_reduce_sum #\d+: remote process exited or there was a network error"
    bootstrap = own + "ncclCommInitRankConfig"
    return [
        Case("none", "none", 30, [r"^finished$"], ends_well=True),
        Case("killed in the bootstrap", "none", AT_ONCE, [bootstrap + " failed: remote"], dies("bootstrap", KILL)),
        Case(
            "killed in the bootstrap, unnoticed",
            "none",
            AFTER_THE_DEADLINE,
            [bootstrap + ": NCCL made no progress for 2"],
            dies("bootstrap", KILL, noticed=False),
        ),
        Case(
            "stopped in the bootstrap",
            "none",
            AFTER_THE_DEADLINE,
            [bootstrap + ": NCCL made no progress for 2"],
            dies("bootstrap", STOP),
        ),
        Case("killed in a collective", "none", AT_ONCE, [lost], dies("10", KILL)),
        Case("killed in a collective, unnoticed", "none", AFTER_THE_DEADLINE, [silent], dies("10", KILL, False)),
        Case("stopped in a collective", "none", AFTER_THE_DEADLINE, [silent], dies("10", STOP)),
        Case("killed between collectives", "kill", AT_ONCE, [lost]),
        Case("stopped between collectives", "stop", AFTER_THE_DEADLINE, [silent]),
        Case("killed, and its launcher notices", "kill", AT_ONCE, [r"rank 1 .*exited on signal 9"], recovery=False),
        Case("throws", "throw", AT_ONCE, [r"rank 1 on \S+: step 10: no space left on device"], recovery=False),
        Case(
            "silent, and the others compute on",
            "busy",
            AFTER_THE_DEADLINE + 10,
            [silent, own + "the program did not end by itself"],
        ),
        Case(
            "silent, and the others end",
            "unseen",
            AFTER_THE_DEADLINE + DEADLINE,
            [silent, own + "the program did not end by itself"],
        ),
        Case(
            "two ranks on one GPU",
            "none",
            30,
            ["ranks 0 and 1 have the same GPU"],
            {"VIXEN_DOUBLE_GPUS": "1"},
            recovery=False,
        ),
        Case(
            "too few GPUs",
            "none",
            30,
            ["process 2 of this node needs a GPU of its own, and the node has 2"],
            {"VIXEN_DOUBLE_GPUS": "2"},
            recovery=False,
            least_ranks=3,
        ),
    ]


def run(mpiexec: str, job: str, ranks: int, case: Case) -> str:
    """What is wrong with how the job ended; empty when nothing is."""
    command = [mpiexec, "-n", str(ranks), "--oversubscribe", *(["--enable-recovery"] if case.recovery else [])]
    command += [job, case.fault, "1", "10", str(DEADLINE), "cuda"]
    begin = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | case.environment,
    ) as process:
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
    if re.search("^finished$", output, re.M) and not case.ends_well:
        wrong.append("the job went to its end")
    print(f"{case.name}: ended in {seconds:.1f} s: {', '.join(wrong) or 'ok'}", flush=True)
    return "".join(f"  | {line}" for line in lines) if wrong else ""


def main() -> int:
    mpiexec, job, ranks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chosen = [case for case in cases(ranks) if ranks >= case.least_ranks]
    # They mostly wait.
    with ThreadPoolExecutor(max_workers=4) as pool:
        reports = list(pool.map(lambda case: run(mpiexec, job, ranks, case), chosen))
    print("".join(reports), end="")
    return 1 if any(reports) else 0


if __name__ == "__main__":
    sys.exit(main())
