// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// A process of another kernel is told of its end once, and gets no signal
// afterwards.
func TestElsewhere(t *testing.T) {
	var got []unix.Signal
	p, end := Elsewhere(7, func(sig unix.Signal) error {
		got = append(got, sig)
		return nil
	})
	if err := p.Signal(unix.SIGHUP); err != nil || len(got) != 1 || got[0] != unix.SIGHUP {
		t.Errorf("sent %v, %v", got, err)
	}
	if p.Exit() != (Exit{}) {
		t.Error("it has an exit before its end")
	}
	end(Exit{Status: 3, Known: true})
	end(Exit{Status: 4, Known: true})
	<-p.Done()
	if p.Exit().Status != 3 {
		t.Errorf("exit %+v, want the first", p.Exit())
	}
	if err := p.Signal(unix.SIGTERM); !errdefs.IsNotFound(err) || len(got) != 1 {
		t.Errorf("a signal after the end: %v, sent %v", err, got)
	}
}
