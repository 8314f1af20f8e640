// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

// unplugged is a machine that notes which disks are taken from it.
type unplugged struct {
	*fakeMachine
	disks []string
}

func (m *unplugged) RemoveDisk(ctx context.Context, serial string) error {
	m.disks = append(m.disks, serial)
	return ctx.Err()
}

// A guest that does not answer keeps neither a container nor its disks from being
// deleted, within the time that there is.
func TestDeleteUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &unplugged{fakeMachine: mute()}
		g, err := connect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		rt := New(Config{Share: t.TempDir() + "/share"})
		rt.life.guest, rt.life.inside["a"], rt.life.inside["other"] = g, g, g
		for i, serial := range []string{"berth1", "berth2"} {
			d, err := g.disks.take("a", diskID{ino: uint64(i)}, false)
			if err != nil {
				t.Fatal(err)
			}
			d.serial = serial
		}
		ctx, cancel := context.WithTimeout(t.Context(), undoTimeout)
		defer cancel()
		began := time.Now()
		if err := rt.Delete(ctx, "a", false); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != deleteTimeout+letGoTimeout {
			t.Errorf("it took %v", took)
		}
		if slices.Sort(m.disks); !slices.Equal(m.disks, []string{"berth1", "berth2"}) || g.disks.of("a") != nil {
			t.Errorf("taken away are %v", m.disks)
		}
		if _, err := rt.life.of("a"); !errdefs.IsNotFound(err) || g.isDead() {
			t.Errorf("the container: %v; the guest has ended: %v", err, g.isDead())
		}
		g.fail(errors.New("the test is over"))
		g.close()
	})
}
