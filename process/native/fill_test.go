// SPDX-License-Identifier: Apache-2.0

package native

import specs "github.com/opencontainers/runtime-spec/specs-go"

// fill makes a specification of what containerd and the CRI write into one.
func fill(s *specs.Spec) {
	limit, shares, quota, period, pids := int64(64<<20), uint64(512), int64(50000), uint64(100000), int64(100)
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	adj := 500
	s.Hostname = "box"
	s.Annotations = map[string]string{"io.kubernetes.cri.container-type": "container"}
	s.Process.NoNewPrivileges = true
	s.Process.OOMScoreAdj = &adj
	s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 2000}}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps, Inheritable: caps, Ambient: caps}
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 512, Soft: 256}}
	s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true", Args: []string{"true"}, Env: []string{"A=b"}}}}
	s.Linux.MaskedPaths = []string{"/proc/kcore", "/proc/timer_list", "/proc/none"}
	s.Linux.ReadonlyPaths = []string{"/proc/sys", "/proc/bus"}
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	s.Linux.Resources = &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids},
		CPU:     &specs.LinuxCPU{Shares: &shares, Quota: &quota, Period: &period},
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
	}
	s.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"keyctl", "add_key"}, Action: specs.ActErrno}},
	}
}
