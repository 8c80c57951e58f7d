#!/usr/bin/env bash
# From raw texts to an exported model by SLURM jobs that wait for one another: prepare, train, evaluate, export. Given again, it
# submits what is neither done nor on its way.
#
#   slurm/pipeline.sh --run RUN --data DATA.h5 --model FOLDER [--raw RAW] [--export FORMAT=OUT]... [--sbatch "OPTIONS"] -- OPTIONS OF TRAINING
set -uo pipefail
vixen_name=pipeline
usage() {
  cat <<'TEXT'
usage: slurm/pipeline.sh --run RUN --data DATA.h5 --model FOLDER [options] -- options of `vixen train`
  --raw FOLDER         raw texts: DATA.h5 is prepared from them (tools/prepare_dataset.py); without it DATA.h5 is there
  --images FILE.h5     picture embeddings of the raw rows
  --export FORMAT=OUT  peft, merged, sentence-transformers or faiss (docs/language-models.md); may be repeated
  --sbatch "OPTIONS"   of training, evaluation and export: nodes, tasks, GPUs, time, partition
  --prepare-sbatch "OPTIONS"  of the preparation, which wants one node and no GPU
  --dry-run            say what would be submitted

A stage is done when what it makes is there: DATA.h5, RUN/model and RUN/metrics.json, RUN/test.json, OUT. The jobs that were
submitted stand in RUN.jobs. A job that fails takes those behind it out of the queue; the same command then goes on from there.
TEXT
}
run='' data='' model='' raw='' images='' exports=() sbatch_words=() prepare_words=() dry=0
while [ $# -gt 0 ]; do
  case $1 in
    --run) run=${2:?--run needs a folder}; run=${run%/}; shift ;;
    --data) data=${2:?--data needs a file}; shift ;;
    --model) model=${2:?--model needs a folder}; shift ;;
    --raw) raw=${2:?--raw needs a folder}; shift ;;
    --images) images=${2:?--images needs a file}; shift ;;
    --export) exports+=("${2:?--export needs FORMAT=OUT}"); shift ;;
    --sbatch) read -ra sbatch_words <<<"${2?--sbatch needs options}"; shift ;;
    --prepare-sbatch) read -ra prepare_words <<<"${2?--prepare-sbatch needs options}"; shift ;;
    --dry-run) dry=1 ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
here=$(cd "$(dirname "$0")/.." && pwd -P)
. "$here/launch/common.sh"
for needed in run data model; do [ -n "${!needed}" ] || fail "--$needed is missing (slurm/pipeline.sh --help)"; done
for export in ${exports[@]+"${exports[@]}"}; do
  case $export in *=?*) ;; *) fail "--export $export: expected FORMAT=OUT" ;; esac
done
[ -n "$raw" ] || [ -e "$data" ] || fail "$data: no such file: give --raw FOLDER to prepare it from"
export VIXEN_ROOT=${VIXEN_ROOT:-$here}
jobs=$run.jobs
mkdir -p "$(dirname "$jobs")" || exit 2

job_of() { [ ! -f "$jobs" ] || awk -v stage="$1" '$1 == stage { id = $2 } END { if (id) print id }' "$jobs"; }
is_queued() { [ -n "$1" ] && [ -n "$(squeue -h -j "$1" -t PENDING,CONFIGURING,RUNNING,COMPLETING,SUSPENDED,REQUEUED,REQUEUE_HOLD,SPECIAL_EXIT -o %T 2>/dev/null)" ]; }

# stage NAME DONE WORDS...: submits `sbatch WORDS` behind the stage before, unless DONE or it is on its way.
before=''
stage() {
  local name=$1 is_done=$2 id words
  shift 2
  if [ -z "$before" ] && [ "$is_done" = 1 ]; then say "$name: done"; return; fi
  id=$(job_of "$name")
  if is_queued "$id"; then say "$name: job $id is on its way"; before=$id; return; fi
  words=(--parsable --job-name="vixen-$(basename "$run")-$name" --kill-on-invalid-dep=yes)
  [ -z "$before" ] || words+=(--dependency="afterok:$before")
  if [ $dry = 1 ]; then say "$name: sbatch ${words[*]} $*"; before=NUMBER; return; fi
  id=$(sbatch "${words[@]}" "$@") || fail "$name: sbatch refused (above); what was submitted before stays, and the same command goes on"
  id=${id%%;*}
  printf '%s %s\n' "$name" "$id" >>"$jobs"
  say "$name: job $id${before:+, after job $before}"
  before=$id
}
exists() { if [ -e "$1" ]; then echo 1; else echo 0; fi; }

if [ -n "$raw" ]; then
  words=("$vixen_python" "$here/tools/prepare_dataset.py" --raw "$raw" --model "$model" ${images:+--images "$images"} --out "$data")
  stage prepare "$(exists "$data")" --ntasks=1 ${prepare_words[@]+"${prepare_words[@]}"} --output="$run-prepare-%j.log" --wrap "$(printf '%q ' "${words[@]}")"
fi
trained=0
[ ! -e "$run/metrics.json" ] || [ ! -e "$run/model/config.json" ] || trained=1
stage train $trained ${sbatch_words[@]+"${sbatch_words[@]}"} --output="$run-train-%j.log" "$here/slurm/train.sbatch" \
  --data.path "$data" --model.path "$model" --run.dir "$run" "$@"
stage evaluate "$(exists "$run/test.json")" ${sbatch_words[@]+"${sbatch_words[@]}"} --output="$run-evaluate-%j.log" "$here/slurm/command.sbatch" \
  evaluate --run.dir "$run" --data.path "$data" --out "$run/test.json"
for export in ${exports[@]+"${exports[@]}"}; do
  format=${export%%=*} out=${export#*=}
  extra=()
  [ "$format" != faiss ] || extra=(--data.path "$data")
  stage "export-$format" "$(exists "$out")" ${sbatch_words[@]+"${sbatch_words[@]}"} --output="$run-export-$format-%j.log" "$here/slurm/command.sbatch" \
    export --run.dir "$run" --export.format "$format" --out "$out" ${extra[@]+"${extra[@]}"}
done
[ -n "$before" ] || say "all done: $run"
