// SPDX-License-Identifier: Apache-2.0

// Package fakeoci is an OCI runtime for tests: a program that takes runc's command line, makes
// real processes, and misbehaves on request.
//
// [Build] compiles the program once per test binary. It keeps its state under --root, as runc
// does; `create` leaves an init that waits on an exec.fifo and re-parents to the nearest
// subreaper when `create` exits; `start` lets it go. There are no namespaces and no rootfs:
// the container is a set of processes of the host. It has cgroups of its own exactly if
// config.json names an absolute linux.cgroupsPath; without one it shares the caller's, so a
// test that kills cgroups must name one. cpuset (v1) is left alone.
//
// # What the container runs
//
// If process.args begins with "fake", the words after it are a script; else they are a
// program of the host, run as it is. Steps of a script are separated by ";":
//
//	exit N           end with exit code N (as does the end of the script, with 0)
//	die SIG          end by signal number SIG
//	sleep            for ever
//	ignore           all signals that can be ignored, from now on
//	print TEXT       to stdout, with a newline; eprint TEXT to stderr
//	burst N          N bytes "x" to stdout
//	cat              stdin to stdout until its end
//	env              the environment, a line each
//	touch FILE       make an empty file; if FILE is a FIFO, write a byte to it
//	await FILE       until FILE exists; if it is a FIFO, until a byte can be read from it
//	spawn STEPS...   a child runs the rest of the script; this process ends with 0
//	fork STEPS...    a child runs the rest up to the word "endfork"; this process goes on
//	                 after it, without waiting for the child
//	orphan STEPS...  as fork, but re-parented to the subreaper at once (double fork)
//
// Called as "fake" the binary runs such a script by itself, so the same process.args work with
// a real runtime and a rootfs that has the binary as /bin/fake, and /proc.
//
// # The plan
//
// A plan is a JSON object ([Plan]) in the file that the annotation "berth.test/plan" of
// config.json names, else in fakeoci.json in the bundle, else in fakeoci.json under --root,
// which also serves calls without a container. It is read anew at every call.
//
//	log        file for the calls; default fakeoci.log in the bundle, or under --root
//	verbs      object from a verb, or "exec:ID" for one exec (ID is the name of its pid
//	           file without ".exec-" and ".pid"), to an object of:
//	  reached    file to touch (as the step) when the verb has begun
//	  before     file to await before doing anything
//	  worked     file to touch (as the step) when the work is done, before a hang
//	  after      file to await when all is done, before exiting
//	  hang       "before" or "after" doing the work: never return
//	  fail       object: message (written to the log as runc does), exitCode (default 1),
//	             afterWork (do the work first), rawLog (text for the log file instead of
//	             the message, as it is), silent (write no log at all)
//	  stderr     number of bytes of rubbish to write to stderr
//	  pidFile    "none": write no pid file; any other text: write that instead of the pid
//	  initExit   create: the init ends with this code at once, before `create` returns
//	  untilDead  create, exec: return only once the process has exited (it is a zombie)
//	  doubleFork create, exec: the process re-parents at once, not when the runtime exits
//	  times      apply this object to the first so many calls of the verb only
//
// # The log
//
// Every call appends one JSON line when it begins and one when it ends, see [Call]. A call
// that hangs has no second line.
package fakeoci
