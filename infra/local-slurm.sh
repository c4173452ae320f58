#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine's loopback, to try the slurm stack: as root, without systemd.
#   infra/local-slurm.sh start FOLDER    everything it writes lies in FOLDER; prints what to export
#   infra/local-slurm.sh stop FOLDER     ends every process it has started, and their jobs
#   infra/local-slurm.sh kill FOLDER n2  a node dies with all that runs on it
#   infra/local-slurm.sh mute FOLDER n2  a node's slurmd dies alone: what runs on it lives on, and nobody hears of it
#   infra/local-slurm.sh node FOLDER n2  the node comes back
# The nodes claim 8 processors, 64 GB and, on n1, a GPU that is none: what infra/configs/slurm.yaml asks for.
# HEADSTART_SLURM_PORT (16817) is the first of three ports.
set -euo pipefail

action=${1:?start, stop, kill, mute or node}
mkdir -p "${2:?a folder}"
folder=$(cd "$2" && pwd)
port=${HEADSTART_SLURM_PORT:-16817}
export SLURM_CONF=$folder/slurm.conf

packages() {  # slurm-wlm and munge, where they are missing
  [ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/munged ] && return
  printf '#!/bin/sh\nexit 101\n' >"$folder/policy"  # no daemon of theirs is to start by itself
  chmod +x "$folder/policy"
  local mine=; [ -e /usr/sbin/policy-rc.d ] || { cp "$folder/policy" /usr/sbin/policy-rc.d; mine=yes; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge >"$folder/apt.log"
  [ -z "$mine" ] || rm /usr/sbin/policy-rc.d
}

configure() {
  local host; host=$(hostname -s)
  dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
  chmod 400 "$folder/munge.key"
  [ -e "$folder/gpu" ] || mknod "$folder/gpu" c 1 3  # /dev/null under another name: a GPU to be asked for
  cat >"$SLURM_CONF" <<CONF
ClusterName=headstart
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmctldPort=$port
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdLogFile=$folder/slurmd-%n.log
SlurmdSpoolDir=$folder/spool-%n
StateSaveLocation=$folder/state
SlurmdTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
GresTypes=gpu
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=8 RealMemory=64000 Gres=gpu:1 Weight=2
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=8 RealMemory=64000 Weight=1
PartitionName=main Nodes=n1,n2 Default=YES State=UP
CONF
  echo "NodeName=n1 Name=gpu File=$folder/gpu" >"$folder/gres.conf"
  mkdir -p "$folder/state"
}

serve() {  # munged refuses a folder that others may write to, so its files say who may
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  slurmctld -f "$SLURM_CONF" -i
  for node in n1 n2; do node "$node"; done
}

node() {
  mkdir -p "$folder/spool-$1"
  slurmd -f "$SLURM_CONF" -N "$1"
}

ready() {
  for _ in $(seq 100); do
    [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c '^\(idle\|mixed\|allocated\)$')" = 2 ] && return
    sleep 0.2
  done
  echo "the two nodes are not up: see $folder/*.log" >&2
  exit 1
}

alive() { grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

end() {  # end a process by the file that holds its number, and wait until it is gone
  local pid; pid=$(cat "$folder/$1.pid" 2>/dev/null) || return 0
  kill "-${2:-TERM}" "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do alive "$pid" || return 0; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
}

tree() {  # a process and all below it
  local child
  for child in $(pgrep -P "$1"); do tree "$child"; done
  echo "$1"
}

fall() {  # a node's daemon and what it runs; a job's keeper says in its name which one it is
  end "slurmd-$1" KILL
  local keeper job
  for keeper in $(pgrep -f "^slurmstepd: \[[0-9.a-z]*\]" || true); do
    job=$(tr '\0' ' ' <"/proc/$keeper/cmdline" | sed 's/.*\[\([0-9]*\).*/\1/')
    [ "$(squeue -h -j "$job" -t all -o %N 2>/dev/null)" = "$1" ] || continue
    kill -KILL $(tree "$keeper") 2>/dev/null || true
  done
}

case $action in
  start) packages; configure; serve; ready; echo "export SLURM_CONF=$SLURM_CONF" ;;
  node) node "${3:?n1 or n2}" ;;
  kill) fall "${3:?n1 or n2}" ;;
  mute) end "slurmd-${3:?n1 or n2}" KILL ;;
  stop)
    scancel --quiet --full --partition=main 2>/dev/null || true
    for _ in $(seq 50); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
    for name in slurmd-n1 slurmd-n2 slurmctld munged; do end "$name"; done
    ;;
  *) echo "start, stop, kill, mute or node; found $action" >&2; exit 2 ;;
esac
