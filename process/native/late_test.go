// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/process/oci"
)

// What a call makes that nobody waits for any more is undone.
func TestMadeTooLate(t *testing.T) {
	b := newBox(t, "sleep 1000")
	b.write()
	err := b.late(func(c *call) error {
		_, err := b.driver.create(c, &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
		return err
	})
	if err == nil {
		t.Error("a create that is not wanted succeeds")
	}
	b.nothingLeft()

	p := b.run(nil)
	process, err := json.Marshal(shell("sleep 1000"))
	b.must(err)
	err = b.late(func(c *call) error {
		_, err := b.driver.exec(c, &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Process: process})
		return err
	})
	if err == nil {
		t.Error("an exec that is not wanted succeeds")
	}
	for _, pattern := range b.cgroups() {
		files, _ := filepath.Glob(filepath.Join(pattern, "cgroup.procs"))
		for _, file := range files {
			pids, err := os.ReadFile(file)
			b.must(err)
			if n := len(strings.Fields(string(pids))); n != 1 {
				t.Errorf("%s has %d processes", file, n)
			}
		}
	}
	b.kill(p)
}

// late makes a call that was given up before it begins.
func (b *box) late(f func(*call) error) error {
	c := &call{dir: b.bundle, f: f, tid: make(chan int, 1), done: make(chan struct{})}
	c.abandon()
	spare := b.sup.Spare()
	go func() {
		defer spare.Release()
		c.run()
	}()
	<-c.done
	return c.err
}
