// SPDX-License-Identifier: Apache-2.0

package fakenvml

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Model is a GPU model; the library knows its name, memory and MIG profiles.
type Model string

// The models. All but the T4 can do MIG.
const (
	T4     Model = "t4"
	A10040 Model = "a100-40" // 40 GB
	A100   Model = "a100"    // 80 GB
	H100   Model = "h100"
	H200   Model = "h200"
)

// State is a machine, as its file has it.
type State struct {
	Driver, NVML string
	CUDA         int // 12080 for 12.8
	// Caps is the directory in which instances that are made and destroyed show, as in
	// /proc/driver/nvidia/capabilities; without it they show nowhere.
	Caps string
	// Nodes are the majors of device nodes. A process that has such a node open
	// is a client, as the driver has it; without them only Processes are.
	Nodes Majors
	// Latency is in percent of what calls take on hardware; 0: they take nothing.
	Latency   int
	GPUs      []GPU // in the order of NVML's index
	Processes []Process
	Rules     []Rule
}

// Majors are those of the nodes nvidiaN and nvidia-capN.
type Majors struct{ GPUs, Caps int }

// Hardware is the Latency of real GPUs, as far as it is public (lib/latency.c): 1 s to make or
// destroy a GPU instance, 10 ms to begin, 53 ms to read eight GPUs and the profiles of one.
const Hardware = 100

// GPU is one GPU and the MIG instances in it.
type GPU struct {
	Model        Model
	UUID, BusID  string // "GPU-...", "0000:3b:00.0"
	Minor        int    // of /dev/nvidiaN
	MIG, Pending bool   // MIG mode now and after the next reset
	Lost         bool   // fallen off the bus: every call is ERROR_GPU_IS_LOST
	ComputeMode  int    // nvmlComputeMode_t: 0 the default, 2 prohibited, 3 exclusive to a process
	Instances    []Instance
}

// Instance is a GPU instance. Profile is NVML's id of it (nvidia-smi mig -lgip): 19, 20, 15, 14,
// 9, 5, 0 from 1g to 7g. Start is a memory slice.
type Instance struct {
	ID, Profile, Start int
	Compute            []Compute
}

// Compute is a compute instance, a MIG device. Profile 0, 1, 2, 3, 4 is 1, 2, 3, 4, 7 slices.
type Compute struct {
	ID, Profile, Start int
	UUID               string // "MIG-..."
}

// Process is a client of a GPU, for as long as it is alive. GI and CI are -1 outside of MIG.
type Process struct {
	GPU, PID int
	Bytes    uint64
	GI, CI   int
}

// Rule is what one symbol does beside its work.
type Rule struct {
	Verb   Verb
	Symbol string
	Value  int
	GPU    int // index; -1: any
}

// Verb is a kind of Rule.
type Verb string

const (
	Fault Verb = "fault" // return Value, an nvmlReturn_t, and do nothing
	Lie   Verb = "lie"   // do the work, then return Value; of symbols that change something
	Delay Verb = "delay" // wait for Value microseconds first
	Exit  Verb = "exit"  // do the work, then _exit(Value)
	Crash Verb = "crash" // SIGKILL after the process's call of number Value; the Symbol is AnyCall
	Thief Verb = "thief" // Value times a foreigner takes the very place before nvmlDeviceCreateGpuInstanceWithPlacement
	Stop  Verb = "stop"  // stop the process by SIGSTOP first: the test does what it wants meanwhile, and sends SIGCONT
)

// AnyCall is the Symbol of a Rule for all of them.
const AnyCall = "*"

// Machine is one with n GPUs of a model. Minors are not the indices: NVML counts along the bus,
// the kernel in the order of probing, which is the reverse here.
func Machine(model Model, n int) State {
	s := State{Driver: "570.133.20", NVML: "12.570.133.20", CUDA: 12080}
	for i := range n {
		s.GPUs = append(s.GPUs, GPU{
			Model: model, Minor: n - 1 - i,
			UUID:  fmt.Sprintf("GPU-%08x-1111-2222-3333-4444555566%02x", 0xa0000000+i, i),
			BusID: fmt.Sprintf("0000:%02x:00.0", 0x3b+0x10*i),
		})
	}
	return s
}

// Write makes this the state in the file, in one step for all who read it.
func (s State) Write(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write the fake's state: %w", err)
	}
	defer f.Close()
	if err := lock(f, unix.LOCK_EX); err != nil {
		return err
	}
	text := s.encode()
	if _, err := f.WriteAt(text, 0); err != nil {
		return fmt.Errorf("write the fake's state: %w", err)
	}
	return f.Truncate(int64(len(text)))
}

// lock is released when f is closed.
func lock(f *os.File, how int) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	if err := c.Control(func(fd uintptr) { lockErr = ignoringEINTR(func() error { return unix.Flock(int(fd), how) }) }); err != nil {
		return err
	}
	if lockErr != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), lockErr)
	}
	return nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func (s State) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "driver %s\nnvml %s\ncuda %d\n", s.Driver, s.NVML, s.CUDA)
	if s.Caps != "" {
		fmt.Fprintf(&b, "caps %s\n", s.Caps)
	}
	if s.Nodes != (Majors{}) {
		fmt.Fprintf(&b, "nodes %d %d\n", s.Nodes.GPUs, s.Nodes.Caps)
	}
	if s.Latency != 0 {
		fmt.Fprintf(&b, "latency %d\n", s.Latency)
	}
	for i, g := range s.GPUs {
		fmt.Fprintf(&b, "gpu %s %s %s %d %d %d %d %d\n", g.Model, g.UUID, g.BusID, g.Minor,
			digit(g.MIG), digit(g.Pending), digit(g.Lost), g.ComputeMode)
		for _, gi := range g.Instances {
			fmt.Fprintf(&b, "gi %d %d %d %d\n", i, gi.ID, gi.Profile, gi.Start)
			for _, ci := range gi.Compute {
				fmt.Fprintf(&b, "ci %d %d %d %d %d %s\n", i, gi.ID, ci.ID, ci.Profile, ci.Start, ci.UUID)
			}
		}
	}
	for _, p := range s.Processes {
		fmt.Fprintf(&b, "proc %d %d %d %d %d\n", p.GPU, p.PID, p.Bytes, p.GI, p.CI)
	}
	for _, r := range s.Rules {
		fmt.Fprintf(&b, "%s %s %d %d\n", r.Verb, r.Symbol, r.Value, r.GPU)
	}
	return b.Bytes()
}

func digit(b bool) int {
	if b {
		return 1
	}
	return 0
}
