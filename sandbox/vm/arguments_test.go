// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/sandbox/vm/image"
	"berth/sandbox/vm/jail"
)

var update = flag.Bool("update", false, "write the command lines in testdata anew")

// machines are configurations of all kinds, as Boot, BootTemplate and Clone have
// them by the time that QEMU is started.
func machines() map[string]Config {
	memory, state := os.NewFile(100, "memory"), os.NewFile(101, "state")
	plain := Config{
		ID: "test", MemoryMiB: 256, CPUs: 2, UID: 7, GID: 8, QEMU: "/usr/bin/qemu-system-x86_64",
		Image: image.Image{Kernel: "/guest/vmlinux", Initramfs: "/guest/initramfs"},
	}
	full := plain
	full.Share = "/run/berth/pod/served"
	for i := range byte(2) {
		full.NICs = append(full.NICs, NIC{MAC: net.HardwareAddr{2, 0, 0, 0, 0, i}})
	}
	with := func(c Config, change func(*Config)) Config {
		change(&c)
		return c
	}
	return map[string]Config{
		"plain": plain, "full": full,
		"later-nics":    with(full, func(c *Config) { c.NICs, c.LaterNICs = nil, true }),
		"vfio":          with(full, func(c *Config) { c.VFIO = passed("/sys/devices/pci") }),
		"template-copy": with(plain, func(c *Config) { c.origin = origin{memory: memory} }),
		"template-cow":  with(plain, func(c *Config) { c.origin = origin{memory: memory, sharing: true} }),
		"clone-copy":    with(full, func(c *Config) { c.origin = origin{memory: memory, state: state} }),
		"clone-cow":     with(full, func(c *Config) { c.origin = origin{memory: memory, state: state, private: true, sharing: true} }),
	}
}

// command is QEMU's command line, and what it inherits.
func command(t *testing.T, c Config, accel Accel) ([]string, descriptors) {
	t.Helper()
	file := func(name string) *os.File { return os.NewFile(200, name) }
	e := ends{agent: file("agent"), monitor: file("monitor"), console: file("console")}
	if c.Share != "" {
		e.share = file("share")
	}
	fds := descriptors{nil, file("log"), file("log")}
	args, err := c.arguments(accel, e, &fds)
	if err != nil {
		t.Fatal(err)
	}
	return args, fds
}

// TestCommandLine has testdata/commandline/CASE be QEMU's whole command line, an
// option a line, and what its jail is beside that.
func TestCommandLine(t *testing.T) {
	for name, c := range machines() {
		for _, accel := range []Accel{KVM, TCG} {
			t.Run(name+"-"+string(accel), func(t *testing.T) {
				args, fds := command(t, c, accel)
				var out strings.Builder
				for _, o := range optionsOf(args) {
					fmt.Fprintln(&out, strings.TrimSpace(o.name+" "+o.value))
				}
				if accel == TCG { // whether there is KVM is the host's
					spec, err := c.vmmJail(nil, accel, 2, []string{"/sys/fs/cgroup/test"})
					if err != nil {
						t.Fatal(err)
					}
					out.WriteString(indented(t, spec))
				}
				golden(t, name+"-"+string(accel), out.String())
				guarded(t, args)
				inherited(t, args, fds)
			})
		}
	}
}

// TestShareCommandLine has testdata/commandline/virtiofsd be that of virtiofsd, and
// what its jail is.
func TestShareCommandLine(t *testing.T) {
	c := machines()["full"]
	c.Virtiofsd = "/usr/lib/qemu/virtiofsd"
	args := c.shareArguments(3)
	jailed := c.shareJail(nil, 4, []string{"/sys/fs/cgroup/test"})
	golden(t, "virtiofsd", strings.Join(args, "\n")+"\n"+indented(t, jailed))
	for option, reason := range map[string]string{
		"sandbox=chroot":               "without it root in the guest is root on the host (CVE-2026-47243)",
		"source=/run/berth/pod/served": "the guest is served the copy that cannot be written to (CVE-2020-2026)",
	} {
		if !slices.Contains(args, option) {
			t.Errorf("no %s: %s", option, reason)
		}
	}
	for _, a := range args {
		for option, reason := range map[string]string{
			"sandbox=none": "CVE-2026-47243", "sandbox=namespace": "it needs CAP_SYS_ADMIN, which one thread keeps",
			"seccomp": "what it is by default is to stay", "modcaps": "it gives itself no capability",
			"--socket-path": "whoever finds a socket can connect to it",
		} {
			if strings.HasPrefix(a, option) {
				t.Errorf("%s: %s", a, reason)
			}
		}
	}
	for _, may := range []int{unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_MODULE, unix.CAP_DAC_READ_SEARCH} {
		if slices.Contains(jailed.Capabilities, may) {
			t.Errorf("it has capability %d, which its thread without a filter keeps", may)
		}
	}
}

func indented(t *testing.T, spec *jail.Spec) string {
	t.Helper()
	text, err := json.MarshalIndent(spec, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// frequency is that of this machine.
var frequency = regexp.MustCompile(`tsc_early_khz=\d+`)

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = frequency.ReplaceAllString(got, "tsc_early_khz=N")
	path := filepath.Join("testdata", "commandline", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is other than what was looked at; if it is to be, go test ./sandbox/vm -run CommandLine -update. Got:\n%s", path, got)
	}
}

// option is one of QEMU's.
type option struct{ name, value string }

func optionsOf(args []string) (all []option) {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			all = append(all, option{name: a})
		} else {
			all[len(all)-1].value = a
		}
	}
	return all
}

// inherited checks that each descriptor is somebody's, and no other is named.
func inherited(t *testing.T, args []string, fds descriptors) {
	t.Helper()
	users := make(map[string]int)
	for _, m := range regexp.MustCompile(`(?:\bfd=|/proc/self/fd/)(\d+)`).FindAllStringSubmatch(strings.Join(args, " "), -1) {
		users[m[1]]++
	}
	for n := 3; n < len(fds); n++ {
		if users[fmt.Sprint(n)] != 1 {
			t.Errorf("descriptor %d is used %d times", n, users[fmt.Sprint(n)])
		}
		delete(users, fmt.Sprint(n))
	}
	if len(users) > 0 {
		t.Errorf("descriptors that nobody hands over: %v", users)
	}
}
