// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// A container whose state is cut off or written over can be deleted: it is not known
// any more, and its place is free for the next.
func TestDeleteOfATornState(t *testing.T) {
	for name, tear := range map[string]func(state []byte) []byte{
		"empty":  func([]byte) []byte { return nil },
		"cut":    func(state []byte) []byte { return state[:len(state)/2] },
		"zeroes": func(state []byte) []byte { return make([]byte, len(state)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "sleep 1000")
			p := b.run(nil)
			path := filepath.Join(b.driver.Root, b.id, "state.json")
			state, err := os.ReadFile(path)
			b.must(err)
			b.must(os.WriteFile(path, tear(state), 0o600))
			if _, err := b.exec(shell("true"), nil); err == nil {
				t.Error("an exec succeeds")
			}
			b.kill(p)
			if err := b.driver.Delete(t.Context(), b.id, false); !errdefs.IsNotFound(err) {
				t.Errorf("delete: %v", err)
			}
			if b.driver.SystemdCgroup { // which removes what is empty
				return
			}
			for _, pattern := range b.cgroups() { // the caller's, who knows where it is
				b.until("its cgroups are removed", func() bool { // a process leaves them after its end
					dirs, _ := filepath.Glob(pattern)
					for _, dir := range dirs {
						_ = unix.Rmdir(dir)
					}
					return len(dirs) == 0
				})
			}
			b.kill(b.run(nil))
			b.must(b.driver.Delete(t.Context(), b.id, false))
			b.nothingLeft()
		})
	}
}
