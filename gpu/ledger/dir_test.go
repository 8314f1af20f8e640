// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/gpu/nvml"
	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

func locked(t *testing.T, run string, step func(string)) *Locked {
	t.Helper()
	d, err := Open(run, "0000:3b:00.0", step)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Unlock() })
	return l
}

func TestWriteReadRemove(t *testing.T) {
	var steps []string
	l := locked(t, t.TempDir(), func(s string) { steps = append(steps, s) })
	r := record(Intent, 0)
	r.State = ""
	if err := l.Write(r, Ready); err == nil {
		t.Error("it began as Ready")
	}
	gi, ci := 7, 0
	for _, s := range []State{Intent, GICreated, CIIntent, Ready, Releasing, Zombie, Zombie, Releasing} {
		if s == GICreated {
			r.GI = &gi
		}
		if s == Ready {
			r.CI, r.MIG = &ci, uuidA
		}
		if err := l.Write(r, s); err != nil {
			t.Fatal(err)
		}
		got, torn, err := l.Read()
		if err != nil || len(torn) != 0 || len(got) != 1 || !reflect.DeepEqual(got[0], r) {
			t.Errorf("%s: read %+v, torn %v, %v; want %+v", s, got, torn, err, r)
		}
	}
	if want := "make write sync rename sync directory"; !strings.HasPrefix(strings.Join(steps, " "), want) {
		t.Errorf("the steps are %v", steps)
	}
	if err := errors.Join(l.Remove(r.ID), l.Remove(r.ID)); err != nil {
		t.Error(err)
	}
	if empty, err := l.Empty(); !empty || err != nil {
		t.Errorf("not empty: %v", err)
	}
}

// What only part of arrived on disk is never taken for a record.
func TestEachTear(t *testing.T) {
	l := locked(t, t.TempDir(), nil)
	r := record(Ready, 7)
	whole, err := encode(r)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.path, r.ID+suffix)
	check := func(data []byte) bool {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, torn, err := l.Read()
		if err != nil || len(got)+len(torn) != 1 {
			t.Fatalf("%v, %v, %v", got, torn, err)
		}
		return len(got) == 1
	}
	if !check(whole) {
		t.Fatal("the whole is none")
	}
	for n := range whole {
		if check(whole[:n]) {
			t.Errorf("the first %d bytes are a record", n)
		}
		flipped := append([]byte(nil), whole...)
		flipped[n] ^= 4
		if check(flipped) {
			t.Errorf("with byte %d changed it is a record: %s", n, flipped)
		}
	}
	other := *r
	other.ID = NewID()
	if data, err := encode(&other); err != nil || check(data) {
		t.Errorf("a record by another's name is one: %v", err)
	}
}

// What is no file of ours is passed over or torn, and never followed.
func TestHostileDirectory(t *testing.T) {
	l := locked(t, t.TempDir(), nil)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, nil, 0o600), os.Symlink(secret, filepath.Join(l.path, "a.json")),
		os.Mkdir(filepath.Join(l.path, "b.json"), 0o700), os.WriteFile(filepath.Join(l.path, "notes"), nil, 0o600),
		os.WriteFile(filepath.Join(l.path, "c.json"), make([]byte, maxRecord+1), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got, torn, err := l.Read(); err != nil || len(got) != 0 || len(torn) != 3 {
		t.Errorf("%v, %v, %v", got, torn, err)
	}
	for _, id := range []string{"", "../x", "/etc/passwd"} {
		if l.Remove(id) == nil {
			t.Errorf("%q was removed", id)
		}
	}
	for _, busID := range []string{"", "..", "0000:3b:00.0/..", "/", "0000:3B:00.0"} {
		if _, err := Open(t.TempDir(), busID, nil); err == nil {
			t.Errorf("%q is a GPU", busID)
		}
	}
}

// The lock is one holder's; who waits gives up in time, and does not take it afterwards.
func TestLock(t *testing.T) {
	run := t.TempDir()
	l := locked(t, run, nil)
	if err := os.WriteFile(filepath.Join(l.path, tmpPrefix+"x.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	again := locked(t, run, nil)
	if empty, err := again.Empty(); !empty {
		t.Errorf("what a dead writer left is there: %v", err)
	}
}

// TryLock takes a free lock and waits for no holder. Its lock has no other waiter: one that gave up
// may hold it for a moment yet.
func TestTryLock(t *testing.T) {
	l := locked(t, t.TempDir(), nil)
	if _, err := l.TryLock(); !errors.Is(err, ErrLocked) {
		t.Errorf("the error is %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	tried, err := l.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if err := tried.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestHeldBy(t *testing.T) {
	l := locked(t, t.TempDir(), nil)
	for text, want := range map[string]string{"berth\n": "", "dra driver\nmore": "dra driver", "": "somebody", "\xff": "?"} {
		if err := os.WriteFile(filepath.Join(l.path, ownerFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if by, err := l.HeldBy(); err != nil || want == "" && by != "" || !strings.HasPrefix(by, want) {
			t.Errorf("%q: %q, %v", text, by, err)
		}
	}
}

// Whatever is in a file, what is read of it is a record that can be written.
func FuzzDecode(f *testing.F) {
	seed, err := encode(record(Ready, 7))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data)
		if err != nil {
			return
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil || !isID(r.ID) || !nvml.IsBusID(r.BusID) {
			t.Errorf("%+v: %v", r, err)
		}
	})
}
