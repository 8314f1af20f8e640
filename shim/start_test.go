// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// node plays containerd: it runs `start` in bundles of its own.
type node struct {
	t         *testing.T
	socketDir string
	bundles   string
	env       []string
	options   *runcoptions.Options
	stays     bool // the process that `start` runs in becomes the shim
}

// eachWay tests a shim that stays, as the pod shim does, and one that is spawned,
// as the vm shim.
func eachWay(t *testing.T, test func(*testing.T, *node)) {
	for name, stays := range map[string]bool{"stays": true, "spawned": false} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.stays = stays
			test(t, n)
		})
	}
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	// Before the clean-up below, so that it goes after the shims in it.
	n := &node{t: t, socketDir: dir, bundles: t.TempDir()}
	t.Cleanup(func() {
		left, _ := os.ReadDir(dir)
		for _, e := range left {
			if path := filepath.Join(dir, e.Name()); !strings.Contains(e.Name(), ".") {
				n.stop(path)
			}
		}
		if left, _ = os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left beside the socket: %v", left)
		}
		_ = os.RemoveAll(dir)
	})
	return n
}

func (n *node) bundle(config string) string {
	n.t.Helper()
	dir, err := os.MkdirTemp(n.bundles, "")
	if err != nil {
		n.t.Fatal(err)
	}
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "log"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return dir
}

func inGroup(group string) string {
	text, _ := json.Marshal(group)
	return fmt.Sprintf(`{"ociVersion":"1.2.0","process":{"args":["a",1,null]},"annotations":{"io.kubernetes.cri.sandbox-id":%s},"linux":{}}`, text)
}

// command is `start` as containerd 2.3 and newer run it.
func (n *node) command(namespace, id, bundle string) *exec.Cmd {
	n.t.Helper()
	params := &bootstrapapi.BootstrapParams{
		InstanceID: id, Namespace: namespace, ContainerdVersion: "v2.4.2", SocketDir: &n.socketDir,
	}
	if n.options != nil {
		if err := params.AddExtension(n.options); err != nil {
			n.t.Fatal(err)
		}
	}
	input, err := proto.Marshal(params)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-namespace", namespace, "--address", "/run/test.sock",
		"-publish-binary", "/bin/true", "-id", id, "start")
	cmd.Dir = bundle
	// The race detector makes a process end late.
	cmd.Env = append(append(os.Environ(), roleVariable+"=shim", "GORACE=atexit_sleep_ms=0", "TTRPC_ADDRESS="), n.env...)
	if n.stays {
		cmd.Env = append(cmd.Env, stayVariable+"=1")
	}
	cmd.Stdin = bytes.NewReader(input)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	return cmd
}

// run also waits for the end of the pipes, so it hangs if the shim has them.
func run(cmd *exec.Cmd) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (n *node) start(namespace, id, bundle string) *bootstrapapi.BootstrapResult {
	n.t.Helper()
	stdout, stderr, err := run(n.command(namespace, id, bundle))
	if err != nil || stderr != "" {
		n.t.Fatalf("start %s: %v; stderr %q", id, err, stderr)
	}
	return parseReply(n.t, stdout)
}

func (n *node) startFails(cmd *exec.Cmd, want string) {
	n.t.Helper()
	stdout, stderr, err := run(cmd)
	if err == nil || stdout != "" || !strings.Contains(stderr, want) {
		n.t.Fatalf("start: %v; stdout %q, stderr %q; want an error with %q", err, stdout, stderr, want)
	}
}

// parseReply reads a reply as containerd does: as JSON, since it is no
// protobuf.
func parseReply(t *testing.T, stdout string) *bootstrapapi.BootstrapResult {
	t.Helper()
	r := new(bootstrapapi.BootstrapResult)
	if proto.Unmarshal([]byte(stdout), r) == nil {
		t.Fatalf("the reply %q is taken for protobuf", stdout)
	}
	r = new(bootstrapapi.BootstrapResult)
	if err := json.Unmarshal([]byte(stdout), r); err != nil {
		t.Fatalf("reply %q: %v", stdout, err)
	}
	return r
}

func socketOf(r *bootstrapapi.BootstrapResult) string {
	return strings.TrimPrefix(r.GetAddress(), "unix://")
}

// pid asks the shim for its pid.
func (n *node) pid(socket string) int {
	n.t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		n.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		n.t.Fatal(err)
	}
	return pid
}

