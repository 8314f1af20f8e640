// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"berth/configs"
	"berth/hooks"
	"berth/sandbox"
	"berth/shim"
)

// benched names the directory of a shim that this program is to be.
const benched = "BERTH_BENCHED_SHIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(benched); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve is a shim by runc's library, which says what it has allocated for each line that it
// is given.
func serve(dir string) error {
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	go func() {
		lines := bufio.NewReader(os.Stdin)
		var m runtime.MemStats
		for {
			if _, err := lines.ReadSlice('\n'); err != nil {
				return
			}
			runtime.ReadMemStats(&m)
			fmt.Printf("%d %d\n", m.Mallocs, m.TotalAlloc)
		}
	}()
	runtimes := New(os.Getenv("PATH"), configured(configs.Native, nil))
	parts := shim.Parts{
		Runtime: func(c shim.RuntimeConfig) (sandbox.Runtime, error) {
			c.Options.Root = filepath.Join(dir, "runc")
			return runtimes.New(c)
		},
		Hooks: func(shim.HooksConfig) hooks.Chain { return hooks.Chain{hooks.Sanity{}} },
	}
	return parts.Serve(context.Background(), shim.ServeConfig{Listener: l, Identity: shim.Identity{
		Namespace: "bench", ID: "b", Bundle: filepath.Join(dir, "b"), TTRPCAddress: filepath.Join(dir, "events"), SocketPath: socket,
	}})
}

// events takes them as containerd does.
type events struct{}

func (events) Forward(context.Context, *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// BenchmarkAllocations counts what a shim allocates for each call, in a process of its own
// that serves real ones, over containers of runc's library: lives of one container in a
// shim that has had some. What comes after an answer counts to the next call.
func BenchmarkAllocations(b *testing.B) {
	s := newBenched(b)
	calls := []string{"create", "start", "exec", "next-exec", "state", "stats", "kill", "delete"}
	sums := map[string]allocated{}
	for range 3 {
		s.life(func(string, allocated) {})
	}
	lives := 0
	for b.Loop() {
		lives++
		s.life(func(call string, a allocated) {
			sum := sums[call]
			sum.objects += a.objects
			sum.bytes += a.bytes
			sums[call] = sum
		})
	}
	for _, call := range calls {
		b.ReportMetric(float64(sums[call].objects)/float64(lives), call+"-allocs")
		b.ReportMetric(float64(sums[call].bytes)/float64(lives)/1024, call+"-KiB")
	}
}

type allocated struct{ objects, bytes uint64 }

type benchedShim struct {
	*testing.B
	dir    string
	stdin  *os.File
	stdout *bufio.Reader
	client *ttrpc.Client
	ask    allocated // what it costs to ask
}

func newBenched(b *testing.B) *benchedShim {
	if os.Geteuid() != 0 {
		b.Skip("not root: namespaces and cgroups cannot be made")
	}
	dir, err := os.MkdirTemp("", "bd")
	s := &benchedShim{B: b, dir: dir}
	s.must(err)
	b.Cleanup(func() { s.must(os.RemoveAll(dir)) })
	s.bundle()
	server, err := ttrpc.NewServer()
	s.must(err)
	eventsapi.RegisterTTRPCEventsService(server, events{})
	l, err := net.Listen("unix", filepath.Join(dir, "events"))
	s.must(err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), l) }()
	b.Cleanup(func() { s.must(server.Close()); <-served })

	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{benched + "=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stderr = os.Stderr
	in, out, err := os.Pipe()
	s.must(err)
	cmd.Stdin, s.stdin = in, out
	stdout, err := cmd.StdoutPipe()
	s.must(err)
	s.stdout = bufio.NewReader(stdout)
	s.must(cmd.Start())
	s.must(in.Close())
	s.total() // it listens
	conn, err := net.Dial("unix", filepath.Join(dir, "s"))
	s.must(err)
	s.client = ttrpc.NewClient(conn)
	b.Cleanup(func() {
		s.call("Shutdown", &task.ShutdownRequest{ID: "b"}, &emptypb.Empty{})
		s.must(cmd.Wait())
		s.must(s.stdin.Close())
	})
	s.total()
	before := s.total()
	after := s.total()
	s.ask = allocated{after.objects - before.objects, after.bytes - before.bytes}
	return s
}

