// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func stale(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}

// leftovers are what may be on the way to a host or a guest that begins.
func leftovers(magic string) map[string]string {
	whole := string(greeting{magic, [16]byte{1, 2, 3}, version}.bytes())
	return map[string]string{
		"nothing":             "",
		"noise":               stale(100_000),
		"frames":              frame(16, kindData, stale(1000)) + frame(0, kindPong, number(1)),
		"part of a frame":     frame(16, kindData, stale(1000))[:500],
		"magic":               magic,
		"magic, twice":        magic[:5] + magic[:7] + magic,
		"part of a greeting":  whole[:greetingSize-1],
		"a damaged greeting":  whole[:greetingSize-1] + "x",
		"of the other side":   string(greeting{hostMagic, [16]byte{9}, version}.bytes())[:greetingSize-1],
		"magic in the greets": whole[:len(magic)+3] + magic + whole[:3],
	}
}

// answered has a host greet and gives it what answer makes of that.
func answered(t *testing.T, answer func(greeting) string) error {
	t.Helper()
	a, b := wires(t)
	host := Host(a, Config{})
	defer host.Close()
	got := make(chan error)
	go func() { got <- host.Handshake(t.Context()) }()
	bytes := make([]byte, greetingSize)
	if _, err := io.ReadFull(b, bytes); err != nil {
		t.Fatal(err)
	}
	mine := greeting{magic: hostMagic, epoch: [16]byte(bytes[len(hostMagic):]), version: version}
	if string(mine.bytes()) != string(bytes) {
		t.Fatalf("%x is no greeting", bytes)
	}
	if _, err := io.WriteString(b, answer(mine)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		return err
	}
	_ = b.Close()
	<-host.Done()
	if err := host.Err(); errors.Is(err, ErrProtocol) {
		t.Errorf("something else was taken for the answer: %v", err)
	}
	return nil
}

// A host passes over what is left from other sessions, also an answer of one,
// and its own echo.
func TestHostGreets(t *testing.T) {
	cases := leftovers(guestMagic)
	cases["another epoch"] = string(greeting{guestMagic, [16]byte{1}, version}.bytes())
	cases["another epoch and version"] = string(greeting{guestMagic, [16]byte{1}, version + 1}.bytes())
	for name, old := range cases {
		t.Run(name, func(t *testing.T) {
			if err := answered(t, func(g greeting) string {
				echo := string(g.bytes())
				g.magic = guestMagic
				return echo + old + string(g.bytes())
			}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another version", func(t *testing.T) {
		err := answered(t, func(g greeting) string {
			return string(greeting{guestMagic, g.epoch, version + 1}.bytes())
		})
		if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "version 2") {
			t.Error(err)
		}
	})
}

// A guest passes over what is left, and answers a host of another version.
func TestGuestAnswers(t *testing.T) {
	for name, old := range leftovers(hostMagic) {
		t.Run(name, func(t *testing.T) {
			a, b := wires(t)
			guest := Guest(b, Config{})
			defer guest.Close()
			mine := greeting{hostMagic, [16]byte{4, 5, 6}, version}
			go func() { _, _ = io.WriteString(a, old+string(mine.bytes())) }()
			if err := guest.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, greetingSize)
			mine.magic = guestMagic
			if _, err := io.ReadFull(a, got); string(got) != string(mine.bytes()) || err != nil {
				t.Errorf("%x, %v", got, err)
			}
		})
	}
	t.Run("another version", func(t *testing.T) {
		a, b := wires(t)
		guest := Guest(b, Config{})
		defer guest.Close()
		_, _ = a.Write(greeting{hostMagic, [16]byte{7}, version + 1}.bytes())
		if err := guest.Handshake(t.Context()); !errdefs.IsNotImplemented(err) {
			t.Error(err)
		}
		got, err := io.ReadAll(a)
		if string(got) != string(greeting{guestMagic, [16]byte{7}, version}.bytes()) || err != nil {
			t.Errorf("%x, %v", got, err)
		}
	})
}

// No peer keeps a handshake for ever: not by silence, noise or hanging up.
func TestNoGreeting(t *testing.T) {
	t.Run("silence", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, begin := range []func(io.ReadWriteCloser, Config) *Session{Host, Guest} {
			a, _ := wires(t)
			s := begin(a, Config{})
			if err := s.Handshake(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	t.Run("noise", func(t *testing.T) {
		a, b := wires(t)
		host := Host(a, Config{})
		go func() {
			for noise := make([]byte, maxFrame); ; {
				if _, err := b.Write(noise); err != nil {
					return
				}
			}
		}()
		if err := host.Handshake(t.Context()); !errors.Is(err, ErrProtocol) {
			t.Error(err)
		}
	})
	t.Run("hang-up", func(t *testing.T) {
		a, b := wires(t)
		_ = b.Close()
		if err := Guest(a, Config{}).Handshake(t.Context()); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