// stop ends the shim and waits until it has gone.
func (n *node) stop(socket string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		_ = RemoveStaleSocket(socket)
		return
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	line, _ := r.ReadString('\n')
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	pidfd, pidErr := unix.PidfdOpen(pid, 0)
	if _, err := fmt.Fprintln(conn, "stop"); err != nil {
		n.t.Errorf("stop the shim: %v", err)
	}
	if answer, err := r.ReadString('\n'); err != nil || answer != "stopped\n" {
		n.t.Errorf("stop the shim: %q, %v", answer, err)
	}
	if pidErr == nil {
		awaitExit(n.t, pidfd)
	}
}

func awaitExit(t *testing.T, pidfd int) {
	t.Helper()
	defer func() { _ = unix.Close(pidfd) }()
	if got, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 10000); got != 1 {
		t.Errorf("the shim does not end: %v", err)
	}
}

func (n *node) kill(socket string) {
	n.t.Helper()
	pid := n.pid(socket)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	awaitExit(n.t, pidfd)
}

func TestStartReply(t *testing.T) { eachWay(t, testStartReply) }

func testStartReply(t *testing.T, n *node) {
	r := n.start("ns", "c1", n.bundle(""))
	if r.GetVersion() != 3 || r.GetProtocol() != "ttrpc" || filepath.Dir(socketOf(r)) != n.socketDir {
		t.Errorf("reply %v", r)
	}
	if len(r.GetExtensions()) != 1 {
		t.Fatalf("reply has extensions %v", r.GetExtensions())
	}
	m, err := r.GetExtensions()[0].GetValue().UnmarshalNew()
	if err != nil || m.ProtoReflect().Descriptor().FullName() != "containerd.types.MountCapabilities" {
		t.Errorf("extension %v: %v", m, err)
	}
	st, err := os.Stat(socketOf(r))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	if _, err := os.Stat(socketOf(r) + ".lock"); err == nil {
		t.Error("the lock is left behind")
	}
}

func TestStartedShimStandsAlone(t *testing.T) { eachWay(t, testStartedShimStandsAlone) }

func testStartedShimStandsAlone(t *testing.T, n *node) {
	n.env = []string{"GOMAXPROCS="}
	cmd := n.command("ns", "c1", n.bundle(""))
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	cmd.ExtraFiles = []*os.File{nil, nil, nil, theirs} // as 6, past the socket
	stdout, stderr, err := run(cmd)
	_ = theirs.Close()
	if err != nil {
		t.Fatalf("%v; %s", err, stderr)
	}
	if _, err := ours.Read(make([]byte, 1)); err == nil {
		t.Error("the shim wrote to a descriptor of containerd's")
	}
	pid := n.pid(socketOf(parseReply(t, stdout)))
	proc := fmt.Sprintf("/proc/%d", pid)
	for fd, want := range map[string]string{"0": "/dev/null", "1": "/dev/null", "2": filepath.Join(cmd.Dir, "log")} {
		if got, _ := os.Readlink(proc + "/fd/" + fd); got != want {
			t.Errorf("descriptor %s is %s, want %s", fd, got, want)
		}
	}
	if got, _ := os.Readlink(proc + "/cwd"); got != cmd.Dir {
		t.Errorf("it is in %s, want %s", got, cmd.Dir)
	}
	if group, err := unix.Getpgid(pid); group != pid {
		t.Errorf("its process group is %d, %v", group, err)
	}
	shown, _ := os.ReadFile(proc + "/cmdline")
	_, args, _ := strings.Cut(string(shown), "\x00")
	// Without CAP_SYS_RESOURCE empty words are shown in place of what is no more.
	args = strings.TrimRight(args, "\x00")
	if want := "-namespace\x00ns\x00-id\x00c1\x00-address\x00/run/test.sock"; args != want {
		t.Errorf("its command line is %q, want %q", args, want)
	}
	env, _ := os.ReadFile(proc + "/environ")
	for _, want := range []string{"GOMAXPROCS=2", "GOGC=50", "MALLOC_ARENA_MAX=1"} {
		if !n.stays && !bytes.Contains(env, []byte("\x00"+want+"\x00")) {
			t.Errorf("its environment lacks %s", want)
		}
	}
	own, err := readOOMScore("self")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readOOMScore(strconv.Itoa(pid)); got != min(own+1, maxOOMScore) {
		t.Errorf("its OOM score is %d, %v; ours is %d", got, err, own)
	}
}

