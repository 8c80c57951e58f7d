#!/usr/bin/env bash
# What `apptainer build` and `apptainer test` would do with a definition file, where there is no Apptainer: a minimal Debian root
# by debootstrap in place of the base image, the committed files in place of %files, then %post and %test by chroot. Needs root.
#
#   run_definition.sh ROOT [DEFINITION] [-- COMMAND...]    ROOT: an empty or new folder; DEFINITION: default slurm/vixen.def;
#                                                          COMMAND: run inside in the end, behind %environment
#
# VIXEN_APT_MIRROR: of Debian (default http://deb.debian.org/debian). Certificates, apt's and pip's settings of this machine go along,
# for a build behind a proxy or a mirror.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd -P)
root=${1:?usage: run_definition.sh ROOT [DEFINITION] [-- COMMAND...]}
shift
definition=$here/slurm/vixen.def
if [ $# -gt 0 ] && [ "$1" != -- ]; then
  definition=$1
  shift
fi
[ "${1-}" != -- ] || shift
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 77; }
command -v debootstrap >/dev/null || { echo "no debootstrap here" >&2; exit 77; }
if [ -d "$root" ] && [ -n "$(ls -A "$root")" ]; then
  echo "$root is not empty" >&2
  exit 2
fi

# section NAME: its lines
section() { awk -v name="%$1" '/^%/ { inside = ($1 == name); next } inside' "$definition"; }

release=$(sed -nE 's/^From: *debian:([^-]*).*/\1/p' "$definition")
case $release in
  12) release=bookworm ;;
  13) release=trixie ;;
  *) echo "$definition: From: debian:$release is not known here" >&2; exit 2 ;;
esac
debootstrap --variant=minbase "$release" "$root" "${VIXEN_APT_MIRROR:-http://deb.debian.org/debian}"
root=$(readlink -f "$root")

clean_up() { for place in dev/shm dev proc; do umount "$root/$place" 2>/dev/null || true; done; }
trap clean_up EXIT
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"

files=0
while read -r from to; do
  [ -n "$from" ] || continue
  [ "$from" = . ] || { echo "%files: $from: only the checkout itself is known here" >&2; exit 2; }
  mkdir -p "$root$to"
  git -C "$here" archive HEAD | tar -x -C "$root$to"
  files=1
done < <(section files)
[ $files = 1 ] || { echo "$definition: no %files" >&2; exit 2; }

# The settings by which this machine reaches packages.
settings=()
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL http_proxy https_proxy no_proxy; do
  [ -z "${!name-}" ] || settings+=("$name=${!name}")
done
authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
if [ -f "$authorities" ]; then  # not under the name that the package ca-certificates writes
  cp -L "$authorities" "$root/etc/authorities-of-the-host.crt"
  for name in SSL_CERT_FILE CURL_CA_BUNDLE PIP_CERT; do settings+=("$name=/etc/authorities-of-the-host.crt"); done
fi
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/apt/apt.conf.d/*artifact* /etc/apt/apt.conf.d/*proxy*; do
  [ -f "$file" ] && mkdir -p "$root$(dirname "$file")" && cp -L "$file" "$root$file"
done

inside() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "${settings[@]}" chroot "$root" "$@"; }
echo "== %post"
section post | inside /bin/sh -s
echo "== %test"
{ section environment; section test; } | inside /bin/sh -es
if [ $# -gt 0 ]; then
  echo "== $*"
  { section environment; printf '%q ' "$@"; echo; } | inside /bin/bash -es
fi
