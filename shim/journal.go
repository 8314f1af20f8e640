// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The journal file is a header followed by records; all numbers are little
// endian.
//
//	header: magic "berthev1", offset of the first record not delivered (8 bytes)
//	record: length of the payload (4), its CRC-32C (4), payload
//
// Records are delivered in order, so one offset marks all that are done. When
// none is left the file is cut to its header, and when most are done the others
// are moved in their place (compact.go); what lies before the mark need not be
// records then. A writer that dies in mid-write
// leaves a torn record at the end, which does not match its sum and is cut
// off by the next. A mark that makes no sense means that nothing is marked:
// records are then delivered twice rather than not at all.
const (
	journalMagic = "berthev1"
	headerSize   = 16
	recordHead   = 8
	// maxRecord bounds a payload, in bytes: ttrpc carries no message larger
	// than 4 MiB with its envelope.
	maxRecord = 4<<20 - 64<<10
)

// errJournalBusy tells that another process, or another part of this one, owns
// the journal.
var errJournalBusy = fmt.Errorf("the event journal is in use: %w", errdefs.ErrUnavailable)

// journal is a queue of records in a file. While the file takes no more, as
// on a full disk, the newest records are held in memory alone.
type journal struct {
	path string
	file *os.File // flock'd

	head, tail int64    // the records in the file that are not delivered
	memory     [][]byte // records younger than those
	inherited  int64    // where the records end that an earlier process left; 0 once they are done
	offered    int64    // size in the file of the record that next returned
	failing    bool     // the last write to the file failed
}

func journalExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// openJournal opens or makes a journal and takes possession of it. If another
// has it, it waits for up to patience, and then fails with errJournalBusy.
func openJournal(path string, patience time.Duration) (_ *journal, retErr error) {
	f, err := openLocked(path, patience)
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			_ = f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the event journal: %w", err)
	}
	j := &journal{path: path, file: f}
	if j.head, j.tail, err = scanJournal(f, st.Size()); err != nil {
		return nil, fmt.Errorf("read the event journal %s: %w", path, err)
	}
	j.inherited = j.tail
	if err := j.reset(); err != nil {
		return nil, fmt.Errorf("open the event journal: %w", err)
	}
	return j, nil
}

// openLocked opens the file at path and locks it, however often a former
// owner removes it in between.
func openLocked(path string, patience time.Duration) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the event journal: %w", err)
		}
		if err := possess(f, patience); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		current, err := isAt(f, path)
		if err == nil && current {
			return f, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// possess locks f, or closes it. flock(2) knows no limit of time, so a
// goroutine waits where that is needed; if the limit passes, the goroutine
// closes the file itself once the lock comes, and nobody waits for it.
func possess(f *os.File, patience time.Duration) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(err, f.Close())
	}
	if patience == 0 {
		return errors.Join(errJournalBusy, f.Close())
	}
	locked := make(chan error) // unbuffered: taken, or given up
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		err := flock(f, unix.LOCK_EX)
		select {
		case locked <- err:
		case <-ctx.Done():
			_ = f.Close()
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			return errors.Join(err, f.Close())
		}
		return nil
	case <-ctx.Done():
		return errJournalBusy
	}
}

// dropJournal removes a journal that has no owner.
func dropJournal(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop the event journal: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil //nolint:nilerror // its owner is still at it
	}
	return removeFile(path)
}

