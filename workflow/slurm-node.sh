#!/usr/bin/env bash
# Start Slurm on this machine alone, as root, to try the slurm profile: controller and node in one, no accounting.
#   apt-get install slurm-wlm munge && workflow/slurm-node.sh && rodpo grid --profile slurm
# `workflow/slurm-node.sh stop` ends it.
set -euo pipefail

STATE=/var/lib/slurm/rodpo
CONF=/etc/slurm/slurm.conf
MARK="# written by workflow/slurm-node.sh"

stop() {
    for daemon in slurmd slurmctld munged; do
        pkill -x "$daemon" || continue
        for _ in $(seq 50); do pgrep -x "$daemon" >/dev/null || break; sleep 0.2; done
    done
}

for program in munged slurmctld slurmd squeue; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurm-wlm munge" >&2; exit 2; }
done
if [[ "${1:-start}" == stop ]]; then stop; exit; fi
[[ $EUID == 0 ]] || { echo "run it as root: Slurm's daemons change users" >&2; exit 2; }
if [[ -e $CONF ]] && ! grep -q "$MARK" "$CONF"; then
    echo "$CONF exists: this machine has a Slurm of its own, use that" >&2; exit 2
fi

stop
mkdir -p /run/munge /var/log/munge "$STATE"/{state,spool} "$(dirname $CONF)"
[[ -s /etc/munge/munge.key ]] || { head -c 1024 /dev/urandom > /etc/munge/munge.key; }
chown -R munge: /run/munge /var/log/munge /etc/munge
chmod 755 /run/munge; chmod 400 /etc/munge/munge.key
runuser -u munge -- munged

host=$(hostname -s)
cat > "$CONF" <<END
$MARK
ClusterName=rodpo
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MinJobAge=3600
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 512))
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
slurmctld
slurmd
for _ in $(seq 30); do
    [[ $(sinfo -h -o %t 2>/dev/null) == idle ]] && { sinfo; exit; }
    sleep 1
done
echo "the node did not come up; see $STATE/*.log" >&2
exit 1
