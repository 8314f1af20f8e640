// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"berth/hooks"
	"berth/sandbox"
	"berth/sandbox/turnstile"
)

// stubborn is a hook that does not end with its pod.
type stubborn struct{ ends chan struct{} }

func (stubborn) Name() string                              { return "stubborn" }
func (stubborn) Create(context.Context, *hooks.Spec) error { return nil }
func (stubborn) Delete(context.Context, string) error      { return nil }
func (s stubborn) Serve(context.Context, hooks.Pod)        { <-s.ends }

const (
	request  = 1
	response = 2
)

// frame is a ttrpc message without data.
func frame(id uint32, kind byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 4), id), kind, 0)
}

// caller is a connection with requests that have been read.
func (s *server) caller(t *testing.T, requests int) *answeringConn {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		for i := range requests {
			_, _ = far.Write(frame(uint32(2*i+1), request))
		}
		for buf := make([]byte, 64); ; {
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = far.Close() })
	c := &answeringConn{Conn: turnstile.New(near, s.serving.Done()), s: s}
	for range requests {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return c
}

func (c *answeringConn) answer(t *testing.T, id uint32) {
	t.Helper()
	if _, err := c.Write(frame(id, response)); err != nil {
		t.Error(err)
	}
}

func yes() bool { return true }

// Nothing that the end of a shim waits for makes it last longer than the next shim of
// the group waits for the journal: neither who does not read an answer, nor a hook
// that does not end, nor a containerd that takes no event, nor all of them.
func TestEndIsBounded(t *testing.T) {
	dir := t.TempDir()
	cfg := PublisherConfig{Address: "unix://" + filepath.Join(dir, "nobody"), JournalPath: filepath.Join(dir, "journal")}
	synctest.Test(t, func(t *testing.T) {
		events, err := newPublisher(cfg, 0)
		if err != nil {
			t.Fatal(err)
		}
		publishPids(events, 0, 1)
		hook := stubborn{make(chan struct{})}
		defer close(hook.ends)
		pod := sandbox.New(sandbox.Config{Hooks: hooks.Chain{hook}})
		s := newServer(t.Context(), nil)
		s.caller(t, 1)
		var began time.Time
		s.end(filepath.Join(dir, "s"), func() bool { began = time.Now(); return true })
		s.awaitAnswers()
		if took := time.Since(began); took != answerTimeout {
			t.Errorf("an answer was waited for %v", took)
		}
		if err := s.close(pod, events); err == nil {
			t.Error("nothing is said of what is left")
		}
		if took := time.Since(began); took != endTimeout {
			t.Errorf("the end took %v", took)
		}
		next, err := newPublisher(cfg, 0)
		if err != nil {
			t.Fatalf("the next shim: %v", err)
		}
		_ = closeWithin(t, next, 0)
	})
}

// A shim ends once everybody has an answer, or has gone, whoever is first.
func TestEndAwaitsEverybody(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t.Context(), nil)
		a, b, gone := s.caller(t, 1), s.caller(t, 2), s.caller(t, 1)
		s.end(socket, yes)
		began := time.Now()
		done := make(chan struct{})
		go func() { defer close(done); s.awaitAnswers() }()
		for what, one := range map[string]func(){
			"one has its answer":   func() { a.answer(t, 1) },
			"another has the last": func() { b.answer(t, 3) },
			"one goes":             func() { _ = gone.Close() },
		} {
			one()
			synctest.Wait()
			select {
			case <-done:
				t.Errorf("the wait is over as %s", what)
			default:
			}
		}
		b.answer(t, 1)
		<-done
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v after the last answer", took)
		}
		_, _ = a.Close(), b.Close()
	})
}

// Whoever wanted the shim to end, and has gone by then, is not waited for.
func TestEndAwaitsNobody(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t.Context(), nil)
		_ = s.caller(t, 1).Close()
		began := time.Now()
		s.end(socket, yes)
		s.awaitAnswers()
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}
