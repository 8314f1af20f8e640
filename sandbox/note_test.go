// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/test/fakeoci"
)

// Notes are on record with the exit, bounded, until the container is deleted.
func TestNotesAreOnRecord(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	for i := range maxNotes + 2 {
		if err := c.Note(fmt.Sprintf("%02d", i) + strings.Repeat("é", maxNote)); err != nil {
			t.Fatal(err)
		}
	}
	r.kill(c, "")
	r.wait(c, "")
	rec, err := readRecord(c.Bundle())
	if err != nil || rec.Exit == nil || len(rec.Notes) != maxNotes {
		t.Fatalf("record %+v, %v", rec, err)
	}
	for i, note := range rec.Notes {
		if !strings.HasPrefix(note, fmt.Sprintf("%02d", i)) || len(note) != maxNote || !strings.HasSuffix(note, "éé") {
			t.Errorf("note %d is %q", i, note)
		}
	}
	r.remove(c)
	if err := c.Note("late"); !errdefs.IsNotFound(err) {
		t.Errorf("after delete: %v", err)
	}
}

// Notes take no room from the exit on a full disk, even where they fill their
// block to the last bytes.
func TestNotedExitOnAFullDisk(t *testing.T) {
	r := newRig(t)
	fill, _ := r.smallDisk("a")
	gate := r.fifo("gate")
	c := r.run("a", "await "+gate+" ; exit 12", fakeoci.Plan{})
	for {
		data, err := json.Marshal(&c.rec)
		if err != nil {
			t.Fatal(err)
		}
		room := recordRoom - len(data) - 32 // beside the list's own brackets
		if room <= 0 {
			break
		}
		if err := c.Note(strings.Repeat("x", min(room, maxNote))); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	r.release(gate)
	r.wait(c, "")
	if rec, err := readRecord(c.Bundle()); err != nil || rec.Exit == nil || rec.Exit.Status != 12 || len(rec.Notes) != len(c.rec.Notes) {
		t.Errorf("record %+v, %v", rec, err)
	}
	if _, err := c.Delete(r.ctx(), ""); err != nil {
		t.Error(err)
	}
	if rec, err := readRecord(c.Bundle()); err != nil || !rec.Clean {
		t.Errorf("record %+v, %v", rec, err)
	}
}
