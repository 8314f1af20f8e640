// SPDX-License-Identifier: Apache-2.0

// Package mps runs NVIDIA's Multi-Process Service for the containers of one pod: a control daemon
// of the pod's own, on the GPUs or the MIG device that its containers have, with limits that are
// set at the daemon.
//
// # Life of a daemon
//
// The first container of a pod that asks starts it ([Host.Join]), the others become members, and it
// is stopped with the last of them ([Host.Leave]). A record beside it, written before anything is
// made, says what there is to be undone, so that any process can do it: `shim delete` after the
// shim died, or whoever sweeps ([Host.Sweep]). A directory's lock (flock(2)) keeps them apart; who
// holds it has at most one daemon to start or to stop.
//
// The daemon does not die with the shim: its clients would lose their contexts, though their
// containers may live on until containerd has cleaned up. It is not restarted when it dies: a client
// cannot come back to another daemon, and a program that finds none runs without MPS, and so
// without the limits, as if nothing were wrong ("Client Attach/Detach" in NVIDIA's documentation).
// Who holds the shim's end is told ([Host.Lost]).
//
// # What holds of MPS
//
// From https://docs.nvidia.com/deploy/mps (r550 and later), unless another source is named:
//
//   - A daemon has one server at a time, which runs as the user of its clients. Clients of another
//     user wait until the first have gone. So containers of one pod must run as one user of the
//     host, unless the daemon is told -multiuser-server, for which the server runs as root.
//   - set_default_device_pinned_mem_limit and set_default_active_thread_percentage hold for servers
//     that start later, so they are set before any client can be there. A client's environment can
//     lower what is set, not raise it. The limits are for each client, which is a process.
//   - A device is named by UUID or ordinal, and the limit that is set last counts. Some drivers take
//     no notice of one by UUID (k8s-device-plugin pull request 572), and an ordinal counts the
//     devices of the daemon's CUDA_VISIBLE_DEVICES. All devices have one limit here: both are set.
//   - Limits need Volta or later. The compute mode restricts the server, not its clients.
//   - One daemon serves one MIG device (MIG User Guide, "CUDA Device Enumeration", "Using MPS").
//   - Clients and server share memory by /dev/shm.
//
// A program in a container that has the device's node need not use MPS at all. In the compute mode
// EXCLUSIVE_PROCESS the driver refuses it while the pod's server runs; in DEFAULT the limits bind
// those that keep to the environment they are given. The mode is the administrator's.
//
// # Where it runs
//
// It sees the driver's root, and in it the pod's directory as /tmp, and the pod's memory as
// /dev/shm (berth-gpu mps), and is counted in a cgroup of its own beside the containers', so that
// what its server takes of the host's memory is the pod's. By that cgroup it is also found: no
// process of it can leave.
//
// # Trust
//
// Containers get the directory of the daemon's sockets read-only, since a server of root's opens
// files by their names in it, and without the socket for privileged commands, where the driver has
// one apart from that for clients. Nothing in it is
// believed after a container was there: not the file with the daemon's pid, and the daemon is asked
// to quit only if all names are still those of the daemon's own files.
//
// What does not belong here: which device a container gets, and its spec (gpu); MIG devices, which
// are destroyed after the daemon has gone.
package mps
