// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	wire "berth/gpu/nvml"
)

// library is the driver's, loaded and initialised.
type library struct {
	nvml.Interface
	dl    *dl.DynamicLibrary
	codes map[nvml.Return]string
	// patience is how long a call is waited for; 0 is for ever.
	patience time.Duration
	// hung is the error of the call that was waited for in vain. No other is begun after it. late is
	// closed when that call returns after all.
	hung *wire.Error
	late <-chan nvml.Return
	// stuck is set once a call hangs, to whichever GPU: the library cannot be let go of.
	stuck *bool
}

// patient is the library for the calls to one GPU: one that hangs holds up no other.
func (l *library) patient(limit time.Duration) *library {
	own := *l
	own.patience = limit
	return &own
}

// close lets go of the driver, unless a call hangs in it: then that is left to the end of the process.
// The library stays loaded. That it fails concerns nobody.
func (l *library) close() {
	if !*l.stuck {
		_ = l.call("nvmlShutdown", l.Shutdown)
	}
}

// open loads the library and initialises it; close, or the end of the process, lets go of it. It is
// loaded here first and by go-nvml once more: go-nvml keeps the loader's error to itself, and calls an
// init that it did not look up.
func open(path string) (*library, error) {
	lib := &library{
		Interface: nvml.New(nvml.WithLibraryPath(path)),
		dl:        dl.New(path, dl.RTLD_LAZY|dl.RTLD_GLOBAL),
		codes:     make(map[nvml.Return]string),
		stuck:     new(bool),
	}
	// The names of codes are go-nvml's until it is loaded, then the library's sentences.
	for r := range nvml.Return(1000) {
		if name := r.Error(); strings.HasPrefix(name, "ERROR_") {
			lib.codes[r] = name
		}
	}
	if err := lib.dl.Open(); err != nil {
		return nil, &wire.Error{Code: "ERROR_LIBRARY_NOT_FOUND", Message: "load the driver's management library: " + err.Error()}
	}
	if failed := lib.call("nvmlInit_v2|nvmlInit", lib.Init); failed != nil {
		return nil, failed
	}
	return lib, nil
}

// call is the only way into the library: a symbol that it lacks would end the process. Symbols
// are the versions that go-nvml chooses from, newest first.
func (l *library) call(symbols string, f func() nvml.Return) *wire.Error {
	var symbol string
	for symbol = range strings.SplitSeq(symbols, "|") {
		if l.dl.Lookup(symbol) == nil {
			return l.bounded(symbol, f)
		}
	}
	return &wire.Error{Code: l.codes[nvml.ERROR_FUNCTION_NOT_FOUND], Symbol: symbol, Message: "the driver's management library has no such function"}
}

// bounded waits for a call as long as it has patience. A call into the driver cannot be cut short: what
// hangs is left to itself, and whoever holds a lock for it keeps that until it returns.
func (l *library) bounded(symbol string, f func() nvml.Return) *wire.Error {
	if l.hung != nil {
		return l.hung
	}
	if l.patience == 0 {
		return l.failure(symbol, f())
	}
	done := make(chan nvml.Return, 1)
	go func() { done <- f(); close(done) }()
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case r := <-done:
		return l.failure(symbol, r)
	case <-timer.C:
		l.hung = &wire.Error{Code: "ERROR_TIMEOUT", Symbol: symbol, Message: fmt.Sprintf("the driver gave no answer for %v", l.patience)}
		*l.stuck, l.late = true, done
		return l.hung
	}
}

func (l *library) failure(symbol string, r nvml.Return) *wire.Error {
	if r == nvml.SUCCESS {
		return nil
	}
	e := &wire.Error{Code: l.codes[r], Symbol: symbol}
	if e.Code == "" {
		e.Code = fmt.Sprintf("ERROR_%d", r)
	}
	e.Message = e.Code
	if l.dl.Lookup("nvmlErrorString") == nil {
		e.Message = r.Error()
	}
	return e
}

// get is call for a function with a result, which is the zero value unless the call succeeded.
func get[T any](l *library, symbols string, f func() (T, nvml.Return)) (T, *wire.Error) {
	var value, zero T
	failed := l.call(symbols, func() (r nvml.Return) {
		value, r = f()
		return r
	})
	if failed != nil {
		return zero, failed
	}
	return value, nil
}

// absent says that the GPU or its driver does not have what was asked for.
func absent(e *wire.Error) bool {
	return e.Code == "ERROR_NOT_SUPPORTED" || e.Code == "ERROR_FUNCTION_NOT_FOUND"
}

// advice is what a person may do about an error, as the end of its sentence.
func advice(code string) string {
	switch code {
	case "ERROR_LIBRARY_NOT_FOUND":
		return "; is the driver installed? --driver-root names its root, --library the file"
	case "ERROR_DRIVER_NOT_LOADED":
		return "; load the kernel module (modprobe nvidia) and look at dmesg"
	case "ERROR_LIB_RM_VERSION_MISMATCH":
		return "; kernel module and libraries are of different drivers: reboot, or load the module again"
	case "ERROR_NO_PERMISSION", "ERROR_OPERATING_SYSTEM":
		return "; it needs root, and access to /dev/nvidiactl"
	}
	return ""
}
