// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// transaction is a helper that runs while the test does something else.
type transaction struct {
	*rig
	cmd         *exec.Cmd
	out, stderr bytes.Buffer
}

// begin runs it, and returns.
func (r *rig) begin(word string, q *wire.MIGRequest) *transaction {
	r.Helper()
	x := r.prepare(word, q)
	x.start()
	return x
}

func (r *rig) prepare(word string, q *wire.MIGRequest) *transaction {
	r.Helper()
	if word == "release" {
		r.moveOut(q.Owner)
	}
	in, err := json.Marshal(q)
	if err != nil {
		r.Fatal(err)
	}
	x := &transaction{rig: r, cmd: exec.Command(r.program, "mig", word, "--library", library)}
	x.cmd.Env, x.cmd.Dir = append([]string{"BERTH_FAKE_NVML=" + r.state}, r.env...), "/"
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = bytes.NewReader(in), &x.out, &x.stderr
	return x
}

func (x *transaction) start() {
	x.Helper()
	if err := x.cmd.Start(); err != nil {
		x.Fatal(err)
	}
	// What hangs is killed, and the test fails by what it finds.
	timer := time.AfterFunc(timeout, func() { _ = x.cmd.Process.Kill() })
	x.Cleanup(func() { timer.Stop(); _, _ = x.cmd.Process.Kill(), x.cmd.Wait() })
}

// stops waits until a Stop rule has stopped the helper. It is false if the helper has ended.
func (x *transaction) stops() bool {
	x.Helper()
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, x.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			x.Fatal(err)
		}
	}
	const stopped = 5 // CLD_STOPPED (sigaction(2))
	if info.Code != stopped {
		return false
	}
	if err := unix.Waitid(unix.P_PID, x.cmd.Process.Pid, &info, unix.WSTOPPED, nil); err != nil {
		x.Fatal(err)
	}
	return true
}

// mustStop has the test end if it does not stop.
func (x *transaction) mustStop() {
	x.Helper()
	if !x.stops() {
		x.Fatalf("it did not stop: %s%s", &x.out, &x.stderr)
	}
}

// goes on from where it was stopped.
func (x *transaction) goesOn() {
	x.Helper()
	if err := x.cmd.Process.Signal(unix.SIGCONT); err != nil {
		x.Fatal(err)
	}
}

// ends is the answer.
func (x *transaction) ends() (stdout []byte, failed *wire.Error, code int) {
	_ = x.cmd.Wait()
	return x.out.Bytes(), wire.DecodeError(x.stderr.Bytes()), x.cmd.ProcessState.ExitCode()
}

// rules has the fake keep to just these.
func (r *rig) rules(rules ...fakenvml.Rule) {
	r.Helper()
	s := r.read()
	s.Rules = rules
	r.write(s)
}

func stopAt(symbol string, gpu int) fakenvml.Rule {
	return fakenvml.Rule{Verb: fakenvml.Stop, Symbol: symbol, GPU: gpu}
}

// holdLock is another transaction, which holds a GPU's lock until the test lets it go.
func (r *rig) holdLock(gpu int) *ledger.Locked {
	r.Helper()
	d, err := ledger.Open(r.run, r.read().GPUs[gpu].BusID, nil)
	if err != nil {
		r.Fatal(err)
	}
	l, err := d.Lock(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = l.Unlock() })
	return l
}

// awaitLock begins a transaction that comes to wait for the lock of a GPU, which the test holds, and does so
// the given number of times.
func (r *rig) awaitLock(gpu, times int, word string, q *wire.MIGRequest) *transaction {
	r.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		r.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(ledger.Root(r.run), r.read().GPUs[gpu].BusID, "lock"), unix.IN_OPEN); err != nil {
		r.Fatal(err)
	}
	x := r.begin(word, q)
	for range times {
		if _, err := unix.Read(fd, make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1)); err != nil {
			r.Fatal(err)
		}
	}
	return x
}

// only is a request for the GPU alone.
func (r *rig) only(gpu int, q *wire.MIGRequest) *wire.MIGRequest {
	q.GPUs = []wire.GPURule{{BusID: r.read().GPUs[gpu].BusID}}
	return q
}

// ledger are the records of a GPU.
func (r *rig) ledger(gpu int) []*ledger.Record {
	r.Helper()
	d, err := ledger.Open(r.run, r.read().GPUs[gpu].BusID, nil)
	if err != nil {
		r.Fatal(err)
	}
	records, _, err := d.Read()
	if err != nil {
		r.Fatal(err)
	}
	return records
}
