# shellcheck shell=bash
# What the job scripts share; they source it. Sets, from the environment of a job:
#
#   root      the checkout (or PREFIX/share/vixen): VIXEN_ROOT, else where the job was submitted from
#   binary    VIXEN_BINARY, else the program built or installed there
#   device    (--device cuda) where the job has GPUs, else ()
#
# A site's modules, transports and fast local folder go into slurm/site.sh (slurm/site.sh.example), which is sourced first.

root=${VIXEN_ROOT:-${SLURM_SUBMIT_DIR:-$PWD}}  # not $0: SLURM runs a copy of the script
# shellcheck source=/dev/null
[ -f "$root/slurm/site.sh" ] && . "$root/slurm/site.sh"
# shellcheck source=launch/staging.sh
. "$root/launch/staging.sh" || exit 2
binary=${VIXEN_BINARY:-}
for built in build/cuda/src/vixen build/cpu/src/vixen ../../bin/vixen; do  # the last: $root is PREFIX/share/vixen
  [ -n "$binary" ] || { [ -x "$root/$built" ] && binary=$root/$built; }
done
[ -n "$binary" ] || { echo "no vixen in $root/build: run launch/setup there, or set VIXEN_ROOT or VIXEN_BINARY" >&2; exit 2; }
device=()
[ "${SLURM_GPUS_ON_NODE:-0}" = 0 ] || device=(--device cuda)
stop_asked=0
# When the job ends, for ranks that save before it should no signal come; newer SLURM says so itself.
if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null) && end=$(date -d "$end" +%s 2>/dev/null); then
  export SLURM_JOB_END_TIME=$end
fi

# One line of what runs where. --wait: when a rank has ended, for whatever reason, the others get 5 s to do so too. Without it a
# job whose rank was killed may last until its ranks on other nodes miss it (comm.deadline_seconds). Without --cpus-per-task the ranks of a node
# divide what the job has there (docs/install.md).
announce() {
  echo "job $SLURM_JOB_ID${SLURM_ARRAY_TASK_ID:+ (cell $SLURM_ARRAY_TASK_ID)} on $SLURM_JOB_NODELIST: $SLURM_NTASKS ranks," \
    "start $((${SLURM_RESTART_COUNT:-0} + 1)), $(date -u +%FT%TZ)"
}
on_all_ranks() {
  srun --mpi=pmix --wait=5 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} "$@"
}

# Is what the job was given sound? Ends the job where it is not, before anything else costs time. VIXEN_DOCTOR=no leaves it out.
doctor_first() {
  [ "${VIXEN_DOCTOR:-yes}" = no ] && return
  on_all_ranks "$binary" doctor ${device[@]+"${device[@]}"} && return
  local rc=$?
  echo "vixen doctor found what is wrong with this allocation (above); VIXEN_DOCTOR=no starts the job all the same" >&2
  exit $rc
}

# stage_inputs ARGUMENTS...: with VIXEN_STAGE, a folder on every node's own disk, --data.path and --model.path are copied there on
# every node (launch/stage), and `staged` holds the arguments with the copies' paths. Without it they are as given.
stage_inputs() {
  staged=("$@")
  [ -n "${VIXEN_STAGE:-}" ] || return 0
  inputs_to_stage "$@"
  [ ${#inputs[@]} -gt 0 ] || return 0
  srun --ntasks-per-node=1 --ntasks="$SLURM_JOB_NUM_NODES" --cpu-bind=none "$stage_tool" "$VIXEN_STAGE" "${inputs[@]}" >/dev/null || exit
  use_copies "$VIXEN_STAGE" "$@"
}

# run_ranks ARGUMENTS...: `vixen ARGUMENTS` on all ranks, in the background, so that signals reach this script: USR1 and TERM go on
# to the ranks. Returns vixen's exit code. A trap ends `wait` early, with the signal's number: only an undisturbed wait gives it.
run_ranks() {
  local rc before signals=0 step
  on_all_ranks "$binary" "$@" ${device[@]+"${device[@]}"} &
  step=$!
  trap 'signals=$((signals + 1)) stop_asked=1; echo "USR1: asking the ranks to stop"; kill -USR1 $step 2>/dev/null' USR1
  trap 'signals=$((signals + 1)); kill -TERM $step 2>/dev/null' TERM
  while :; do
    before=$signals
    wait $step
    rc=$?
    [ "$signals" != "$before" ] || break
  done
  trap - USR1 TERM
  return $rc
}

# requeue_if_stopped RC: what was saved, or kept by parts, goes on in the next start. 138: USR1 reached a rank that does not catch
# it (it was still starting, or its command saves by parts): what stood before still stands.
requeue_if_stopped() {
  [ "$1" = 75 ] || { [ $stop_asked = 1 ] && [ "$1" = 138 ]; } || exit "$1"
  echo "stopped after saving: requeueing job $SLURM_JOB_ID"
  local job=$SLURM_JOB_ID
  [ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID  # this cell alone
  if scontrol requeue "$job"; then exit 0; fi
  echo "requeue refused: submit the same command again, it resumes" >&2
  exit 75
}
