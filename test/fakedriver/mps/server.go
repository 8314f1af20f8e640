// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// client serves one client: it waits for a server of its user, and keeps that as long as the
// client is connected.
func (d *daemon) client(c *net.UnixConn) {
	defer c.Close()
	if _, err := receive(c); err != nil {
		return
	}
	cred := peer(c)
	uid := int(cred.Uid)
	if d.multiuser {
		uid = 0
	}
	fmt.Fprintf(d.log, "NEW CLIENT %d from user %d\n", cred.Pid, cred.Uid)
	d.mu.Lock()
	for d.server != nil && d.server.uid != uid && d.server.clients > 0 {
		fmt.Fprintf(d.log, "user %d waits for the server of user %d\n", uid, d.server.uid)
		d.idle.Wait()
	}
	s, err := d.serverOfLocked(uid)
	if err != nil {
		d.mu.Unlock()
		fmt.Fprintln(d.log, err)
		return
	}
	s.clients++
	d.mu.Unlock()
	_, _ = fmt.Fprintf(c, "server %d of user %d, threads %s, memory %s", s.cmd.Process.Pid, s.uid, s.threads, s.memory)
	_, _ = receive(c) // until it has gone
	d.mu.Lock()
	s.clients--
	d.idle.Broadcast()
	d.mu.Unlock()
}

func (d *daemon) serverOfLocked(uid int) (*server, error) {
	if d.server != nil && d.server.uid == uid {
		return d.server, nil
	}
	if d.server != nil {
		_ = d.server.cmd.Process.Kill()
	}
	path, err := exec.LookPath("nvidia-cuda-mps-server")
	if err != nil {
		return nil, err
	}
	var limits []string
	for _, dev := range slices.Sorted(maps.Keys(d.memory)) {
		limits = append(limits, dev+"="+d.memory[dev])
	}
	s := &server{cmd: exec.Command(path), uid: uid, threads: d.threads, memory: strings.Join(limits, " ")}
	// A session of its own: by its group it is not to be found.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	up, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	if _, err := up.Read(make([]byte, 1)); err != nil {
		return nil, fmt.Errorf("the server of user %d did not start: %w", uid, s.cmd.Wait())
	}
	go func() { _ = s.cmd.Wait() }()
	d.server = s
	return s, occupy(s.cmd.Process.Pid)
}

// occupy has NVML know that a process uses the daemon's devices: none of them can be destroyed
// as long as it lives.
func occupy(pid int) error {
	found, _ := filepath.Glob("/usr/lib*/fakenvml.state")
	more, _ := filepath.Glob("/usr/lib/*/fakenvml.state")
	for _, path := range append(found, more...) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		var lines strings.Builder
		gpu := -1
		for text := bufio.NewScanner(f); text.Scan(); {
			w := strings.Fields(text.Text())
			switch {
			case len(w) > 2 && w[0] == "gpu":
				if gpu++; uses(w[2]) {
					fmt.Fprintf(&lines, "proc %d %d 1048576 -1 -1\n", gpu, pid)
				}
			case len(w) == 7 && w[0] == "ci" && uses(w[6]):
				fmt.Fprintf(&lines, "proc %s %d 1048576 %s %s\n", w[1], pid, w[2], w[3])
			}
		}
		if _, err := f.WriteString(lines.String()); err != nil {
			return err
		}
	}
	return nil
}

func uses(uuid string) bool {
	return slices.Contains(strings.Split(os.Getenv("CUDA_VISIBLE_DEVICES"), ","), uuid)
}

// serve is the server. It says that it is up on its standard output.
func serve() error {
	log, err := os.OpenFile(pipe("log"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	shared := fmt.Sprintf("/dev/shm/cuda.fake.%d", os.Getpid())
	if err := os.WriteFile(shared, []byte("server"), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(log, "Server %d of user %d is up\n", os.Getpid(), os.Getuid())
	fmt.Print(".")
	hang()
	return nil
}