// What a shim with mounts of its own mounts stays with it, and what the host
// mounts later comes to it: its mounts are slaves of the host's, and peers of
// none.
func TestOwnMounts(t *testing.T) {
	dir := t.TempDir()
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_SHARED} {
		if err := unix.Mount(dir, dir, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	n := newNode(t)
	start := func(id, ownMounts string) (mountinfo string, own bool) {
		n.env = []string{ownMountsVariable + "=" + ownMounts}
		pid := n.pid(socketOf(n.start("ns", id, n.bundle(""))))
		ours, err := os.Readlink("/proc/self/ns/mnt")
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("/proc/%d/mountinfo", pid), theirs != ours
	}
	mountinfo, own := start("c1", "1")
	if !own {
		t.Fatal("the shim is in the host's mount namespace")
	}
	late := filepath.Join(dir, "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("late", late, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile(mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mounts), " "+late+" ") {
		t.Error("the shim does not see what the host has mounted since")
	}
	if strings.Contains(string(mounts), " shared:") {
		t.Errorf("what the shim mounts is seen on the host:\n%s", mounts)
	}
	if _, own := start("c2", ""); own {
		t.Error("a shim that did not ask for it has mounts of its own")
	}
}

func TestStartJoins(t *testing.T) { eachWay(t, testStartJoins) }

func testStartJoins(t *testing.T, n *node) {
	first := n.start("ns", "sb", n.bundle(inGroup("sb")))
	pid := n.pid(socketOf(first))
	second := n.start("ns", "c2", n.bundle(inGroup("sb")))
	if second.GetAddress() != first.GetAddress() || n.pid(socketOf(second)) != pid || second.GetVersion() != 3 {
		t.Errorf("second start: %v; the first: %v", second, first)
	}
	for name, other := range map[string]*bootstrapapi.BootstrapResult{
		"another namespace":      n.start("other", "sb", n.bundle(inGroup("sb"))),
		"a group with a path":    n.start("other", "c4", n.bundle(inGroup("../ns/sb"))),
		"no group":               n.start("ns", "c5", n.bundle(`{"annotations":null}`)),
		"an empty group":         n.start("ns", "c6", n.bundle(inGroup(""))),
		"a group of odd letters": n.start("ns", "c7", n.bundle(inGroup("a/\x00\xff\n"+strings.Repeat("x", 1<<16)))),
	} {
		if other.GetAddress() == first.GetAddress() {
			t.Errorf("%s joined the first shim", name)
		}
	}
}

func TestStartLegacy(t *testing.T) { eachWay(t, testStartLegacy) }

func testStartLegacy(t *testing.T, n *node) {
	bundle := n.bundle(inGroup("sb"))
	// These callers name no directory: the default one is used.
	if err := os.MkdirAll(defaultSocketDir, 0o711); err != nil {
		t.Fatal(err)
	}
	options, err := proto.Marshal(&anypb.Any{TypeUrl: runcOptionsName, Value: []byte{0x48, 1}})
	if err != nil {
		t.Fatal(err)
	}
	namespace := "berth-test-" + strconv.Itoa(os.Getpid())
	cmd := n.command(namespace, "sb", bundle)
	cmd.Stdin = bytes.NewReader(options)
	stdout, stderr, err := run(cmd)
	if err != nil || stderr != "" {
		t.Fatalf("%v; %s", err, stderr)
	}
	first := parseReply(t, stdout)
	t.Cleanup(func() { n.stop(socketOf(first)) })
	if first.GetVersion() != 2 || filepath.Dir(socketOf(first)) != defaultSocketDir {
		t.Errorf("reply to options: %v", first)
	}
	cmd = n.command(namespace, "c2", bundle)
	cmd.Stdin = nil
	if stdout, stderr, err = run(cmd); err != nil || stderr != "" {
		t.Fatalf("%v; %s", err, stderr)
	}
	if r := parseReply(t, stdout); r.GetVersion() != 2 || r.GetAddress() != first.GetAddress() {
		t.Errorf("reply to an empty stdin: %v", r)
	}
	n.socketDir = defaultSocketDir
	if r := n.start(namespace, "c3", bundle); r.GetVersion() != 3 || r.GetAddress() != first.GetAddress() {
		t.Errorf("reply to a caller who knows version 3: %v", r)
	}
	n.socketDir = ""
}

func TestStartReportsVersionOfRunningShim(t *testing.T) {
	n := newNode(t)
	r := n.start("ns", "sb", n.bundle(inGroup("sb")))
	old := served{Runtime: testRuntime, Protocol: 2}
	if err := old.write(socketOf(r)); err != nil {
		t.Fatal(err)
	}
	if r := n.start("ns", "c2", n.bundle(inGroup("sb"))); r.GetVersion() != 2 {
		t.Errorf("joined a shim of version 2: %v", r)
	}
	other := served{Runtime: "io.containerd.other.v2", Protocol: 3}
	if err := other.write(socketOf(r)); err != nil {
		t.Fatal(err)
	}
	n.startFails(n.command("ns", "c3", n.bundle(inGroup("sb"))), "io.containerd.other.v2")
	if err := os.Remove(servedPath(socketOf(r))); err != nil {
		t.Fatal(err)
	}
	n.startFails(n.command("ns", "c4", n.bundle(inGroup("sb"))), "it is no "+testRuntime)
	n.pid(socketOf(r)) // the stranger is untouched
}

func TestStartReplacesStaleSocket(t *testing.T) { eachWay(t, testStartReplacesStaleSocket) }

func testStartReplacesStaleSocket(t *testing.T, n *node) {
	bundle := n.bundle("")
	first := n.start("ns", "c1", bundle)
	pid := n.pid(socketOf(first))
	n.kill(socketOf(first))
	second := n.start("ns", "c1", bundle)
	if second.GetAddress() != first.GetAddress() || n.pid(socketOf(second)) == pid {
		t.Errorf("after the shim was killed: %v", second)
	}
	n.kill(socketOf(second))
	if err := RemoveStaleSocket(socketOf(second)); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(n.socketDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRemoveStaleSocketSparesTheLiving(t *testing.T) {
	n := newNode(t)
	r := n.start("ns", "c1", n.bundle(""))
	if err := RemoveStaleSocket(socketOf(r)); err != nil {
		t.Fatal(err)
	}
	n.pid(socketOf(r))
}

// TestStartAtOnce has many starts of one group race each other, and the end of
// the shim that was there before.
func TestStartAtOnce(t *testing.T) { eachWay(t, testStartAtOnce) }

func testStartAtOnce(t *testing.T, n *node) {
	bundle := n.bundle(inGroup("sb"))
	first := n.start("ns", "sb", bundle)
	const starts = 12
	replies := make([]string, starts)
	stderrs := make([]string, starts)
	errs := make([]error, starts)
	commands := make([]*exec.Cmd, starts)
	for i := range starts {
		commands[i] = n.command("ns", fmt.Sprintf("c%d", i), bundle)
	}
	n.stop(socketOf(first))
	var all sync.WaitGroup
	for i := range starts {
		all.Go(func() { replies[i], stderrs[i], errs[i] = run(commands[i]) })
	}
	all.Wait()
	for i := range starts {
		if errs[i] != nil || replies[i] != replies[0] {
			t.Errorf("start %d: %v; %q; %q, the first: %q", i, errs[i], stderrs[i], replies[i], replies[0])
		}
	}
	if names, _ := filepath.Glob(filepath.Join(n.socketDir, "*")); len(names) != 2 {
		t.Errorf("beside one socket: %v", names)
	}
}

func TestStartFailsWithoutTraces(t *testing.T) { eachWay(t, testStartFailsWithoutTraces) }

func testStartFailsWithoutTraces(t *testing.T, n *node) {
	t.Run("truncated config.json", func(t *testing.T) {
		n.startFails(n.command("ns", "c1", n.bundle(`{"ociVersion":"1.2.0","annotations":{"a`)), "config.json")
	})
	t.Run("unknown options", func(t *testing.T) {
		cmd := n.command("ns", "c1", n.bundle(""))
		cmd.Stdin = strings.NewReader("\x0a\x09some.Type")
		n.startFails(cmd, `"some.Type"`)
	})
	t.Run("rubbish on stdin", func(t *testing.T) {
		cmd := n.command("ns", "c1", n.bundle(""))
		cmd.Stdin = strings.NewReader("rubbish")
		n.startFails(cmd, "neither BootstrapParams")
	})
	t.Run("id that is a path", func(t *testing.T) {
		n.startFails(n.command("ns", "../c1", n.bundle("")), "must not be a path")
	})
	t.Run("namespace that is a path", func(t *testing.T) {
		n.startFails(n.command("a/b", "c1", n.bundle("")), "must not be a path")
	})
	t.Run("ShimCgroup that is not there", func(t *testing.T) {
		n := *n
		n.options = &runcoptions.Options{ShimCgroup: "/berth-test-missing"}
		n.startFails(n.command("ns", "c1", n.bundle("")), "create it first")
	})
	t.Run("reply that cannot be written", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = full.Close() }()
		cmd := n.command("ns", "c1", n.bundle(""))
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), "reply to containerd") {
			t.Errorf("%v; %s", err, &stderr)
		}
		cwds, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range cwds {
			if dir, _ := os.Readlink(link); dir == cmd.Dir {
				t.Errorf("the shim is left behind: %s", link)
			}
		}
	})
	t.Run("path of the socket too long", func(t *testing.T) {
		n := *n
		n.socketDir = filepath.Join(n.socketDir, strings.Repeat("d", 60))
		n.startFails(n.command("ns", "c1", n.bundle("")), "at most 106")
	})
	if left, _ := os.ReadDir(n.socketDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestStartInShimCgroup(t *testing.T) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	mounts, err := cgroupMounts(f)
	if err != nil {
		t.Fatal(err)
	}
	name := "berth-test-" + strconv.Itoa(os.Getpid())
	made := 0
	for _, m := range mounts {
		dir := filepath.Join(m, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		made++
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		if filepath.Base(m) == "cpuset" || strings.Contains(m, "cpuset") {
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				text, _ := os.ReadFile(filepath.Join(m, file))
				_ = os.WriteFile(filepath.Join(dir, file), text, 0)
			}
		}
	}
	if made == 0 {
		t.Skip("no cgroup can be made here")
	}
	n := newNode(t) // its clean-up comes before that of the cgroups
	n.options = &runcoptions.Options{ShimCgroup: "/" + name}
	r := n.start("ns", "c1", n.bundle(""))
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", n.pid(socketOf(r))))
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(text, []byte("/"+name+"\n")); got != made {
		t.Errorf("the shim is in %d of %d cgroups:\n%s", got, made, text)
	}

	n.stays = true
	n.options, n.env = nil, []string{cgroupVariable + "=/" + name, groupVariable + "=node", onePodVariable + "=1"}
	r = n.start("ns", "c2", n.bundle(""))
	if text, err = os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", n.pid(socketOf(r)))); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(text, []byte("/"+name+"\n")); got != made {
		t.Errorf("the shim is in %d of %d cgroups that the configuration names:\n%s", got, made, text)
	}
	if s, err := readServed(socketOf(r), testRuntime); err != nil || s.Group != "" {
		t.Errorf("a shim of one pod serves %+v, %v", s, err)
	}
}

