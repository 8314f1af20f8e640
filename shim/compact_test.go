// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// padded is the n-th record of a queue. They are of different lengths, so that
// what is left of old ones is no record, and of the same, so that it is.
func padded(n int) []byte {
	return fmt.Appendf(nil, "%08d%s", n, bytes.Repeat([]byte{'.'}, 100+n/100%3))
}

func numberOf(record []byte) (n int, err error) {
	if _, err := fmt.Sscanf(string(record), "%08d", &n); err != nil {
		return 0, fmt.Errorf("the record %q: %w", record, err)
	}
	if !bytes.Equal(record, padded(n)) {
		return 0, fmt.Errorf("the record %q was changed", record)
	}
	return n, nil
}

// queue appends records from a number on and takes each once later ones are
// behind it, for as long as more says so: the journal is never empty.
func queue(j *journal, first, behind int, more func(appended, taken int) bool) error {
	taken := first
	for n := first; more(n-1, taken); n++ {
		if err := j.append(padded(n)); err != nil {
			return err
		}
		if n-taken < behind {
			continue
		}
		record, err := j.next()
		if err != nil {
			return err
		}
		if got, err := numberOf(record); got != taken || err != nil {
			return fmt.Errorf("took record %d, want %d: %w", got, taken, err)
		}
		if err := j.ack(); err != nil {
			return err
		}
		taken++
	}
	return nil
}

// A journal that is never empty stays as large as what is not delivered, and
// its order.
func TestJournalStaysSmall(t *testing.T) {
	for _, behind := range []int{1, 300, 2000} {
		path := filepath.Join(t.TempDir(), "j")
		j := mustOpenJournal(t, path)
		var largest int64
		err := queue(j, 0, behind, func(appended, _ int) bool {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, st.Size())
			return appended < 10_000
		})
		if err != nil {
			t.Fatal(err)
		}
		record := int64(recordHead + len(padded(250)))
		if most := headerSize + 2*int64(behind+1)*record + compactAt + record; largest > most {
			t.Errorf("with %d records behind it has had %d bytes, and %d at most are right", behind, largest, most)
		}
		j.abandon()
	}
}

// The records that are not delivered are copied where they do not reach
// themselves, and those that an earlier process left stay known as such.
func TestJournalIsCompactedAtHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	const inherited, n = 1500, 2000
	j := mustOpenJournal(t, path)
	for i := range n {
		if i == inherited {
			_ = j.close() // says that it is not empty
			j = mustOpenJournal(t, path)
		}
		if err := j.append(padded(i)); err != nil {
			t.Fatal(err)
		}
	}
	defer j.abandon()
	compacted := 0
	for i := range n {
		if got := j.inherits(); got != (i < inherited) {
			t.Fatalf("record %d of %d is inherited: %v", i, inherited, got)
		}
		head := j.head
		if _, err := j.next(); err != nil {
			t.Fatal(err)
		}
		if err := j.ack(); err != nil {
			t.Fatal(err)
		}
		if j.head > head || j.empty() {
			continue
		}
		compacted++
		if copied, delivered := j.tail-j.head, head+j.offered-headerSize; copied >= delivered {
			t.Errorf("%d bytes were copied over %d that were delivered", copied, delivered)
		}
	}
	if compacted == 0 {
		t.Error("it was never compacted")
	}
}

// It is compacted on a disk that has no room for a copy.
func TestJournalIsCompactedOnFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("a mount needs root: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	path := filepath.Join(disk, "j")
	j := mustOpenJournal(t, path)
	defer j.abandon()
	n := 0
	for ; n < 3000; n++ {
		if err := j.append(padded(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	full, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for want := range n {
		record, err := j.next()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := numberOf(record); got != want || err != nil {
			t.Fatalf("record %d, %v; want %d", got, err, want)
		}
		if err := j.ack(); err != nil {
			t.Fatal(err)
		}
		if want == n*3/4 {
			if st, err := os.Stat(path); err != nil || st.Size() > full.Size()/2 {
				t.Errorf("with a quarter to go it has %d bytes of %d, %v", st.Size(), full.Size(), err)
			}
		}
	}
}

// A process that dies while it compacts leaves what is not delivered, each record
// once: with any part of the copy made, and with the originals cut off but
// the mark still that of before.
func TestJournalCutOffInCompaction(t *testing.T) {
	const n, done = 1300, 700
	whole := newHeader(headerSize)
	mark := 0
	for i := range n {
		if i == done {
			mark = len(whole)
		}
		whole = appendRecord(whole, padded(i))
	}
	marked := append(newHeader(uint64(mark)), whole[headerSize:]...)
	live := marked[mark:]
	var states [][]byte
	for size := 0; size <= len(live); size += 997 {
		state := bytes.Clone(marked)
		copy(state[headerSize:], live[:size])
		states = append(states, state)
	}
	copied := append(bytes.Clone(marked[:headerSize]), live...)
	states = append(states, copied)
	for i, state := range states {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, state, 0o600); err != nil {
			t.Fatal(err)
		}
		j := mustOpenJournal(t, path)
		left, err := remaining(j)
		if err != nil || len(left) != n-done || left[0] != done {
			t.Fatalf("state %d of %d: %d records, %v; want %d", i, len(states), len(left), err, n-done)
		}
		j.abandon()
	}
}

// remaining takes all records, whose numbers must be without a gap.
func remaining(j *journal) (numbers []int, err error) {
	for !j.empty() {
		record, err := j.next()
		if err != nil {
			return numbers, err
		}
		n, err := numberOf(record)
		if err != nil {
			return numbers, err
		}
		if len(numbers) > 0 && n != numbers[len(numbers)-1]+1 {
			return numbers, fmt.Errorf("record %d follows %d", n, numbers[len(numbers)-1])
		}
		numbers = append(numbers, n)
		if err := j.ack(); err != nil {
			return numbers, err
		}
	}
	return numbers, nil
}

// queueUntilKilled is another process: it says which record it has appended and
// which it has taken last.
func queueUntilKilled() int {
	j, err := openJournal(os.Getenv("BERTH_SHIM_TEST_EVENTS"), 0)
	if err == nil {
		err = queue(j, 0, 500, func(appended, taken int) bool {
			_, err := fmt.Printf("%d %d\n", appended, taken-1)
			return err == nil
		})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestJournalAfterKill(t *testing.T) {
	for round := range 20 {
		path := filepath.Join(t.TempDir(), "j")
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=queue", "BERTH_SHIM_TEST_EVENTS="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var appended, taken int
		s := bufio.NewScanner(out)
		for s.Scan() {
			if _, err := fmt.Sscan(s.Text(), &appended, &taken); err != nil {
				t.Fatal(err)
			}
			if appended == 2000+round*37 { // some three compactions on
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		j := mustOpenJournal(t, path)
		left, err := remaining(j)
		if err != nil || len(left) == 0 {
			t.Fatalf("%d records are left, %v", len(left), err)
		}
		// One more may have been appended, and one taken, than was said.
		first, last := left[0], left[len(left)-1]
		if first < taken+1 || first > taken+2 || last < appended || last > appended+1 {
			t.Errorf("records %d to %d are left; %d were taken and %d appended", first, last, taken, appended)
		}
		j.abandon()
	}
}
