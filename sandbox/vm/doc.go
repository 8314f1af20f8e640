// SPDX-License-Identifier: Apache-2.0

// Package vm boots a virtual machine that runs the agent, and ends it.
package vm