func TestStartWithCoreScheduling(t *testing.T) { eachWay(t, testStartWithCoreScheduling) }

func testStartWithCoreScheduling(t *testing.T, n *node) {
	n.env = []string{"SCHED_CORE=1"}
	cmd := n.command("ns", "c1", n.bundle(""))
	stdout, stderr, err := run(cmd)
	if err != nil {
		if !strings.Contains(stderr, "SCHED_CORE is set, but") {
			t.Fatalf("%v; %s", err, stderr)
		}
		t.Skipf("core scheduling: %s", stderr)
	}
	pid := n.pid(socketOf(parseReply(t, stdout)))
	if cookie := schedCookie(t, pid); cookie == 0 || cookie == schedCookie(t, 0) {
		t.Errorf("the shim's cookie is %d", cookie)
	}
}

// schedCookie is the core scheduling cookie of a process, 0 for this one.
func schedCookie(t *testing.T, pid int) uint64 {
	t.Helper()
	var cookie uint64
	if err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, uintptr(pid), 0, uintptr(unsafe.Pointer(&cookie))); err != nil {
		t.Fatal(err)
	}
	return cookie
}

func TestRunByHand(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=shim")
	stdout, stderr, err := run(cmd)
	if cmd.ProcessState.ExitCode() != 2 || stdout != "" || !strings.Contains(stderr, "containerd runs it") {
		t.Errorf("%v; %q, %q", err, stdout, stderr)
	}
	cmd = exec.Command("/proc/self/exe", "-namespace", "ns", "-id", "x")
	cmd.Env = append(os.Environ(), roleVariable+"=shim")
	if _, stderr, _ := run(cmd); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(stderr, "containerd runs it") {
		t.Errorf("without a socket: %q", stderr)
	}
	cmd = exec.Command("/proc/self/exe", "--help")
	cmd.Env = append(os.Environ(), roleVariable+"=shim")
	if stdout, stderr, err := run(cmd); err != nil || stderr != "" || !strings.Contains(stdout, testRuntime) {
		t.Errorf("--help: %v; %q, %q", err, stdout, stderr)
	}
}
