// SPDX-License-Identifier: Apache-2.0

package native

import (
	"errors"
	"testing"
)

// What a call has left is taken by the next one, by one only, and not if the
// state is another by then.
func TestLoadedOnce(t *testing.T) {
	b := newBox(t, "sleep 1000")
	p := b.run(nil)
	take := func() *loaded {
		t.Helper()
		c, err := b.driver.take(b.id)
		b.must(err)
		return c
	}
	again := false
	for range 100 { // a pool keeps what it may
		c := take()
		b.driver.leave(c)
		if first, second := take(), take(); first == second {
			t.Fatal("two calls have the same container")
		} else if first == c {
			again = true
		}
	}
	if !again {
		t.Error("the state is read anew each time")
	}
	for range 100 {
		c := take()
		b.driver.leave(c)
		b.must(b.driver.Update(b.Context(), b.id, []byte(`{"memory": {"limit": 67108864}}`)))
		if now := take(); now == c || now.state == c.state {
			t.Fatal("a state that has changed is not read")
		}
	}
	b.kill(p)
}

// A container that was loaded before is asked for its status each time.
func TestStatusOfTheLoaded(t *testing.T) {
	b := newBox(t, "sleep 1000")
	p := b.run(nil)
	exec := func(want error) {
		t.Helper()
		e, err := b.exec(shell("exit 3"), nil)
		if !errors.Is(err, want) {
			t.Fatalf("exec: %v, want %v", err, want)
		}
		if err == nil && b.status(e) != 3 {
			t.Error("exec: another exit")
		}
	}
	exec(nil)
	exec(nil)
	b.must(b.driver.Pause(b.Context(), b.id))
	exec(errExecPaused)
	b.must(b.driver.Resume(b.Context(), b.id))
	exec(nil)
	b.kill(p)
	exec(errExecStopped)
}
