// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// startTimeout bounds one start of containerd, which takes well under a second on
// an idle machine.
const startTimeout = 60 * time.Second

// Config says how a node differs from the usual one. The zero value works.
type Config struct {
	LogLevel string   // of containerd; "info" if empty
	Env      []string // added to containerd's environment, and so to the shims'
	// Networks are CNI configurations (conflist) of which each gives every pod an
	// interface, eth0 and so on. @DIR@ is the node's directory. nil: one bridge.
	Networks []string
	// StateSize gives bundles and shim sockets a file system of their own, of so
	// many bytes, as /run is on a host. 0: they are where the rest is.
	StateSize int64
	// Snapshotter is blockfile or erofs, for which it is set up with disks of
	// DiskSize; empty is one of directories.
	Snapshotter string
	// Systemd has systemd make the cgroups, of a machine of which it is PID 1.
	Systemd bool
	// Shim is the configuration of the pod shim and the gpu shim.
	Shim string
	// Secured has the CRI use AppArmor or SELinux, whose profiles and labels it puts
	// into the host's kernel.
	Secured bool
	// RootLabel is SELinux's label of containerd's root directory, which what is
	// unpacked there inherits: by overlayfs a container also needs access to that.
	RootLabel string
	// VM is added to the configuration of the vm shim.
	VM string
}

// DiskSize is that of a container's writable layer on a disk, for mkfs and containerd.
const DiskSize = "64M"

func (c Config) networks() []string {
	if c.Networks == nil {
		return []string{cniTemplate}
	}
	return c.Networks
}

func (c Config) logLevel() string {
	if c.LogLevel == "" {
		return "info"
	}
	return c.LogLevel
}

// Node is a private containerd. Its methods may be called from many goroutines,
// except Kill, Terminate, Resume and Stop, which are for one at a time.
type Node struct {
	config      Config
	id          string
	dir         string
	checkout    string
	snapshotter string
	netns       *netns
	log         *logFile

	daemon *daemon // nil or ended between Kill and Resume
	client *containerd.Client
}

// Start starts a node and loads the images into it. The caller stops it.
func Start(ctx context.Context, config Config) (_ *Node, retErr error) {
	checkout, err := Checkout()
	if err != nil {
		return nil, err
	}
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("choose id: %w", err)
	}
	n := &Node{config: config, id: "berth-" + hex.EncodeToString(random[:]), checkout: checkout}
	n.dir = filepath.Join(baseDir(), n.id)
	if err := os.Mkdir(n.dir, 0o711); err != nil {
		return nil, fmt.Errorf("create node directory: %w", err)
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, n.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := n.writeConfig(); err != nil {
		return nil, err
	}
	if n.log, err = newLogFile(n.LogPath()); err != nil {
		return nil, err
	}
	if n.netns, err = newNetns(); err != nil {
		return nil, err
	}
	if err := n.Resume(ctx); err != nil {
		return nil, err
	}
	if err := n.loadImages(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// baseDir is where node directories go. It must be short: containerd takes 42 bytes
// as the directory of shim sockets.
func baseDir() string {
	if dir := os.TempDir(); len(dir) <= 24 {
		return dir
	}
	return "/tmp"
}

// ID is the node's containerd namespace and the name of its cgroup, "/ID".
func (n *Node) ID() string { return n.id }

// Dir is the node's directory.
func (n *Node) Dir() string { return n.dir }

// Address is the path of containerd's socket.
func (n *Node) Address() string { return filepath.Join(n.dir, "c.sock") }

// FIFODir is where clients of the node put their stdio FIFOs.
func (n *Node) FIFODir() string { return filepath.Join(n.dir, "fifo") }

// StateDir is containerd's state directory, which has the bundles.
func (n *Node) StateDir() string { return filepath.Join(n.dir, "state") }

// LogPath is containerd's log, the shims' lines included.
func (n *Node) LogPath() string { return filepath.Join(n.dir, "containerd.log") }

// Snapshotter is the one that works in the node's directory.
func (n *Node) Snapshotter() string { return n.snapshotter }

// Pid is the process id of the running containerd.
func (n *Node) Pid() int { return n.daemon.cmd.Process.Pid }

// Client is a client in the node's namespace. It ends with Kill and Terminate;
// after Resume there is a new one.
func (n *Node) Client() *containerd.Client { return n.client }

// Resume starts containerd again after Kill or Terminate.
func (n *Node) Resume(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	program, err := n.program("containerd")
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "--config", filepath.Join(n.dir, "config.toml"))
	cmd.Dir = n.dir
	cmd.Env = append(n.env(), n.config.Env...)
	d, err := startDaemon(ctx, n.netns, cmd, n.log)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, n.LogTail())
	}
	n.daemon = d
	client, err := containerd.New(n.Address(), containerd.WithDefaultNamespace(n.id))
	if err != nil {
		return fmt.Errorf("connect to containerd: %w", err)
	}
	n.client = client
	if _, err := client.Version(ctx); err != nil {
		return fmt.Errorf("ask containerd for its version: %w", err)
	}
	return nil
}

// Kill ends containerd by SIGKILL; containers and shims go on.
func (n *Node) Kill() error { return n.end(unix.SIGKILL) }

// Terminate ends containerd by SIGTERM; containers and shims go on.
func (n *Node) Terminate() error { return n.end(unix.SIGTERM) }

func (n *Node) end(signal syscall.Signal) error {
	var errs []error
	if n.client != nil {
		errs = append(errs, n.client.Close())
		n.client = nil
	}
	if n.daemon != nil {
		errs = append(errs, n.daemon.end(signal))
		n.daemon = nil
	}
	return errors.Join(errs...)
}

// LogTail is the last lines of containerd's log.
func (n *Node) LogTail() string {
	if n.log == nil {
		return ""
	}
	return n.log.tail()
}

// AwaitLog waits until containerd's log has a line with all of the texts.
func (n *Node) AwaitLog(ctx context.Context, texts ...string) error {
	return n.log.await(ctx, texts)
}

// logFile is containerd's log: a file, and its last lines in memory, because the
// file is removed with the node.
type logFile struct {
	file *os.File

	mu   sync.Mutex // guards last and more
	last []byte
	more chan struct{} // closed at the next write
}

// A failure shows so many lines of the log; so much of it is kept for that.
const (
	logTailLines = 30
	logTailSize  = 32 << 10
)

func newLogFile(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open containerd's log: %w", err)
	}
	return &logFile{file: f, more: make(chan struct{})}, nil
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.last = append(l.last, p...)
	if len(l.last) > 2*logTailSize {
		l.last = append([]byte(nil), l.last[len(l.last)-logTailSize:]...)
	}
	close(l.more)
	l.more = make(chan struct{})
	l.mu.Unlock()
	return l.file.Write(p)
}

// await looks at what is kept of the log, and then at each line that comes.
func (l *logFile) await(ctx context.Context, texts []string) error {
	for {
		l.mu.Lock()
		more, lines := l.more, string(l.last)
		l.mu.Unlock()
		for line := range strings.Lines(lines) {
			if containsAll(line, texts) {
				return nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("wait for %q in containerd's log: %w", texts, ctx.Err())
		}
	}
}

func containsAll(line string, texts []string) bool {
	for _, t := range texts {
		if !strings.Contains(line, t) {
			return false
		}
	}
	return true
}

func (l *logFile) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.SplitAfter(string(bytes.ToValidUTF8(l.last, nil)), "\n")
	return strings.Join(lines[max(0, len(lines)-logTailLines):], "")
}

func (l *logFile) close() error { return l.file.Close() }
