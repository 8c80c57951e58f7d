# shellcheck shell=bash
# Arguments of `vixen` whose inputs are copied to a node's own disk first: which they are, and what stands in their place. Sourced
# by launch/run and slurm/job.sh.

stage_tool=$(dirname "${BASH_SOURCE[0]}")/stage

# inputs_to_stage ARGUMENTS...: fills `inputs` with the values of --data.path and --model.path.
inputs_to_stage() {
  local arguments=("$@") i
  inputs=()
  for ((i = 0; i + 1 < $#; ++i)); do
    case ${arguments[i]} in --data.path | --model.path) inputs+=("${arguments[i + 1]}") ;; esac
  done
}

# use_copies FOLDER ARGUMENTS...: fills `staged` with the arguments, the copies of `inputs` in the place of what they are copies
# of. Copies are named alike on every node.
use_copies() {
  local folder=$1 from to i
  shift
  staged=("$@")
  while IFS=$'\t' read -r from to; do
    for ((i = 0; i + 1 < ${#staged[@]}; ++i)); do
      case ${staged[i]} in --data.path | --model.path) [ "${staged[i + 1]}" != "$from" ] || staged[i + 1]=$to ;; esac
    done
  done < <("$stage_tool" --where "$folder" "${inputs[@]}")
}
