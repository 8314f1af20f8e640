// SPDX-License-Identifier: Apache-2.0

package fakenvml

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Read reads the state that a test or the library wrote.
func Read(path string) (State, error) {
	var s State
	f, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("read the fake's state: %w", err)
	}
	defer f.Close()
	if err := lock(f, unix.LOCK_SH); err != nil {
		return s, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return s, fmt.Errorf("read the fake's state: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if err := s.line(lines.Text()); err != nil {
			return s, fmt.Errorf("%s: line %q: %w", path, lines.Text(), err)
		}
	}
	return s, nil
}

func (s *State) line(line string) (err error) {
	var verb string
	if _, err := fmt.Sscan(line, &verb); err != nil {
		return err
	}
	var gpu, gi, mig, pending, lost int
	switch Verb(verb) {
	case "driver":
		_, err = fmt.Sscan(line, &verb, &s.Driver)
	case "nvml":
		_, err = fmt.Sscan(line, &verb, &s.NVML)
	case "cuda":
		_, err = fmt.Sscan(line, &verb, &s.CUDA)
	case "caps":
		_, err = fmt.Sscan(line, &verb, &s.Caps)
	case "nodes":
		_, err = fmt.Sscan(line, &verb, &s.Nodes.GPUs, &s.Nodes.Caps)
	case "latency":
		_, err = fmt.Sscan(line, &verb, &s.Latency)
	case "gpu":
		var g GPU
		_, err = fmt.Sscan(line, &verb, &g.Model, &g.UUID, &g.BusID, &g.Minor, &mig, &pending, &lost, &g.ComputeMode)
		g.MIG, g.Pending, g.Lost = mig == 1, pending == 1, lost == 1
		s.GPUs = append(s.GPUs, g)
	case "gi":
		var i Instance
		_, err = fmt.Sscan(line, &verb, &gpu, &i.ID, &i.Profile, &i.Start)
		s.GPUs[gpu].Instances = append(s.GPUs[gpu].Instances, i)
	case "ci":
		var c Compute
		_, err = fmt.Sscan(line, &verb, &gpu, &gi, &c.ID, &c.Profile, &c.Start, &c.UUID)
		for n := range s.GPUs[gpu].Instances {
			if in := &s.GPUs[gpu].Instances[n]; in.ID == gi {
				in.Compute = append(in.Compute, c)
			}
		}
	case "proc":
		var p Process
		_, err = fmt.Sscan(line, &verb, &p.GPU, &p.PID, &p.Bytes, &p.GI, &p.CI)
		s.Processes = append(s.Processes, p)
	case Fault, Lie, Delay, Exit, Crash, Thief, Stop:
		var r Rule
		_, err = fmt.Sscan(line, &r.Verb, &r.Symbol, &r.Value, &r.GPU)
		s.Rules = append(s.Rules, r)
	default:
		err = fmt.Errorf("no such word: %s", verb)
	}
	return err
}
