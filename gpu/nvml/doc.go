// SPDX-License-Identifier: Apache-2.0

// Package nvml is what the berth-gpu helper says: the JSON documents in which it answers for the
// driver's management library, libnvidia-ml.so.1, and their strict reading.
//
// The helper writes one [List] to stdout and exits with 0, or one [Failure] as the first line of
// stderr, then a sentence for people, and exits with 1 (2 if the command line was wrong). A
// device that the driver cannot answer for is in the List with its Error; it hides no other.
//
// Values come from the driver and from a program: [Decode] bounds their size and number, and lets
// no id pass that is not of its grammar, since ids become parts of paths. Fields it does not know
// are from a newer helper, and are ignored.
//
// What does not belong here: cgo, and calls of NVML (cmd/berth-gpu); starting the helper.
package nvml
