#!/usr/bin/env bash
# Runs tests/slurm/cluster_test.py inside a throw-away cluster of two nodes, four_nodes_test.py inside one of four, and
# binding_test.py inside one that binds tasks to CPUs. Exit code 77: this machine cannot.
#
#   run_in_cluster.sh PYTHON VIXEN_BINARY RESULTS_DIR [pytest arguments]
set -uo pipefail
python=$1 binary=$2 results=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd -P)
reason=$("$here/with_slurm.sh" --check 2>&1)
if [ -n "$reason" ]; then echo "skipped: $reason"; exit 77; fi

work=$(mktemp -d "${TMPDIR:-/tmp}/vixen-slurm.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
export VIXEN_ROOT VIXEN_BINARY=$binary VIXEN_TEST_WORK=$work/jobs OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
VIXEN_ROOT=$(cd "$here/../.." && pwd -P)
mkdir -p "$work/jobs"
"$python" "$here/make_tiny_run.py" --out "$work/jobs/tiny" || exit 1
rc=0
"$here/with_slurm.sh" "$work/lab" 2 1 "$python" -m pytest -q -p no:cacheprovider "$here/cluster_test.py" "$@" || rc=$?
"$here/with_slurm.sh" "$work/lab-four" 4 2 "$python" -m pytest -q -p no:cacheprovider "$here/four_nodes_test.py" "$@" || rc=$?
if [ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ]; then  # nproc would obey OMP_NUM_THREADS
  SLURM_LAB_TASK_PLUGIN=task/affinity "$here/with_slurm.sh" "$work/lab-affinity" 1 2 "$python" -m pytest -q -p no:cacheprovider \
    "$here/binding_test.py" "$@" || rc=$?
fi
if [ $rc -ne 0 ]; then
  rm -rf "$results/logs"
  mkdir -p "$results/logs"
  for lab in lab lab-four; do cp -r "$work/$lab/log" "$results/logs/$lab" 2>/dev/null; done
  find "$work/jobs" -maxdepth 2 \( -name '*.log' -o -name 'metrics.jsonl' \) -exec cp --parents -t "$results/logs" {} + 2>/dev/null
  echo "logs kept in $results/logs"
fi
exit $rc
