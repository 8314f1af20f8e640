// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// A clone that would be like another is none.
func TestRenewNeedsWhatIsUnique(t *testing.T) {
	for name, r := range map[string]*agentapi.RenewRequest{
		"nothing":        {},
		"little entropy": {Entropy: make([]byte, minEntropy-1), MachineId: make([]byte, 16)},
		"no machine id":  {Entropy: make([]byte, 512)},
	} {
		if err := Renew(r); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The kernel takes it in the form in which it is given.
func TestAddEntropy(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nobody else may credit entropy")
	}
	if err := addEntropy(make([]byte, 512)); errors.Is(err, unix.EPERM) {
		t.Skip("CAP_SYS_ADMIN of the first user namespace is missing")
	} else if err != nil {
		t.Fatal(err)
	}
}

func TestInherited(t *testing.T) {
	for _, args := range [][]string{{"/init"}, {"/init", "other"}, {"/init", portFlag}, {"/init", "-port=1", "more"}} {
		if port, err := Inherited(args); port != nil || err != nil {
			t.Errorf("%q: %v, %v", args, port, err)
		}
	}
	if _, err := Inherited([]string{"/init", "-port=x"}); err == nil {
		t.Error("a port that is no number is taken")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd, err := unix.Dup(int(w.Fd())) // which Inherited owns then
	if err != nil {
		t.Fatal(err)
	}
	port, err := Inherited([]string{"/init", portFlag + strconv.Itoa(fd)})
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	if flags, err := unix.FcntlInt(port.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the port is inherited by what the agent starts (%v)", err)
	}
}
