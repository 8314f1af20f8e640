// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// daemonize runs the daemon in a session of its own, and ends once it takes connections.
func daemonize(args []string) error {
	if misbehaves("start-hang") {
		hang()
	}
	ready, child, err := os.Pipe()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{"-fake-daemon"}, args...)...)
	cmd.Args[0], cmd.Stderr, cmd.ExtraFiles = os.Args[0], os.Stderr, []*os.File{child}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = child.Close()
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		return errors.New("the daemon did not start")
	}
	return nil
}

// daemon is the control daemon.
type daemon struct {
	log       *os.File
	multiuser bool
	done      chan struct{} // closed by quit

	mu      sync.Mutex
	idle    *sync.Cond // clients, or server, changed
	threads string
	memory  map[string]string
	server  *server
}

// server is the one that runs.
type server struct {
	cmd             *exec.Cmd
	uid, clients    int
	threads, memory string
}

func control(args []string, ready *os.File) error {
	if misbehaves("start-crash") {
		return errors.New("fake crash at the start")
	}
	d := &daemon{done: make(chan struct{}), threads: "100.0", memory: map[string]string{}}
	d.idle = sync.NewCond(&d.mu)
	for _, a := range args {
		if a != "-multiuser-server" {
			return fmt.Errorf("option %q is not known", a)
		}
		d.multiuser = true
	}
	var err error
	if d.log, err = os.OpenFile(filepath.Join(os.Getenv("CUDA_MPS_LOG_DIRECTORY"), "control.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return err
	}
	for name, handle := range map[string]func(*net.UnixConn){"control": d.client, "control_privileged": d.commands} {
		if err := listen(name, handle); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"control_lock": "", "nvidia-cuda-mps-control.pid": fmt.Sprintln(os.Getpid())} {
		if err := errors.Join(os.WriteFile(pipe(name), []byte(text), 0o666), os.Chmod(pipe(name), 0o666)); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Mkfifo(pipe("log"), 0o777), os.Chmod(pipe("log"), 0o777)); err != nil {
		return err
	}
	if err := d.copyLog(); err != nil {
		return err
	}
	fmt.Fprintf(d.log, "Starting control daemon for %s\n", os.Getenv("CUDA_VISIBLE_DEVICES"))
	if ready != nil {
		_, _ = ready.Write([]byte("."))
		_ = ready.Close()
	}
	<-d.done
	return nil
}

// copyLog takes what servers have to say.
func (d *daemon) copyLog() error {
	fifo, err := os.OpenFile(pipe("log"), os.O_RDWR, 0)
	if err == nil {
		go func() { _, _ = fifo.WriteTo(d.log) }()
	}
	return err
}

func listen(name string, handle func(*net.UnixConn)) error {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: pipe(name), Net: "unixpacket"})
	if err != nil {
		return err
	}
	mode := os.FileMode(0o666)
	if name == "control_privileged" {
		mode = 0o755
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go handle(c)
		}
	}()
	return os.Chmod(pipe(name), mode)
}

func receive(c *net.UnixConn) (string, error) {
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if n == 0 && err == nil {
		err = net.ErrClosed // a packet of nothing is the end
	}
	return string(b[:max(n, 0)]), err
}

func peer(c *net.UnixConn) (cred unix.Ucred) {
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			if found, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				cred = *found
			}
		})
	}
	return cred
}

// commands are those of an administrator.
func (d *daemon) commands(c *net.UnixConn) {
	defer c.Close()
	for {
		line, err := receive(c)
		if err != nil {
			return
		}
		fmt.Fprintf(d.log, "Cmd:%s\n", line)
		answer := "the user is not root"
		if peer(c).Uid == 0 {
			answer = d.command(strings.Fields(line))
		}
		if _, err := c.Write([]byte(answer + "\n")); err != nil {
			return
		}
		select {
		case <-d.done:
			return
		default:
		}
	}
}

func (d *daemon) command(words []string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(words) == 2 && words[0] == "set_default_active_thread_percentage":
		n, err := strconv.ParseFloat(words[1], 64)
		if err != nil || n <= 0 || n > 100 {
			return "invalid percentage"
		}
		if !misbehaves("limit-ignore") {
			d.threads = fmt.Sprintf("%.1f", n)
		}
		return d.threads
	case len(words) == 1 && words[0] == "get_default_active_thread_percentage":
		return d.threads
	case len(words) == 3 && words[0] == "set_default_device_pinned_mem_limit":
		d.memory[words[1]] = words[2]
		return ""
	case len(words) == 2 && words[0] == "get_default_device_pinned_mem_limit":
		return d.memory[words[1]]
	case len(words) == 1 && words[0] == "get_server_list":
		if d.server == nil {
			return ""
		}
		return strconv.Itoa(d.server.cmd.Process.Pid)
	case len(words) == 1 && words[0] == "quit":
		switch {
		case misbehaves("quit-hang"):
			hang()
		case misbehaves("quit-ignore"):
			return ""
		}
		if d.server != nil {
			_ = d.server.cmd.Process.Kill()
		}
		close(d.done)
		return ""
	}
	return "unrecognized command"
}
