// SPDX-License-Identifier: Apache-2.0

// Command guestspec is put before a vm shim where the specs are of somebody who
// has none in mind: those of the upstream suites have neither a network namespace
// nor others, which is a wish for the host's, and no VM has these. It gives the
// bundle's spec its own and becomes the shim. Nothing else is changed.
package main
