// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// contend has many take and let go of what take returns, and fails if two ever
// have it at once.
func contend(t *testing.T, take func() (release func() error, err error)) {
	t.Helper()
	var holders atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				release, err := take()
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two have it at once")
				}
				for range 50 {
					runtime.Gosched() // so that another has time to come in
				}
				holders.Add(-1)
				if err := release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestLockIsExclusive(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	contend(t, func() (func() error, error) {
		l, err := lockSocket(socket)
		return func() error { l.release(); return nil }, err
	})
	if left, _ := filepath.Glob(socket + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestJournalIsExclusive: who waited for a journal that its owner then removed
// must not write to the removed file.
func TestJournalIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	contend(t, func() (func() error, error) {
		j, err := openJournal(path, time.Minute)
		if err != nil {
			return nil, err
		}
		if at, err := isAt(j.file, path); err != nil || !at {
			return nil, errors.Join(err, errors.New("the journal is a removed file"))
		}
		return j.close, nil
	})
	if journalExists(path) {
		t.Error("the journal is left behind")
	}
}
