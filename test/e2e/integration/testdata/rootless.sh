#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A containerd whose user is root of a user namespace alone, as under rootlesskit, and the life of
# containers by each runtime that is named. It runs as PID 1 of a PID namespace, with mounts and a
# network of its own, in a directory that has bin/ and images.tar.

set -eu
dir=$1
shift
PATH=$dir/bin:$PATH

mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir "$dir/fifo"
cat >"$dir/config.toml" <<CONFIG
version = 3
root = '$dir/root'
state = '/run/containerd'
temp = '$dir/temp'
imports = []
disabled_plugins = [
  'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri', 'io.containerd.nri.v1.nri',
  'io.containerd.internal.v1.tracing', 'io.containerd.tracing.processor.v1.otlp',
]
[grpc]
address = '/run/c.sock'
[ttrpc]
address = '/run/c.sock.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
path = '$dir/opt'
CONFIG

# await runs a command until it succeeds, for half a minute.
await() {
	tries=0
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ]; then
			echo "waited in vain for: $*"
			return 1
		fi
		sleep 0.1
	done
}
say() {
	status=0
	"$@" 2>&1 || status=$?
	echo "status $status"
}
CONTAINERD_ADDRESS=/run/c.sock CONTAINERD_SNAPSHOTTER=native
export CONTAINERD_ADDRESS CONTAINERD_SNAPSHOTTER
c() { ctr "$@" 2>"$dir/err" || { s=$?; grep -v DEPRECATION "$dir/err"; return $s; }; }
# No limits, and no cgroup: there are none for this user.
run() { c run --fifo-dir "$dir/fifo" --cgroup= --cpu-shares 0 "$@"; }
tasks() { ctr task ls 2>/dev/null; }
stopped() { tasks | grep -q "^$1 .*STOPPED"; }
gone() { ! tasks | grep -q "^$1 "; }
pid() { tasks | sed -n "s/^$1 *\([0-9]*\) .*/\1/p"; }
ended() { ! kill -0 "$1"; }

containerd --config "$dir/config.toml" >"$dir/containerd.log" 2>&1 &
containerd=$!
await ctr version
ctr image import --local "$dir/images.tar" >/dev/null 2>&1
image=$(ctr image ls -q 2>/dev/null | head -n 1)

for runtime; do
	echo "== $runtime"
	echo "-- run"
	say run --rm --runtime "$runtime" "$image" one sh -c 'cat /proc/self/uid_map; cat /proc/self/cgroup; cut -d " " -f 4- /proc/self/mountinfo | grep -v /snapshots/; grep ^Cap /proc/self/status; exit 3'
	echo "-- exec, state, statistics"
	say run -d --runtime "$runtime" "$image" two sh -c 'trap "exit 7" TERM; sleep 1000 & wait'
	say c task exec --fifo-dir "$dir/fifo" --exec-id e two sh -c 'id -u; cat /proc/self/uid_map; exit 5'
	say c task exec --fifo-dir "$dir/fifo" --exec-id e --user 1000:1000 two id -u
	tasks | awk '$1 == "two" { print $3 }'
	c task metrics two | awk 'NR > 4 { print $1 }'
	runc --root /run/containerd/runc/default list -q
	say c task pause two
	echo "-- kill, delete"
	say c task kill --signal SIGTERM two
	await stopped two
	say c task rm two
	say c container rm two
	echo "-- the shim dies"
	say run -d --runtime "$runtime" "$image" three sleep 1000
	init=$(pid three)
	kill -KILL "$(awk '$1 == "PPid:" { print $2 }' "/proc/$init/status")"
	await gone three
	await ended "$init"
	say c container rm three
done
kill $containerd
wait $containerd || true
echo "== left"
find /run/containerd/runc/default /run/containerd/s /run/containerd/io.containerd.runtime.v2.task/default -mindepth 1
for p in /proc/[0-9]*; do
	[ "${p#/proc/}" = $$ ] || tr '\0' ' ' <"$p/cmdline" 2>/dev/null || true
done
