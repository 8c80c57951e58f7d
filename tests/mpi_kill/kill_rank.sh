#!/bin/bash
# Runs jobs of which one rank goes wrong; each must end soon, with the right exit status and one message that names the
# rank, the step, the reason, and what the others were doing. Usage: kill_rank.sh MPIEXEC MPI_FAULTY_JOB
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

# check RANK FAULT DEADLINE SECONDS STATUS PATTERN...: a job of three with the fault on RANK ends within SECONDS of the fault,
# with exit status STATUS (0: zero, 1: not zero, any), prints a line that matches each PATTERN, and one of its end at most.
# $options: of mpirun.
options=()
check() {
  local rank=$1 fault=$2 deadline=$3 limit=$4 status=$5
  shift 5
  local begin end code
  : > "$output"
  timeout -k 2 60 "$mpiexec" -n 3 --oversubscribe "${options[@]}" "$job" "$fault" "$rank" 100 "$deadline" watched > "$output" 2>&1 &
  local pid=$!
  begin=$(date +%s.%N)
  if [ "$fault" != none ]; then
    until grep -q "rank $rank: $fault at step" "$output" || ! kill -0 $pid 2> /dev/null; do sleep 0.02; done
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
  [ "$(grep -c 'ending the job' "$output")" -le 1 ] || verdict="more than one line says that the job ends"
  echo "$fault on rank $rank${options[0]+ (${options[*]})}: ended in $seconds s, exit status $code: $verdict"
  if [ "$verdict" != ok ]; then
    failed=1
    sed 's/^/  | /' "$output"
  fi
}

check 1 none 30 30 0 '^finished$'
# Over sockets, as between nodes: words travel although nobody else calls MPI.
options=(--mca btl "tcp,self")
check 1 none 4 30 0 '^finished$'
options=()
# The launcher notices a process that is gone, and so do we.
check 1 kill 30 5 1 'rank 1 .*exited on signal 9' 'rank 1 on [^ ]+, step [0-9]+: its process is gone .*; meanwhile ranks 0, 2 in all_reduce_sum #[0-9]+'
# Where the launcher lets the others be, the ranks end the job.
options=(--enable-recovery)
check 1 kill 30 5 any 'rank 1 on [^ ]+, step [0-9]+: its process is gone .*; meanwhile ranks 0, 2 in all_reduce_sum #[0-9]+ of step 100 for [0-9]+ s; ending the job'
check 0 kill 30 6 any 'rank 0 on [^ ]+, step [0-9]+: its process is gone .*; ending the job'
options=()
# A rank that fails by itself says why, and takes the others down.
check 1 throw 30 5 1 'rank 1 on [^ ]+, step 100: step 100: no space left on device; meanwhile ranks 0, 2 in all_reduce_sum'
# A rank that is silent is noticed by the deadline (4 s).
check 1 stop 4 9 1 'rank 1 on [^ ]+, step [0-9]+: no sign of life for [0-9.]+ s .*; meanwhile ranks 0, 2 in all_reduce_sum #[0-9]+ of step 100 for [45] s; ending the job'
check 0 stop 4 9 1 'rank 0 on [^ ]+, step [0-9]+: no sign of life for [0-9.]+ s'
# One that lives and does something else is named, with what it does.
check 2 at-work 2 7 1 'rank 2 on [^ ]+, step 100: does not come to all_reduce_sum #[0-9]+: at work: encode labels; meanwhile ranks 0, 1 in all_reduce_sum'
# Files have a deadline of their own: three times as long here.
check 1 file 2 30 0 '^finished$'
check 0 file 2 30 0 '^finished$'
check 1 long-file 2 14 1 'rank 1 on [^ ]+, step 100: does not come to all_reduce_sum #[0-9]+: for [0-9]+ s at the file /scratch/slow.h5; meanwhile ranks 0, 2 in all_reduce_sum'
# Ranks out of step: the last collective never completes.
check 1 leave 2 9 1 '(no progress for 2\.[0-9] s, waiting for)|(were expected: the ranks disagree)|(does not come to)'

# Processes that their launcher started together and MPI does not connect must not each do the whole job.
if SLURM_STEP_NUM_TASKS=4 "$job" none 1 10 30 > "$output" 2>&1; [ $? = 2 ] && grep -q "started 4 processes, but MPI sees one" "$output"; then
  echo "unconnected processes: refused: ok"
else
  echo "unconnected processes: not refused"
  sed 's/^/  | /' "$output"
  failed=1
fi
exit $failed
