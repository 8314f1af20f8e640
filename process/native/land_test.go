// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The variables by which this program, run again by TestRootless, knows what it is given.
const (
	landKey   = "BERTH_LAND"   // the name of a land
	cgroupKey = "BERTH_CGROUP" // a cgroup that is its user's, or nothing
)

// unprivileged is the user who runs the driver, and the first of the ids that are his.
const unprivileged = 200000

// land is where a driver runs.
type land struct {
	name    string
	euid    uint32 // there
	ids     int    // that its user namespace has; 0: it has none
	cgroups bool   // its user was given cgroups, as systemd delegates them
	network bool   // it has one of its own
	tests   string // those that are run there
}

const (
	// comparing are the tests that compare the library with the command line.
	comparing = "TestSameFromInside|TestSameState|TestForcedDelete|TestHooks"
	// helpless is for who can neither freeze nor limit.
	helpless = "TestWithoutCgroups"
	// freezing need a cgroup in which to freeze a container.
	freezing = "TestCommandLineOnNative|TestNativeOnCommandLine|TestSameUpdate"
	// confining look at what a container gets to see and touch of its driver.
	confining = "TestNothingLeaks|TestThreadsStayClean|TestCancelledCreate|TestExecsAtOnce|TestStartOfDyingInit|TestCancelledStart"
	// attacking is not for users without privileges: their containers' root has none over what enters.
	attacking = "TestProgramIsSealed|TestWorkingDirectoryByDescriptor"
)

// lands are how rootless containers are run: by containerd or Podman in a
// user namespace that newuidmap has made, by one that unshare(1) made for one
// user, and by runc for a user as he is (`runc spec --rootless`); and one of root's,
// in which network devices can be made.
var lands = []land{
	{name: "root of a user namespace", ids: 65536, tests: comparing + "|" + helpless + "|" + confining + "|" + attacking},
	{name: "root of a user namespace with cgroups", ids: 65536, cgroups: true, tests: comparing + "|" + freezing + "|" + confining + "|" + attacking},
	{name: "root of one id", ids: 1, tests: comparing + "|" + helpless + "|" + confining + "|" + attacking},
	{name: "user of a user namespace", euid: 1000, ids: 65536, tests: comparing + "|" + helpless + "|" + confining},
	{name: "root of a network", cgroups: true, network: true, tests: "TestNetDevice"},
	{name: "user", euid: unprivileged, tests: comparing + "|" + helpless + "|" + confining},
	{name: "user with cgroups", euid: unprivileged, cgroups: true, tests: comparing + "|" + freezing + "|" + confining},
}

// landHere is where this process runs; nil in that of `go test`.
func landHere() *land {
	name := os.Getenv(landKey)
	for i := range lands {
		if lands[i].name == name {
			return &lands[i]
		}
	}
	return nil
}

// settle makes a directory of what the tests need, which their user can reach.
func (l *land) settle(t *testing.T) string {
	dir := t.TempDir()
	self, err := os.Executable()
	succeed(t, err)
	for name, from := range map[string]string{"native.test": self, "runc": runc, "attack": attack} {
		data, err := os.ReadFile(from)
		succeed(t, err)
		succeed(t, os.WriteFile(filepath.Join(dir, name), data, 0o755))
	}
	succeed(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	owner := int(l.euid)
	if l.ids > 0 {
		owner += unprivileged
	}
	succeed(t, os.Chown(filepath.Join(dir, "tmp"), owner, owner))
	for up := dir; up != os.TempDir(); up = filepath.Dir(up) {
		succeed(t, os.Chmod(up, 0o755))
	}
	return dir
}

// become has a process be the land's user.
func (l *land) become() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: l.euid, Gid: l.euid}}
	if l.ids > 0 {
		attr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: unprivileged, Size: l.ids}}
		attr.GidMappings = attr.UidMappings
		attr.GidMappingsEnableSetgroups = true
	}
	if l.network {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	return attr
}

// delegate gives the user a cgroup, and puts a process into one below it, from where he
// may move it and its children: so systemd does with the processes of a user.
func delegate(t *testing.T, name string) (enter func(pid int)) {
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/cgroup.procs") // v2
	v1 := len(hierarchies) == 0
	if v1 && err == nil {
		hierarchies, err = filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	}
	succeed(t, err)
	var own []string
	for _, procs := range hierarchies {
		own = append(own, filepath.Join(filepath.Dir(procs), name, "own"))
		for _, dir := range []string{filepath.Join(filepath.Dir(procs), name), own[len(own)-1]} {
			succeed(t, os.Mkdir(dir, 0o755))
			t.Cleanup(func() { succeed(t, unix.Rmdir(dir)) })
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // of v1 they are empty at first
				if data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file)); v1 && err == nil {
					succeed(t, os.WriteFile(filepath.Join(dir, file), data, 0))
				}
			}
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			succeed(t, err)
			for _, file := range append(files, dir) {
				succeed(t, os.Chown(file, unprivileged, unprivileged))
			}
		}
	}
	return func(pid int) {
		for _, dir := range own {
			succeed(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
		}
	}
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// settleIn changes a container to one that an unprivileged user may have: as
// rootless containerd does, and `runc spec --rootless`.
func (b *box) settleIn(l *land) {
	b.spec.Linux.CgroupsPath = ""
	if l.cgroups {
		b.spec.Linux.CgroupsPath = "/" + b.cgroup()
	}
	if l.euid != 0 {
		ids := []specs.LinuxIDMapping{{HostID: l.euid, Size: 1}}
		b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
}

// allow removes what a user has no means for.
func (l *land) allow(s *specs.Spec) {
	if !l.cgroups {
		s.Linux.Resources = nil
	}
	if !l.manyIDs() {
		s.Process.User = specs.User{}
	}
}

// manyIDs tells whether a container can have more users than one.
func (l *land) manyIDs() bool { return l == nil || l.ids != 1 && l.euid == 0 }
