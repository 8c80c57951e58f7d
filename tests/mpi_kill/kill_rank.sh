#!/bin/bash
# Runs jobs of two ranks of which one goes wrong; each must end soon, with the right exit status and a message that names
# the rank and the reason. Usage: kill_rank.sh MPIEXEC MPI_FAULTY_JOB
set -u
mpiexec=$1
job=$2
set -a
. "$(dirname "$0")/../../launch/mpi.env"
set +a
export OMP_NUM_THREADS=1
output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0

# check FAULT DEADLINE SECONDS STATUS PATTERN...: a job with the fault on rank 1 ends within SECONDS of the fault, with exit
# status STATUS (0: zero, 1: anything else), and prints a line that matches each PATTERN.
check() {
  local fault=$1 deadline=$2 limit=$3 status=$4
  shift 4
  local begin end code
  : > "$output"
  timeout -k 2 60 "$mpiexec" -n 2 --oversubscribe "$job" "$fault" 1 10 "$deadline" > "$output" 2>&1 &
  local pid=$!
  begin=$(date +%s.%N)
  if [ "$fault" != none ]; then
    until grep -q "rank 1: $fault at step" "$output" || ! kill -0 $pid 2> /dev/null; do sleep 0.02; done
    begin=$(date +%s.%N)
  fi
  wait $pid
  code=$?
  end=$(date +%s.%N)
  local seconds
  seconds=$(awk "BEGIN { printf \"%.2f\", $end - $begin }")
  local verdict=ok pattern
  awk "BEGIN { exit !($seconds <= $limit) }" || verdict="took longer than $limit s"
  if [ "$status" = 0 ] && [ $code != 0 ]; then verdict="exit status $code"; fi
  if [ "$status" = 1 ] && [ $code = 0 ]; then verdict="exit status 0"; fi
  for pattern in "$@"; do
    grep -qE "$pattern" "$output" || verdict="no line matches '$pattern'"
  done
  echo "$fault: ended in $seconds s, exit status $code: $verdict"
  if [ "$verdict" != ok ]; then
    failed=1
    sed 's/^/  | /' "$output"
  fi
}

check none 30 30 0 '^finished$'
# The launcher notices a process that is gone.
check kill 30 5 1 'rank 1 .*exited on signal 9'
# A rank that fails by itself says why, and takes the other one down.
check throw 30 5 1 'rank 1 on .*: step 10: no space left on device'
# A rank that is silent is noticed by the deadline of the others (2 s), which name it and what they were doing.
check stop 2 5 1 'rank 0 of 2 on .*: all_reduce_sum #[0-9]+: no progress for 2\.[0-9] s, waiting for rank 1'
# Ranks out of step: the last collective never completes.
check leave 2 9 1 '(no progress for 2\.[0-9] s, waiting for)|(were expected: the ranks disagree)'

# Processes that their launcher started together and MPI does not connect must not each do the whole job.
if SLURM_STEP_NUM_TASKS=4 "$job" none 1 10 30 > "$output" 2>&1; [ $? = 2 ] && grep -q "started 4 processes, but MPI sees one" "$output"; then
  echo "unconnected processes: refused: ok"
else
  echo "unconnected processes: not refused"
  sed 's/^/  | /' "$output"
  failed=1
fi
exit $failed
