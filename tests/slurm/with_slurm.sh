#!/usr/bin/env bash
# A throw-away SLURM cluster on one machine, for tests: no systemd, nothing left behind.
#
#   with_slurm.sh DIR NODES CPUS COMMAND...    run COMMAND on the controller; logs and state in DIR; COMMAND's exit code
#                                              SLURM_LAB_TASK_PLUGIN: task/none (default), or task/affinity, which binds
#   with_slurm.sh --check                      prints why it cannot work here; prints nothing where it can
#   with_slurm.sh --crash NODE | --boot NODE | --cut NODE | --heal NODE     (inside COMMAND) fail or bring back a node
#
# Every node n1, n2... has its own network, host name, mounts and processes (namespaces), at 198.18.0.I on a bridge that
# only this cluster sees: ranks on two nodes really talk over a network, and no address outside is reachable.
set -uo pipefail
self=$(readlink -f "${BASH_SOURCE[0]}")

check() {
  local tool
  [ "$(id -u)" = 0 ] || { echo "needs root"; return; }
  for tool in slurmctld slurmd munged ip unshare srun sbatch; do
    command -v "$tool" >/dev/null 2>&1 || { echo "no $tool (slurm-wlm munge iproute2 util-linux)"; return; }
  done
  unshare -m -n -u -i -p --fork --mount-proc true 2>/dev/null || { echo "unshare of namespaces is refused here"; return; }
  unshare -m -n sh -c 'mount -t tmpfs tmpfs /mnt && ip link add vxbr type bridge && ip link add vx0 type veth peer name vx1' \
    >/dev/null 2>&1 || echo "no bridge or veth devices inside a network namespace here"
}

boot() {
  local i=${1#n} dir=$SLURM_LAB
  rm -rf "$dir/tmp.n$i" "$dir/spool.n$i"
  mkdir -p "$dir/tmp.n$i" "$dir/spool.n$i"  # a reboot empties /tmp
  # bash is process 1 of the node and reaps; killing it is a power loss
  ip netns exec "n$i" unshare -u -m -p --fork --kill-child=KILL --mount-proc bash -c "
    hostname n$i; mount -t tmpfs tmpfs /dev/shm; mount --bind '$dir/hosts' /etc/hosts
    slurmd -D -N n$i & wait" >"$dir/log/boot.n$i.log" 2>&1 </dev/null &
  echo $! >"$dir/run/n$i.pid"
}

case ${1-} in
  --check) check; exit 0 ;;
  --boot)  boot "$2"; disown -a; exit ;;
  --crash) kill -KILL "$(cat "$SLURM_LAB/run/$2.pid")"; exit ;;
  --cut)   ip link set "v${2#n}" down; exit ;;
  --heal)  ip link set "v${2#n}" up; exit ;;
esac
if [ "${1-}" != --inside ]; then
  # Everything dies with this process namespace, whatever the command did. unshare itself ignores TERM: hence the trap.
  unshare -m -n -u -i -p --fork --kill-child=KILL --mount-proc "$self" --inside "$@" <&0 &
  child=$!
  trap 'kill -KILL $child 2>/dev/null' EXIT
  trap 'exit 143' TERM INT HUP
  wait $child
  exit $?
fi

shift
dir=$1 nodes=$2 cpus=$3
shift 3
rm -rf "$dir"
mkdir -p "$dir"/{state,log,run,munge} || exit 1
dir=$(readlink -f "$dir")
chmod 755 "$dir" "$dir/munge"
export SLURM_LAB=$dir SLURM_CONF=$dir/slurm.conf WITH_SLURM=$self

mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /dev/shm
hostname hub
{
  echo "127.0.0.1 localhost"
  echo "198.18.0.254 hub"
  for i in $(seq "$nodes"); do echo "198.18.0.$i n$i"; done
} >"$dir/hosts"
mount --bind "$dir/hosts" /etc/hosts
ip link set lo up
ip link add br0 type bridge
ip addr add 198.18.0.254/24 dev br0
ip link set br0 up
for i in $(seq "$nodes"); do
  ip netns add "n$i"
  ip link add "v$i" type veth peer name eth0 netns "n$i"
  ip link set "v$i" master br0 up
  ip -n "n$i" link set lo up
  ip -n "n$i" addr add "198.18.0.$i/24" dev eth0
  ip -n "n$i" link set eth0 up
done

(umask 077; head -c 1024 /dev/urandom >"$dir/munge/key")
munged --key-file="$dir/munge/key" --socket="$dir/munge/sock" --pid-file="$dir/run/munged.pid" \
  --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed" --num-threads=2 || exit 1
echo CgroupPlugin=cgroup/v1 >"$dir/cgroup.conf"  # else slurmd dies where /sys/fs/cgroup is not mounted
cat >"$SLURM_CONF" <<CONF
ClusterName=lab
SlurmctldHost=hub(198.18.0.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
TmpFS=$dir/tmp.%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=${SLURM_LAB_TASK_PLUGIN:-task/none}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=5
MpiDefault=pmix
MailProg=/bin/true
$(for i in $(seq "$nodes"); do echo "NodeName=n$i NodeHostname=n$i NodeAddr=198.18.0.$i CPUs=$cpus RealMemory=4000 State=UNKNOWN"; done)
PartitionName=debug Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld || exit 1
for i in $(seq "$nodes"); do boot "n$i"; done
end=$((SECONDS + 30))
until [ "$(timeout 5 sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = "$nodes" ]; do
  if [ $SECONDS -ge $end ]; then
    echo "SLURM did not come up; logs in $dir/log" >&2
    tail -n 20 "$dir"/log/*.log >&2
    exit 1
  fi
  sleep 0.1
done

set -a
. "$(dirname "$0")/../../launch/mpi.env"
set +a
unset OMPI_MCA_rmaps_base_oversubscribe  # SLURM says how many ranks a node takes
"$@"
rc=$?
timeout 5 scancel -f -u root 2>/dev/null
exit $rc
