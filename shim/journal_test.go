// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func mustOpenJournal(t *testing.T, path string) *journal {
	t.Helper()
	j, err := openJournal(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// abandon is what the kernel does to the journal of a process that dies.
func (j *journal) abandon() { _ = j.file.Close() }

func wantRecords(t *testing.T, j *journal, want ...string) {
	t.Helper()
	for _, w := range want {
		got, err := j.next()
		if err != nil || string(got) != w {
			t.Fatalf("next: %q, %v; want %q", got, err, w)
		}
		if err := j.ack(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := j.next(); got != nil || err != nil {
		t.Errorf("next at the end: %q, %v", got, err)
	}
}

func TestJournalSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := mustOpenJournal(t, path)
	for i := range 5 {
		if err := j.append(fmt.Appendf(nil, "record %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := j.next(); err != nil {
			t.Fatal(err)
		}
		if err := j.ack(); err != nil {
			t.Fatal(err)
		}
	}
	j.abandon()
	j = mustOpenJournal(t, path)
	if err := j.append([]byte("record 5")); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, j, "record 2", "record 3", "record 4", "record 5")
	if st, err := os.Stat(path); err != nil || st.Size() != headerSize {
		t.Errorf("an empty journal has %d bytes, %v", st.Size(), err)
	}
	if err := j.close(); err != nil || journalExists(path) {
		t.Errorf("close: %v", err)
	}
}

func TestJournalCutsTornRecord(t *testing.T) {
	whole := appendRecord(appendRecord(newHeader(headerSize), []byte("one")), []byte("two"))
	for cut := 1; cut < recordHead+3; cut++ {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, whole[:len(whole)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j := mustOpenJournal(t, path)
		if err := j.append([]byte("three")); err != nil {
			t.Fatal(err)
		}
		wantRecords(t, j, "one", "three")
		j.abandon()
	}
}

func TestJournalOfAnotherKind(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": "berthev1", "other": "something else, and long enough",
		"mark past the end": string(newHeader(1 << 40)),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			j := mustOpenJournal(t, path)
			if err := j.append([]byte("one")); err != nil {
				t.Fatal(err)
			}
			wantRecords(t, j, "one")
			j.abandon()
		})
	}
}

func TestJournalRefusesWhatCannotBeSent(t *testing.T) {
	j := mustOpenJournal(t, filepath.Join(t.TempDir(), "j"))
	defer j.abandon()
	if err := j.append(make([]byte, maxRecord+1)); err == nil || !j.empty() {
		t.Errorf("a record that is too large: %v", err)
	}
}

func TestJournalGivesUpWhatWasChanged(t *testing.T) {
	j := mustOpenJournal(t, filepath.Join(t.TempDir(), "j"))
	defer j.abandon()
	if err := j.append([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := j.file.WriteAt([]byte("ONE"), headerSize+recordHead); err != nil {
		t.Fatal(err)
	}
	if _, err := j.next(); err == nil {
		t.Error("a record that was changed is taken")
	}
	if err := j.append([]byte("two")); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, j, "two")
}

func newHeader(mark uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte(journalMagic), mark)
}

// FuzzJournal: a journal of any content opens, has only records that match
// their sums, and takes new ones behind them.
func FuzzJournal(f *testing.F) {
	two := appendRecord(appendRecord(newHeader(headerSize), []byte("one")), []byte("two"))
	f.Add([]byte{})
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Add(append(newHeader(headerSize+recordHead+3), two[headerSize:]...))
	f.Add(append(newHeader(1<<63), two[headerSize:]...))
	f.Add(append(append(newHeader(headerSize+5), "other"...), two[headerSize:]...))
	f.Add(append(newHeader(0), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		head, tail, err := scanJournal(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if head < headerSize || tail < head || tail > max(headerSize, int64(len(data))) {
			t.Fatalf("records from %d to %d of %d bytes", head, tail, len(data))
		}
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j := mustOpenJournal(t, path)
		defer j.abandon()
		if err := j.append([]byte("last")); err != nil {
			t.Fatal(err)
		}
		var last []byte
		for !j.empty() {
			if last, err = j.next(); err != nil {
				t.Fatal(err)
			}
			if err := j.ack(); err != nil {
				t.Fatal(err)
			}
		}
		if string(last) != "last" {
			t.Fatalf("the last record is %q", last)
		}
	})
}

// What an earlier process left is known from what is queued since, also when it
// was delivered in between.
func TestJournalInherits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	open := func() *journal {
		j, err := openJournal(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	add := func(j *journal, record string) {
		if err := j.append([]byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	j := open()
	if j.inherits() {
		t.Error("a new journal inherits")
	}
	add(j, "old1")
	add(j, "old2")
	if j.inherits() {
		t.Error("what was queued here is inherited")
	}
	_ = j.close() // says that it is not empty
	j = open()
	add(j, "new1")
	for _, want := range []struct {
		record    string
		inherited bool
	}{{"old1", true}, {"old2", true}, {"new1", false}} {
		inherited := j.inherits()
		record, err := j.next()
		if string(record) != want.record || inherited != want.inherited || err != nil {
			t.Errorf("%q, inherited %v, %v; want %+v", record, inherited, err, want)
		}
		if err := j.ack(); err != nil {
			t.Fatal(err)
		}
	}
	add(j, "new2") // at the offset of old1
	if j.inherits() {
		t.Error("what came later is inherited")
	}
	_, _ = j.next()
	if err := errors.Join(j.ack(), j.close()); err != nil {
		t.Fatal(err)
	}
}
