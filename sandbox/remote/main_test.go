// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
	"berth/sandbox/agent"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
	"berth/test/leak"
	"berth/test/shelter"
)

// agentArg has this program be an agent over descriptor 3.
const agentArg = "an-agent"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == agentArg {
		if err := beAgent(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// What is mounted goes with a mount namespace, however the tests end.
	os.Exit(shelter.Main(func() int { return leak.Main(m) }))
}

// beAgent is the agent as an ordinary process, whose kernel is this one.
func beAgent(runc, dir, share string) error {
	sup := process.NewSupervisor()
	if err := sup.ReapOrphans(); err != nil {
		return err
	}
	conn, err := net.FileConn(os.NewFile(3, "host"))
	if err != nil {
		return err
	}
	session := mux.Guest(conn, mux.Config{})
	if err := session.Handshake(context.Background()); err != nil {
		return err
	}
	err = agent.Serve(context.Background(), session, agent.Config{
		Supervisor: sup, Dir: dir, Share: share, Disks: loopDisks(diskLinks(dir)), DiskDir: diskDir(dir),
		Runtime: func(bundle string) agent.Runtime {
			return &oci.CLI{Binary: runc, Root: filepath.Join(dir, "runc"), Dir: bundle, Supervisor: sup}
		},
		PowerOff: func() { _ = session.Close() },
	})
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// fakeMachine is a process with an agent, or what a test has for one.
type fakeMachine struct {
	conn io.ReadWriteCloser
	proc *process.Process
	why  chan error // capacity 1: what it was killed for

	diskDir string   // with a link for each disk
	disks   sync.Map // loop devices, by serial number
}

func (m *fakeMachine) Conn() io.ReadWriteCloser { return m.conn }
func (m *fakeMachine) Pid() int                 { return m.proc.Pid() }

func (m *fakeMachine) Network() *agentapi.NetworkRequest { return nil } // it has this kernel's

func (m *fakeMachine) Done() <-chan struct{} { return m.proc.Done() }

func (m *fakeMachine) Err() error {
	select {
	case why := <-m.why:
		m.why <- why
		return why
	default:
		return fmt.Errorf("the machine has ended with status %d", m.proc.Exit().Status)
	}
}

func (m *fakeMachine) Close(context.Context) error {
	m.closeDisks()
	return nil
}

func (m *fakeMachine) Kill(why error) {
	select {
	case <-m.Done(): // it has its own reason
		return
	default:
	}
	select {
	case m.why <- why:
	default:
	}
	_ = m.proc.Signal(unix.SIGKILL)
}

// pair is a connection, as two files.
func pair(t *testing.T) (near net.Conn, far *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[0]), "agent")
	defer func() { _ = file.Close() }()
	if near, err = net.FileConn(file); err != nil {
		t.Fatal(err)
	}
	return near, os.NewFile(uintptr(fds[1]), "host")
}

// startAgent runs this program as an agent.
func startAgent(t *testing.T, sup *process.Supervisor, runc, dir, share string) *fakeMachine {
	t.Helper()
	near, far := pair(t)
	defer func() { _ = far.Close() }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := sup.Start(&process.Command{
		Path: self, Args: []string{agentArg, runc, dir, share},
		Env:   []string{"PATH=" + oci.DefaultPath},
		Files: []*os.File{nil, os.Stdout, os.Stderr, far}, DieWithParent: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newFakeMachine(near, p)
	m.diskDir = diskLinks(dir)
	if err := os.MkdirAll(m.diskDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

// diskLinks is where a fake machine notes the disks that it has, and diskDir
// where its agent has file systems on them.
func diskLinks(dir string) string { return filepath.Join(dir, "links") }
func diskDir(dir string) string   { return filepath.Join(dir, "disks") }

func newFakeMachine(conn io.ReadWriteCloser, p *process.Process) *fakeMachine {
	return &fakeMachine{conn: conn, proc: p, why: make(chan error, 1)}
}
