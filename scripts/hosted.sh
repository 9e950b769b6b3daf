#!/bin/bash
# Run the tests on a machine that is somebody's node: `scripts/hosted.sh COMMAND...`, as root.
#
# In mount, PID and IPC namespaces of its own, so that nothing of it stays: a default data directory
# that is filled, an agent that runs on it, a containerd at the default socket, a kubelet (its
# directory, configuration and a process of that name), mirror settings, umask 077, an ignored
# SIGINT, few open files, another time zone and language. Afterwards the agent must still run, and
# its directories must be as they were. Set up first (`make setup-test`).
set -euo pipefail
if [ "$(id -u)" != 0 ]; then
    echo "hosted: needs root, for namespaces and a containerd at the default socket" >&2
    exit 1
fi
if [ "${1:-}" != --inside ]; then
    exec unshare --mount --pid --ipc --fork --mount-proc --kill-child -- "$0" --inside "$@"
fi
shift
cd "$(dirname "$0")/.."

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
for place in /etc /var/lib /run; do # what is changed there stays in memory, and in this namespace
    mkdir -p "/mnt/upper$place" "/mnt/work$place"
    mount -t overlay -o "lowerdir=$place,upperdir=/mnt/upper$place,workdir=/mnt/work$place" overlay "$place"
done
for place in /var/lib/airside /var/lib/containerd /run/containerd; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 tmpfs "$place"
done

mkdir -p /var/lib/airside/images /etc/containerd/certs.d/docker.io /etc/rancher/k3s \
    /var/lib/kubelet /etc/kubernetes
printf 'imagePullCredentialsVerificationPolicy: AlwaysVerify\n' >/var/lib/kubelet/config.yaml
printf 'server = "http://127.0.0.1:9"\n' >/etc/containerd/certs.d/docker.io/hosts.toml
printf 'mirrors: {}\n' >/etc/rancher/k3s/registries.yaml
printf 'kind: Config\n' >/etc/kubernetes/kubelet.conf
containerd >/run/containerd/log 2>&1 &
bash -c 'exec -a kubelet sleep infinity' &
for _ in $(seq 150); do
    [ -S /run/containerd/containerd.sock ] && break
    sleep 0.2
done
.venv/bin/airside sample /var/lib/airside/images/hello.tar >/dev/null
.venv/bin/airside run >/run/containerd/agent.log 2>&1 &
agent=$!
for _ in $(seq 300); do
    .venv/bin/airside images 2>/dev/null | grep -q airside/hello && break
    sleep 0.2
done

state() { # all that lies there, but what the agent itself writes meanwhile
    (cd /var/lib/airside && find . -type f ! -name 'catalog.*' ! -path '*/backup/*' ! -name lock -printf '%P %s %T@\n' | sort)
    find /etc/containerd /etc/rancher /var/lib/kubelet /etc/kubernetes -type f -printf '%p %s %T@\n' | sort
    .venv/bin/airside images --json
    ctr -n k8s.io images ls | sort
}
before=$(state)
grep -q airside/hello <<<"$before" || { echo "hosted: the host's agent did not import" >&2; exit 1; }

code=0
(
    umask 077
    trap '' INT
    ulimit -S -n 1024
    export TZ=Asia/Kathmandu LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8
    exec "$@"
) || code=$?

after=$(state)
if [ "$before" = "$after" ]; then
    echo "hosted: the directories, names and images of the host are as they were"
else
    echo "hosted: the tests have changed the host:" >&2
    diff <(echo "$before") <(echo "$after") >&2 || true
    code=1
fi
kill -0 "$agent" 2>/dev/null || { echo "hosted: the host's agent has ended" >&2; code=1; }
if [ "$code" = 0 ]; then
    echo "hosted: passed; the host's agent, containerd and directories are as they were"
else
    echo "hosted: exit code $code, see above"
fi
exit $code
