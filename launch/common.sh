# shellcheck shell=bash
# What the launchers share: where things lie, what they say, how long commands show progress. Sourced by bash scripts.
#
#   vixen_root      the checkout               vixen_python    the Python of .venv
#   vixen_preset    cpu | cuda                 vixen_build     build/<preset>; vixen_binary: the program
#   vixen_log       build/log: output of the long commands

vixen_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck disable=SC2034  # for the scripts that source this
vixen_python=$vixen_root/.venv/bin/python
vixen_log=$vixen_root/build/log
vixen_name=${vixen_name:-$(basename "$0")}

say() { printf '[%s] %s\n' "$vixen_name" "$*"; }
warn() { printf '[%s] %s\n' "$vixen_name" "$*" >&2; }
# fail MESSAGE...: the user can do something about it. Exit code 2, as `vixen` itself does.
fail() { printf '[%s] %s\n' "$vixen_name" "$*" >&2; exit 2; }

# The CUDA compiler's major release, empty where there is none. torch 2.11 brings the CUDA 13 runtime, and one process
# must not hold two runtimes: an older nvcc does not count.
find_nvcc() {
  local nvcc
  nvcc=$(command -v nvcc || true)
  [ -n "$nvcc" ] || { [ -x /usr/local/cuda/bin/nvcc ] && nvcc=/usr/local/cuda/bin/nvcc; }
  [ -n "$nvcc" ] || return 1
  printf '%s\n' "$nvcc"
}

# How many GPUs the driver lists, limited by CUDA_VISIBLE_DEVICES.
visible_gpus() {
  local n
  command -v nvidia-smi >/dev/null 2>&1 || { echo 0; return; }
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    n=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c . || true)
  else
    n=$(timeout 20 nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
  fi
  echo "${n:-0}"
}

# cuda where nvcc is new enough, else cpu. A script that sets vixen_preset_needs_gpu=1 (it runs, and need not test) takes cuda only where a GPU is, or
# where that binary is built already: the CUDA build and its libraries cost minutes and gigabytes.
choose_preset() {
  local nvcc release
  if [ -n "${VIXEN_PRESET:-}" ]; then
    printf '%s\n' "$VIXEN_PRESET"
  elif [ "${vixen_preset_needs_gpu:-0}" = 1 ] && [ ! -x "$vixen_root/build/cuda/src/vixen" ] && [ "$(visible_gpus)" = 0 ]; then
    printf 'cpu\n'
  elif nvcc=$(find_nvcc) && release=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p') && [ "${release:-0}" -ge 13 ]; then
    printf 'cuda\n'
  else
    printf 'cpu\n'
  fi
}
vixen_preset=$(choose_preset)
vixen_build=$vixen_root/build/$vixen_preset
# shellcheck disable=SC2034
vixen_binary=$vixen_build/src/vixen

# Number of usable GPUs; 0 for a CPU build.
gpu_count() { if [ "$vixen_preset" = cuda ]; then visible_gpus; else echo 0; fi; }

# Exports what mpi.env says, but for what the user has set.
mpi_environment() {
  local name value
  while IFS='=' read -r name value; do
    case $name in '' | '#'*) continue ;; esac
    [ -n "${!name:-}" ] || export "$name=$value"
  done <"$vixen_root/launch/mpi.env"
}

# content_hash PATH|=TEXT...: one hash over names and contents of files and folders, and over literal texts.
content_hash() {
  local item
  for item in "$@"; do
    case $item in
      =*) printf '%s\n' "$item" ;;
      *) if [ -d "$item" ]; then
           find "$item" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
         elif [ -e "$item" ]; then sha256sum "$item"
         else printf 'absent %s\n' "$item"; fi ;;
    esac
  done | sed "s#$vixen_root/##" | sha256sum | cut -c1-32
}

# is_fresh FILE HASH: was the work that the stamp FILE stands for last done with exactly these inputs?
# mark_done FILE HASH: it is done now. A stamp lies beside what it speaks of, so that both go together.
is_fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
mark_done() { printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"; }

# run_logged NAME TITLE COMMAND...: runs it with its output in build/log/NAME.log. On a terminal the newest line is
# shown in place; elsewhere a line of it every 20 s. What takes under a second is not mentioned. A failure shows the end of
# the log. Returns the command's exit code.
run_logged() {
  local name=$1 title=$2 log rc=0 pid line start=$SECONDS last_shown=$SECONDS ticks=0
  shift 2
  log=$vixen_log/$name.log
  mkdir -p "$vixen_log" && : >"$log" || return 1
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.1
    ticks=$((ticks + 1))
    [ $ticks -eq 10 ] && say "$title"
    if [ $ticks -lt 10 ]; then
      continue
    elif [ -t 1 ]; then
      line=$(tail -c 8000 "$log" | tr '\r' '\n' | grep -a . | tail -n 1)
      printf '\r\033[K  %4ds  %s' $((SECONDS - start)) "${line:0:$(( ${COLUMNS:-0} > 12 ? COLUMNS - 12 : 88 ))}"
    elif [ $((SECONDS - last_shown)) -ge 20 ]; then
      last_shown=$SECONDS
      line=$(tail -c 8000 "$log" | tr '\r' '\n' | grep -a . | tail -n 1)
      printf '  %4ds  %s\n' $((SECONDS - start)) "${line:0:110}"
    fi
  done
  wait "$pid" || rc=$?
  [ -t 1 ] && [ $ticks -ge 10 ] && printf '\r\033[K'
  if [ $rc -ne 0 ]; then
    warn "failed (exit $rc): $title; the end of $log:"
    tail -n 40 "$log" >&2
  elif [ $ticks -ge 10 ]; then
    say "  done in $((SECONDS - start)) s"
  fi
  return $rc
}
