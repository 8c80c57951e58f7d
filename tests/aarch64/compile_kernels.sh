#!/usr/bin/env bash
# Compiles what a build for ARM takes of the CPU kernels, without ATen or MPI, by Debian's cross compiler. What is left
# out of it is what cmake/VixenModule.cmake leaves out there. Exit code 77: no such compiler, nothing was checked.
#
#   tests/aarch64/compile_kernels.sh [COMPILER]     default: aarch64-linux-gnu-g++
set -euo pipefail
compiler=${1:-aarch64-linux-gnu-g++}
src=$(cd "$(dirname "$0")/../../src" && pwd)
if ! command -v "$compiler" >/dev/null; then
  echo "skipped: no $compiler here (Debian: apt-get install g++-aarch64-linux-gnu)"
  exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
shopt -s nullglob
count=0
for file in "$src"/base/cpu_level*.cpp "$src"/base/no_x86_64.cpp "$src"/kernels/cpu/*.cpp "$src"/search/{scan,int8}_kernels*.cpp; do
  case $file in *_x86_64.cpp | *_avx2.cpp | *_avx512.cpp | *_avx512vnni.cpp) [[ $file == */no_x86_64.cpp ]] || continue ;; esac
  "$compiler" -std=c++20 -O3 -fPIC -Wall -Wextra -Wshadow -Werror -I"$src" -c "$file" -o "$out/$count.o"
  echo "compiled ${file#"$src"/}"
  count=$((count + 1))
done
[ "$count" -ge 9 ] || { echo "found only $count files: expected the baseline kernels and those of the search"; exit 1; }
# Together they need nothing of each other that is missing: one object file, undefined symbols of the C library only.
"$compiler" -r -nostdlib "$out"/*.o -o "$out/all.o"
missing=$("${compiler%g++}nm" -C -u "$out/all.o" | grep -E 'vixen::' || true)
[ -z "$missing" ] || { echo "undefined on ARM:"; echo "$missing"; exit 1; }
echo "$count files for ARM, nothing undefined"