// scanJournal finds the records in a journal of size bytes that are whole and
// not delivered. What has no header of ours has no records.
func scanJournal(r io.ReaderAt, size int64) (head, tail int64, err error) {
	var header [headerSize]byte
	if _, err := r.ReadAt(header[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	if size < headerSize || string(header[:len(journalMagic)]) != journalMagic {
		return headerSize, headerSize, nil
	}
	mark := binary.LittleEndian.Uint64(header[len(journalMagic):])
	head, tail = headerSize, headerSize
	if mark > headerSize && mark < uint64(size) {
		payload, err := readRecord(r, int64(mark), size)
		if err != nil {
			return 0, 0, err
		}
		if payload != nil {
			head, tail = int64(mark), int64(mark)
		}
	}
	for {
		if uint64(tail) == mark {
			head = tail
		}
		payload, err := readRecord(r, tail, size)
		if err != nil {
			return 0, 0, err
		}
		if payload == nil {
			return head, tail, nil
		}
		tail += recordHead + int64(len(payload))
	}
}

// readRecord returns the payload of the record at off, or nil if there is
// none that is whole before end.
func readRecord(r io.ReaderAt, off, end int64) ([]byte, error) {
	if end-off < recordHead {
		return nil, nil
	}
	var head [recordHead]byte
	if _, err := r.ReadAt(head[:], off); err != nil {
		return nil, err
	}
	length, sum := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if length == 0 || length > maxRecord || int64(length) > end-off-recordHead {
		return nil, nil
	}
	payload := make([]byte, length)
	if _, err := r.ReadAt(payload, off+recordHead); err != nil {
		return nil, err
	}
	if crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, nil
	}
	return payload, nil
}

func appendRecord(dst, payload []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	return append(dst, payload...)
}

// append queues a record. It is queued even if there is an error, which says
// that it is in memory alone; only the first of several in a row is returned.
func (j *journal) append(payload []byte) error {
	if len(payload) == 0 || len(payload) > maxRecord {
		return fmt.Errorf("an event has %d bytes, and at most %d can be sent", len(payload), maxRecord)
	}
	j.memory = append(j.memory, payload)
	err := j.flush()
	first := err != nil && !j.failing
	j.failing = err != nil
	if first {
		return fmt.Errorf("write the event journal, events are held in memory: %w", err)
	}
	return nil
}

// flush moves records from memory to the file, the oldest first. A record that
// was written in part is written over by the next attempt.
func (j *journal) flush() error {
	for len(j.memory) > 0 {
		record := appendRecord(nil, j.memory[0])
		if _, err := j.file.WriteAt(record, j.tail); err != nil {
			return err
		}
		j.tail += int64(len(record))
		j.memory[0] = nil
		j.memory = j.memory[1:]
	}
	j.memory = nil
	return nil
}

// inherits is true if next returns a record of an earlier process.
func (j *journal) inherits() bool {
	if j.head >= j.inherited || j.head == j.tail {
		j.inherited = 0 // offsets begin anew when none is left
	}
	return j.inherited > 0
}

func (j *journal) empty() bool { return j.head == j.tail && len(j.memory) == 0 }

// next returns the oldest record, or nil if there is none. It stays until ack.
// After an error the records in the file are given up.
func (j *journal) next() ([]byte, error) {
	if j.head < j.tail {
		payload, err := readRecord(j.file, j.head, j.tail)
		if err == nil && payload == nil {
			err = errors.New("a record was changed")
		}
		if err != nil {
			lost := j.tail - j.head
			j.head = j.tail
			return nil, fmt.Errorf("read back %d bytes of events: %w", lost, errors.Join(err, j.reset()))
		}
		j.offered = recordHead + int64(len(payload))
		return payload, nil
	}
	if len(j.memory) > 0 {
		j.offered = recordHead + int64(len(j.memory[0]))
		return j.memory[0], nil
	}
	return nil, nil
}

// ack removes the record that next returned. One that was in memory then may
// be in the file by now, but it is still the oldest.
func (j *journal) ack() error {
	if j.head == j.tail {
		j.memory = j.memory[1:]
		return nil
	}
	j.head += j.offered
	var err error
	if j.compactable() {
		err = j.compact()
	}
	return errors.Join(err, j.reset())
}

// reset writes down which records are delivered, and cuts off what is not
// needed. Cutting comes first: a mark beyond the end is none.
func (j *journal) reset() error {
	if j.head == j.tail {
		j.head, j.tail = headerSize, headerSize
	}
	if err := j.file.Truncate(j.tail); err != nil {
		return err
	}
	header := binary.LittleEndian.AppendUint64([]byte(journalMagic), uint64(j.head))
	_, err := j.file.WriteAt(header, 0)
	return err
}

// close removes the journal if nothing is left in it.
func (j *journal) close() error {
	flushErr := j.flush()
	if !j.empty() {
		return errors.Join(
			fmt.Errorf("events are not delivered, and are left in %s", j.path), flushErr, j.file.Close())
	}
	if current, err := isAt(j.file, j.path); err == nil && current {
		if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("remove the event journal: %w", err), j.file.Close())
		}
	}
	return j.file.Close()
}
