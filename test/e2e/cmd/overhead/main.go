// SPDX-License-Identifier: Apache-2.0

// Command overhead boots a machine of each size with an idle container, and
// prints what it costs on the host beside the memory that its guest has, as the
// table of docs/vm.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer) (retErr error) {
	n, err := node.Start(ctx, node.Config{})
	if err != nil {
		return err
	}
	defer func() {
		if err := n.Stop(context.WithoutCancel(ctx)); retErr == nil {
			retErr = err
		}
	}()
	fmt.Fprintln(stdout, "| machine | guest sees | guest has available | touched of it | QEMU | of it translated code | virtiofsd | shim |")
	fmt.Fprintln(stdout, "|---|---|---|---|---|---|---|---|")
	for _, size := range []int{128, 256, 512, 1024, 2048} {
		row, err := measure(ctx, n, size)
		if err != nil {
			return fmt.Errorf("a machine of %d MiB: %w", size, err)
		}
		fmt.Fprintf(stdout, "| %d | %s |\n", size, strings.Join(row, " | "))
	}
	return nil
}

// measure boots a machine and measures it, in MiB, once its container idles.
func measure(ctx context.Context, n *node.Node, size int) (row []string, retErr error) {
	id := fmt.Sprintf("overhead-%d", size)
	ctr := func(args ...string) (string, error) { return n.Ctr(ctx, args...) }
	_, err := ctr("run", "--detach", "--runtime", node.VMRuntime, "--fifo-dir", n.FIFODir(),
		"--annotation", fmt.Sprintf("berth.dev/vm-memory=%d", size), image.Demo, id, "sleep", "1000")
	if err != nil {
		return nil, err
	}
	defer func() {
		_, killed := n.Ctr(context.WithoutCancel(ctx), "task", "rm", "--force", id)
		_, removed := n.Ctr(context.WithoutCancel(ctx), "container", "rm", id)
		for _, err := range []error{killed, removed} {
			if retErr == nil {
				retErr = err
			}
		}
	}()
	meminfo, err := ctr("task", "exec", "--exec-id", "look", "--fifo-dir", n.FIFODir(), id, "cat", "/proc/meminfo")
	if err != nil {
		return nil, err
	}
	listed, err := ctr("task", "ls")
	if err != nil {
		return nil, err
	}
	pid := 0
	for line := range strings.Lines(listed) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == id {
			pid, err = strconv.Atoi(f[1])
		}
	}
	if pid == 0 || err != nil {
		return nil, fmt.Errorf("no task in %q", listed)
	}
	m, err := weigh(pid)
	if err != nil {
		return nil, err
	}
	return append([]string{mib(value(meminfo, "MemTotal:")), mib(value(meminfo, "MemAvailable:"))},
		mib(m.guest), mib(m.vmm), mib(m.code), mib(m.share), mib(m.shim)), nil
}

// value is that of a line of meminfo or smaps, in KiB.
func value(text, key string) int {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

func mib(kib int) string { return strconv.Itoa((kib + 512) / 1024) }
