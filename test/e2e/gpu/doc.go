// SPDX-License-Identifier: Apache-2.0

// Package gpu tests the gpu shim under a private containerd, with its client,
// ctr and crictl: unmodified shim, helper and runc over a fake driver.
//
// The fake driver's nodes have no driver behind them, so that open(2) says what
// a container may do: ENXIO where its device cgroup lets it through, EPERM where
// not. What is asserted is what the container sees, by programs that run in it:
// nvidia-smi (test/fakedriver/smi), which needs nothing, and cuda
// (testdata/cuda.c), which needs the loader to find libcuda.
//
// One node serves all tests. The file that BERTH_GPU_CONFIG names is written
// anew for each machine and policy: a shim reads it when it starts.
package gpu
