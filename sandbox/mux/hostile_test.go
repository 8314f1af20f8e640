// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// wire makes a frame of any kind.
func wire(stream uint32, k kind, payload string) string {
	b := make([]byte, headerSize)
	header{stream, k, len(payload)}.put(b)
	return string(b) + payload
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// hosted is a host with one stream of 100 bytes, and what its guest sends.
func hosted(t interface {
	Helper()
	Fatal(...any)
	Cleanup(func())
}) (host *Session, guest net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	host = Host(a, Config{MaxStreams: 2})
	t.Cleanup(func() { _ = host.Close(); _ = b.Close() })
	go func() {
		greeting := make([]byte, greetingSize)
		if _, err := io.ReadFull(b, greeting); err == nil {
			_, _ = b.Write(greeting)
			_, _ = io.Copy(io.Discard, b)
		}
	}()
	if err := host.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Open(context.Background(), 1, 100); err != nil {
		t.Fatal(err)
	}
	return host, b
}

// A guest that breaks the protocol ends the session, and is told apart from one
// that has gone.
func TestBrokenProtocol(t *testing.T) {
	for name, sent := range map[string]string{
		"open by the guest":    wire(2, kindOpen, number(100)),
		"stream never opened":  wire(2, kindData, "x"),
		"more than the window": wire(1, kindData, strings.Repeat("x", 101)),
		"window spent twice":   wire(1, kindData, strings.Repeat("x", 60)) + wire(1, kindData, strings.Repeat("x", 60)),
		"data after the end":   wire(1, kindEnd, "") + wire(1, kindData, "x"),
		"two ends":             wire(1, kindEnd, "") + wire(1, kindEnd, ""),
		"credit beyond window": wire(1, kindCredit, number(1)),
		"credit of nothing":    wire(1, kindCredit, number(0)),
		"huge credit":          wire(1, kindCredit, number(1<<31)),
		"empty data":           wire(1, kindData, ""),
		"long data":            wire(1, kindData, strings.Repeat("x", maxPayload+1)),
		"kind of no frame":     wire(1, 99, ""),
		"flags":                "\x00\x00\x00\x01\x03\x01\x00\x00",
		"data on stream 0":     wire(0, kindData, "x"),
		"ping on a stream":     wire(1, kindPing, "12345678"),
		"short ping":           wire(0, kindPing, "1234"),
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := hosted(t)
			_, _ = guest.Write([]byte(sent))
			<-host.Done()
			if err := host.Err(); !errors.Is(err, errPeer) {
				t.Errorf("it ended because of: %v", err)
			}
		})
	}
	t.Run("hang-up", func(t *testing.T) {
		host, guest := hosted(t)
		_ = guest.Close()
		<-host.Done()
		if err := host.Err(); errors.Is(err, errPeer) {
			t.Errorf("it ended because of: %v", err)
		}
	})
}

// A host holds no more for a guest than the windows that it gave, whatever the
// guest sends.
func FuzzHost(f *testing.F) {
	f.Add([]byte(wire(1, kindData, "hello") + wire(1, kindEnd, "") + wire(0, kindPing, "12345678")))
	f.Add([]byte(wire(1, kindReset, "") + wire(1, kindData, "x")))
	f.Fuzz(func(t *testing.T, sent []byte) {
		host, guest := hosted(t)
		_, _ = guest.Write(sent)
		host.mu.Lock()
		held := 0
		for _, st := range host.streams {
			held += len(st.buf) + st.owed
		}
		if held > 100 || len(host.streams) > 1 {
			t.Errorf("%d bytes are held for %d streams", held, len(host.streams))
		}
		host.mu.Unlock()
	})
}
