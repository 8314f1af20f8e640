// SPDX-License-Identifier: Apache-2.0

// Package fakedriver builds, in a directory, the file system of a machine with NVIDIA GPUs.
package fakedriver
