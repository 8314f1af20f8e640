// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// A process in the guest sees the end of its input also where the client's pipe
// cannot be read.
func TestInputEnds(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"end":   empty,
		"error": t.TempDir(), // EISDIR
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // who waits for an end that does not come is found out
				near, far := net.Pipe()
				host, guest := mux.Host(near, mux.Config{}), mux.Guest(far, mux.Config{})
				defer func() { _, _ = host.Close(), guest.Close() }()
				answered := make(chan error, 1)
				go func() { answered <- guest.Handshake(context.Background()) }()
				if err := errors.Join(host.Handshake(t.Context()), <-answered); err != nil {
					t.Fatal(err)
				}
				stream, err := host.Open(t.Context(), agentapi.FirstStdioStream, agentapi.StdioWindow)
				if err != nil {
					t.Fatal(err)
				}
				file, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				(&copyIn{file: file, stream: stream}).run()
				stdin, err := guest.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if n, err := stdin.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("the process reads %d bytes, %v", n, err)
				}
			})
		})
	}
}
