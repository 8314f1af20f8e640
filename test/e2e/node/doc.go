// SPDX-License-Identifier: Apache-2.0

// Package node runs a private containerd for tests and for the demo.
//
// A Node has its root, state, sockets, CNI configuration and network namespace to
// itself, and an ID that is at once its containerd namespace, the parent cgroup of
// its containers and part of the name of its directory. So nodes run side by side
// and beside a containerd of the host, and whatever they leave behind can be told
// from anything else on the machine.
//
// Life: Start, then any number of Kill or Terminate followed by Resume, then Stop.
// Stop removes everything, and its error names each thing that it had to remove:
// after a correct run there is nothing.
//
// The programs come from bin and .tools/bin of the checkout; scripts/setup builds
// the latter. What a test asks of a container does not belong here.
package node