func (s *benchedShim) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// bundle is of a container with what the CRI gives one.
func (s *benchedShim) bundle() {
	rootfs := filepath.Join(s.dir, "b", "rootfs")
	for _, dir := range []string{"bin", "proc", "dev"} {
		s.must(os.MkdirAll(filepath.Join(rootfs, dir), 0o755))
	}
	busybox, err := os.ReadFile("/bin/busybox")
	s.must(err)
	s.must(os.WriteFile(filepath.Join(rootfs, "bin/busybox"), busybox, 0o755))
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	limit := int64(64 << 20)
	spec, err := json.Marshal(specs.Spec{
		Version: "1.2.0", Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args: []string{"/bin/busybox", "sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
		},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}},
		Linux: &specs.Linux{
			CgroupsPath: fmt.Sprintf("/berth-bench-%d", os.Getpid()),
			Resources:   &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			MaskedPaths: []string{"/proc/kcore", "/proc/timer_list"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	})
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.dir, "b", "config.json"), spec, 0o600))
}

// total is what the shim has allocated so far.
func (s *benchedShim) total() (a allocated) {
	s.Helper()
	_, err := s.stdin.WriteString("\n")
	s.must(err)
	_, err = fmt.Fscan(s.stdout, &a.objects, &a.bytes)
	s.must(err)
	return a
}

func (s *benchedShim) call(method string, request, response any) {
	s.Helper()
	if err := s.client.Call(context.Background(), "containerd.task.v3.Task", method, request, response); err != nil {
		s.Fatalf("%s: %v", method, err)
	}
}

// life is that of a container with two execs.
func (s *benchedShim) life(note func(string, allocated)) {
	before := s.total()
	done := func(call string) {
		after := s.total()
		note(call, allocated{after.objects - before.objects - s.ask.objects, after.bytes - before.bytes - s.ask.bytes})
		before = after
	}
	exit := &task.WaitResponse{}
	process, err := json.Marshal(specs.Process{Args: []string{"/bin/busybox", "true"}, Cwd: "/", Env: []string{"PATH=/bin"}})
	s.must(err)
	s.call("Create", &task.CreateTaskRequest{ID: "b", Bundle: filepath.Join(s.dir, "b")}, &task.CreateTaskResponse{})
	done("create")
	s.call("Start", &task.StartRequest{ID: "b"}, &task.StartResponse{})
	done("start")
	for _, which := range []string{"exec", "next-exec"} {
		s.call("Exec", &task.ExecProcessRequest{ID: "b", ExecID: "e", Spec: &anypb.Any{Value: process}}, &emptypb.Empty{})
		s.call("Start", &task.StartRequest{ID: "b", ExecID: "e"}, &task.StartResponse{})
		s.call("Wait", &task.WaitRequest{ID: "b", ExecID: "e"}, exit)
		s.call("Delete", &task.DeleteRequest{ID: "b", ExecID: "e"}, &task.DeleteResponse{})
		done(which)
	}
	s.call("State", &task.StateRequest{ID: "b"}, &task.StateResponse{})
	done("state")
	s.call("Stats", &task.StatsRequest{ID: "b"}, &task.StatsResponse{})
	done("stats")
	s.call("Kill", &task.KillRequest{ID: "b", Signal: uint32(unix.SIGKILL)}, &emptypb.Empty{})
	s.call("Wait", &task.WaitRequest{ID: "b"}, exit)
	done("kill")
	s.call("Delete", &task.DeleteRequest{ID: "b"}, &task.DeleteResponse{})
	done("delete")
}
