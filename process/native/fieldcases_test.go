// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fieldCase is a specification in which some fields are set.
type fieldCase struct {
	name    string
	edit    func(*box)
	exec    func(*specs.Process) // makes an exec differ from the init
	look    string               // what else its processes print of themselves
	seen    string               // what they print then
	entered string               // what the exec prints, if not that
	refused string               // the words in which it is not made

	mayRefuse bool // it hangs on the machine whether it is made
}

func ptr[T any](v T) *T { return &v }

// scheduling is nice, priority and policy of proc_pid_stat(5).
const scheduling = "cut -d ' ' -f 18,19,40,41 /proc/$$/stat"

func scheduled(s specs.Scheduler) func(*box) {
	return func(b *box) {
		b.spec.Process.Scheduler = &s
		caps := []string{"CAP_SYS_NICE"}
		b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	}
}

var fieldCases = []fieldCase{
	{name: "CRI", edit: func(b *box) { fill(b.spec) }},
	{name: "affinity of execs", entered: "\nCpus_allowed_list:\t0\n", edit: func(b *box) {
		b.spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
	}},
	{name: "affinity of one exec", entered: "\nCpus_allowed_list:\t0\n", edit: func(*box) {}, exec: func(p *specs.Process) {
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0"}
	}},
	{name: "affinity of nothing", refused: "bad CPUAffinity.Initial", edit: func(b *box) {
		b.spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "none"}
	}},
	{name: "nice", look: scheduling, seen: "\n25 5 0 0\n", edit: scheduled(specs.Scheduler{Policy: specs.SchedOther, Nice: 5})},
	{name: "niceness of an exec", look: scheduling, entered: "\n27 7 0 0\n", edit: scheduled(specs.Scheduler{Policy: specs.SchedOther, Nice: 5}), exec: func(p *specs.Process) {
		p.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 7}
	}},
	{name: "batch", look: scheduling, seen: " 3\n", edit: scheduled(specs.Scheduler{Policy: specs.SchedBatch, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}})},
	{name: "realtime of no bandwidth", mayRefuse: true, look: scheduling, edit: scheduled(specs.Scheduler{Policy: specs.SchedRR, Priority: 3})},
	{name: "deadline", mayRefuse: true, edit: scheduled(specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e7, Period: 1e7})},
	{name: "priority of the wrong policy", refused: "scheduler.priority can only be specified", edit: scheduled(specs.Scheduler{Policy: specs.SchedOther, Priority: 3})},
	{name: "IO priority", look: "ionice -p $$", seen: "best-effort: prio 7\n", edit: func(b *box) {
		b.spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 7}
	}},
	{name: "IO priority of an exec", look: "ionice -p $$", entered: "best-effort: prio 6\n", edit: func(*box) {}, exec: func(p *specs.Process) {
		p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	}},
	{name: "IO priority that is none", refused: "invalid ioPriority.Priority: 8", edit: func(b *box) {
		b.spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
	}},
	{name: "personality", look: "uname -m", seen: "i686\n", edit: func(b *box) {
		b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	}},
	{name: "personality with flags", look: "uname -m", seen: "x86_64\n", edit: func(b *box) {
		b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"ADDR_NO_RANDOMIZE"}}
	}},
	{name: "time offsets", look: "cat /proc/self/timens_offsets", seen: "86400         7\n", edit: func(b *box) {
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 86400, Nanosecs: 7}}
	}},
	{name: "time offsets without a namespace", refused: "time namespace isn't enabled", edit: func(b *box) {
		b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
	}},
	{name: "memory policy", look: "head -n 1 /proc/self/numa_maps | cut -d ' ' -f 2", seen: "bind=static:0\n", edit: func(b *box) {
		b.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
	}},
	{name: "memory policy of no nodes", refused: "memory policy mode requires at least one node", edit: func(b *box) {
		b.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind}
	}},
	{name: "network device that is not there", refused: "netdev-none", edit: func(b *box) {
		b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"netdev-none": {Name: "eth0"}}
	}},
	{name: "RDT", refused: "intelRdt is specified in config, but Intel RDT is not enabled", edit: func(b *box) {
		b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{
			ClosID: "a", Schemata: []string{"L3:0=f"}, L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", EnableMonitoring: true,
		}
	}},
	{name: "recursive mount attributes", seen: "/mnt/below ro,noatime", edit: func(b *box) {
		outer := idmappable(b)
		b.must(os.Mkdir(filepath.Join(outer, "below"), 0o755))
		b.must(unix.Mount("tmpfs", filepath.Join(outer, "below"), "tmpfs", 0, "size=64k"))
		b.Cleanup(func() { b.must(unix.Unmount(filepath.Join(outer, "below"), 0)) })
		b.must(os.Mkdir(filepath.Join(b.rootfs, "mnt"), 0o755))
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
			Destination: "/mnt", Type: "bind", Source: outer, Options: []string{"rbind", "rro", "rnoatime", "rprivate"},
		})
	}},
	{name: "recursive idmapped mount", look: "ls -ln /mnt | undated", seen: " 100000 ", edit: func(b *box) {
		ids := append(otherIDs(b), specs.LinuxIDMapping{ContainerID: 30000, HostID: 5000, Size: 5})
		b.must(os.Mkdir(filepath.Join(b.rootfs, "mnt"), 0o755))
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
			Destination: "/mnt", Type: "bind", Source: idmappable(b), Options: []string{"rbind", "ridmap"}, UIDMappings: ids, GIDMappings: ids,
		})
	}},
	{name: "mount option of another system", refused: "bind mounts cannot have any filesystem-specific options applied", edit: func(b *box) {
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: "/tmp", Options: []string{"bind", "size=4"}})
	}},
	{name: "root", look: "touch /x 2>&1; cat /proc/sys/kernel/domainname", seen: "example.org\n", edit: func(b *box) {
		b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin/touch")))
		b.spec.Root.Readonly = true
		b.spec.Linux.RootfsPropagation = "rslave"
		b.spec.Hostname, b.spec.Domainname = "box", "example.org"
		b.spec.Process.User.Umask = ptr(uint32(0o027))
	}},
	{name: "devices", look: "ls -ln /dev/made /dev/block /dev/pipe | undated", seen: "crw-r-----", edit: func(b *box) {
		mode, id := fs.FileMode(0o640), ptr(uint32(12))
		b.spec.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/made", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: id, GID: id},
			{Path: "/dev/block", Type: "b", Major: 7, Minor: 99},
			{Path: "/dev/pipe", Type: "p"},
		}
		b.spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(5)), Access: "rw"},
		}}
	}},
	{name: "resources", edit: resources},
	{name: "unified", mayRefuse: true, edit: func(b *box) {
		b.spec.Linux.Resources = &specs.LinuxResources{Unified: map[string]string{"memory.high": "50331648"}}
	}},
	{name: "realtime in a cgroup", mayRefuse: true, edit: func(b *box) {
		b.spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: ptr(uint64(900000)), RealtimeRuntime: ptr(int64(0))}}
	}},
	{name: "huge pages", mayRefuse: true, edit: func(b *box) {
		b.spec.Linux.Resources = &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 2 << 20}}}
	}},
	{name: "network of cgroups", mayRefuse: true, edit: func(b *box) {
		b.spec.Linux.Resources = &specs.LinuxResources{Network: &specs.LinuxNetwork{
			ClassID: ptr(uint32(0x100001)), Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 3}},
		}}
	}},
	{name: "RDMA", mayRefuse: true, edit: func(b *box) {
		b.spec.Linux.Resources = &specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(9))}}}
	}},
	{name: "throttles", edit: func(b *box) {
		device := numberedDevice(b)
		limit := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: device, Rate: 1 << 20}}
		b.spec.Linux.Resources = &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{
			ThrottleReadBpsDevice: limit, ThrottleWriteBpsDevice: limit, ThrottleReadIOPSDevice: limit, ThrottleWriteIOPSDevice: limit,
		}}
	}},
	{name: "weights", mayRefuse: true, edit: func(b *box) {
		weight := ptr(uint16(300))
		b.spec.Linux.Resources = &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{
			Weight: weight, LeafWeight: weight,
			WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 7, Minor: 1}, Weight: weight, LeafWeight: weight}},
		}}
	}},
	{name: "namespace of another", edit: func(b *box) {
		for i := range b.spec.Linux.Namespaces {
			if b.spec.Linux.Namespaces[i].Type == specs.IPCNamespace {
				b.spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/ipc", os.Getpid())
			}
		}
	}},
	{name: "user namespace", edit: func(b *box) {
		ids := otherIDs(b)
		ids = append(ids, specs.LinuxIDMapping{ContainerID: 30000, HostID: ids[0].HostID + 30000, Size: 5})
		b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		for dir := b.rootfs; dir != os.TempDir(); dir = filepath.Dir(dir) {
			b.must(os.Chmod(dir, 0o755))
		}
	}},
	{name: "hooks", edit: func(b *box) {
		b.spec.Hooks = &specs.Hooks{}
		for _, kind := range hookKinds {
			*kind.of(b.spec.Hooks) = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 0"}, Env: []string{"PATH=/bin"}}}
		}
	}},
	{name: "terminal", refused: "cannot allocate tty if runc will detach without setting console socket", edit: func(b *box) {
		b.spec.Process.Terminal = true
		b.spec.Process.ConsoleSize = &specs.Box{Height: 30, Width: 100}
	}},
	{name: "AppArmor", mayRefuse: true, edit: func(b *box) { b.spec.Process.ApparmorProfile = "berth-none" }},
	{name: "SELinux", mayRefuse: true, edit: func(b *box) { b.spec.Process.SelinuxLabel = "system_u:system_r:container_t:s0" }},
	{name: "SELinux of mounts", mayRefuse: true, edit: func(b *box) { b.spec.Linux.MountLabel = "system_u:object_r:container_file_t:s0" }},
	{name: "seccomp", look: "uname -m 2>&1; grep ^Seccomp_filters /proc/self/status", edit: func(b *box) {
		b.spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, DefaultErrnoRet: nil, Architectures: []specs.Arch{specs.ArchX86_64},
			Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
			Syscalls: []specs.LinuxSyscall{{
				Names: []string{"uname"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(unix.EDOM)),
				Args: []specs.LinuxSeccompArg{{Index: 1, Value: 0xffff, ValueTwo: 3, Op: specs.OpMaskedEqual}},
			}},
		}
	}},
	{name: "seccomp that refuses", mayRefuse: true, edit: func(b *box) {
		b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: ptr(uint(unix.EDOM))}
	}},
	{name: "seccomp with an agent", edit: notified},
	{name: "no process", refused: "process property must not be empty", edit: func(b *box) { b.spec.Process = nil }},
	{name: "no directory", refused: "Cwd property must not be empty", edit: func(b *box) { b.spec.Process.Cwd = "" }},
	{name: "relative directory", refused: "Cwd must be an absolute path", edit: func(b *box) { b.spec.Process.Cwd = "bin" }},
	{name: "no arguments", refused: "args must not be empty", edit: func(b *box) { b.spec.Process.Args = nil }},
	{name: "limit that is none", refused: "wrong rlimit value: RLIMIT_NONE", edit: func(b *box) {
		b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONE"}}
	}},
	{name: "program that is none", refused: "no such file or directory", edit: func(b *box) { b.spec.Process.Args = []string{"/none"} }},
	{name: "sysctl of the host", refused: "is not in a separate kernel namespace", edit: func(b *box) {
		b.spec.Linux.Sysctl = map[string]string{"vm.swappiness": "1"}
	}},
}

