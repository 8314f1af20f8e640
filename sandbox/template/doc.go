// SPDX-License-Identifier: Apache-2.0

// Package template makes machines as copies of one that has booted already.
//
// # Lifecycle
//
// [Make] boots a machine and puts it on record, once its agent has nothing to do,
// as a vm.Template: two sealed files in memory. [Clone] makes a machine of that, and
// one that is like no other: before anything else its guest gets clock, entropy and
// names of its own, and its agent begins anew. It then has the devices that are its
// own, and is used as a machine is that has booted. Every error of Clone is within
// 15 s, nothing is left then, and the caller boots a machine.
//
// Memory goes with the last process that has it. A keeper has the templates of one
// directory: a process that the first who finds none starts ([Start], [Detach],
// [Keep]), and that ends when nobody has asked for long enough. [Get] asks it, and
// never waits for a template to be made. A keeper that dies costs those who come
// next their time, and nothing else: who has a template has descriptors of it.
//
// # Trust
//
// A keeper boots what it is told to by whoever can connect, which is root. Of a
// template nobody believes more than its seals: what is in there no clone and
// no monitor of one can change for another.
//
// What does not belong here: how a machine is put on record and restored (vm); what
// the agent does (agent); which pods have templates, and what to do without (cmd).
package template
