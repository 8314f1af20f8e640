// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// talk gives the daemon the lines of in as commands.
func talk(in io.Reader, out io.Writer) error {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: pipe("control_privileged"), Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("cannot find the MPS control daemon: %w", err)
	}
	defer c.Close()
	for text := bufio.NewScanner(in); text.Scan(); {
		if _, err := c.Write(text.Bytes()); err != nil {
			return err
		}
		answer, err := receive(c)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if strings.TrimSpace(answer) != "" {
			_, _ = io.WriteString(out, answer)
		}
	}
	return nil
}

// client is a program that uses CUDA: without a daemon it runs as if nothing were wrong.
func client(once bool) error {
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	lock, err := os.OpenFile(pipe("control_lock"), os.O_WRONLY, 0)
	if err == nil {
		err = lock.Close()
	}
	var c *net.UnixConn
	if err == nil {
		c, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: pipe("control"), Net: "unixpacket"})
	}
	if err != nil {
		fmt.Println("without MPS:", err)
		return nil
	}
	if _, err := c.Write([]byte("client")); err != nil {
		return err
	}
	answer, err := receive(c)
	if err != nil {
		return err
	}
	var pid int
	_, _ = fmt.Sscanf(answer, "server %d", &pid)
	text, err := os.ReadFile(fmt.Sprintf("/dev/shm/cuda.fake.%d", pid))
	if err != nil {
		return fmt.Errorf("the memory is not shared with the server: %w", err)
	}
	fmt.Printf("%s, shared memory says %s\n", answer, text)
	if once {
		return nil
	}
	_, err = receive(c)
	return fmt.Errorf("the daemon has gone: %w", err)
}