// resources are those of one kind for cgroup v1 and v2.
func resources(b *box) {
	fill(b.spec)
	b.spec.Hooks, b.spec.Linux.Seccomp = nil, nil
	b.spec.Linux.Resources.Memory = &specs.LinuxMemory{
		Limit: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20)), Swap: ptr(int64(128 << 20)), Swappiness: ptr(uint64(10)),
		//lint:ignore SA1019 deprecated, and passed on all the same
		Kernel: ptr(int64(32 << 20)), KernelTCP: ptr(int64(16 << 20)),
		DisableOOMKiller: ptr(false), UseHierarchy: ptr(true), CheckBeforeUpdate: ptr(true),
	}
	b.spec.Linux.Resources.CPU = &specs.LinuxCPU{
		Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Burst: ptr(uint64(10000)), Period: ptr(uint64(100000)), Cpus: "0", Mems: "0", Idle: ptr(int64(0)),
	}
}

// numberedDevice is a block device of this machine neither of whose numbers is 0.
func numberedDevice(b *box) (d specs.LinuxBlockIODevice) {
	devices, err := filepath.Glob("/sys/block/*/dev")
	b.must(err)
	for _, device := range devices {
		number, err := os.ReadFile(device)
		b.must(err)
		if _, err := fmt.Sscanf(string(number), "%d:%d", &d.Major, &d.Minor); err == nil && d.Minor != 0 {
			return d
		}
	}
	b.Skip("this machine has no block device that can be throttled")
	return d
}

// notified has an agent take the notifications of a filter, which are of a call that nobody
// makes.
func notified(b *box) {
	path := filepath.Join(b.TempDir(), "agent")
	agent, err := net.Listen("unix", path)
	b.must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := agent.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 64<<10)) // a descriptor that comes with it is closed by the kernel
			_ = conn.Close()
		}
	}()
	b.Cleanup(func() { b.must(agent.Close()); <-done })
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "of the agent",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"vhangup"}, Action: specs.ActNotify}},
	}
}
