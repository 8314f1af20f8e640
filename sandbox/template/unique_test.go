// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
	"berth/sandbox/vm"
)

// run has a clone's agent run a script of the shell, with the guest's own
// namespaces, and returns what it writes.
func (r *rig) run(m *vm.Machine, script string) string {
	r.Helper()
	session := mux.Host(m.Transport(), mux.Config{})
	r.must(session.Handshake(r.ctx))
	defer func() { _ = session.Close() }()
	control, err := session.Open(r.ctx, agentapi.ControlStream, agentapi.ControlWindow)
	r.must(err)
	_, err = session.Open(r.ctx, agentapi.EventStream, agentapi.EventWindow)
	r.must(err)
	client := ttrpc.NewClient(control)
	defer func() { _ = client.Close() }()
	agent := agentapi.NewAgentClient(client)
	out, err := session.Open(r.ctx, agentapi.FirstStdioStream, agentapi.StdioWindow)
	r.must(err)
	all := []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"}
	spec, err := json.Marshal(&specs.Spec{
		Version: "1.2.0", Root: &specs.Root{Path: agentapi.ShareDir},
		Process: &specs.Process{
			Args: []string{"/busybox", "sh", "-c", script}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all},
		},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind"}}, {Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind"}}},
		Linux:  &specs.Linux{CgroupsPath: "/c", Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	})
	r.must(err)
	_, err = agent.Create(r.ctx, &agentapi.CreateRequest{
		Container: "c", Process: 1, Spec: spec, Stdio: &agentapi.Stdio{Stdout: agentapi.FirstStdioStream},
	})
	r.must(err)
	_, err = agent.Start(r.ctx, &agentapi.ContainerRequest{Container: "c"})
	r.must(err)
	data, err := io.ReadAll(out)
	r.must(err)
	return string(data)
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// rootfs is a share with the one program that a script needs.
func (r *rig) rootfs() string {
	r.Helper()
	dir := shared(r.TB)
	program, err := os.ReadFile("/bin/busybox")
	r.must(err)
	r.must(os.WriteFile(filepath.Join(dir, "busybox"), program, 0o755))
	for _, name := range []string{"proc", "dev"} {
		r.must(os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	return dir
}

// old is a template with the clock of long ago.
func (r *rig) old() *vm.Template {
	r.Helper()
	m, err := vm.BootTemplate(r.ctx, r.Config, false)
	r.must(err)
	defer func() { r.must(m.Close(context.Background())) }()
	r.must(talk(r.ctx, m.Transport(), func(ctx context.Context, agent agentapi.AgentService) error {
		_, err := agent.Renew(ctx, &agentapi.RenewRequest{
			Time: time.Now().Add(-1000 * time.Hour).UnixNano(), Entropy: make([]byte, entropySize), MachineId: make([]byte, 16), Hostname: "template",
		})
		return err
	}))
	r.must(talk(r.ctx, m.Transport(), nothing))
	tpl, err := m.Record(r.ctx)
	r.must(err)
	r.Cleanup(tpl.Close)
	return tpl
}

// What two clones have is not the same, but for what cannot be otherwise.
func TestClonesAreUnique(t *testing.T) {
	r := newRig(t)
	tpl := r.old()
	r.Share = r.rootfs()
	script := strings.Join([]string{
		"export PATH=/", "b=/busybox",
		"echo boot_id $($b cat /proc/sys/kernel/random/boot_id)",
		"echo uuid $($b cat /proc/sys/kernel/random/uuid)",
		"echo random $($b head -c 32 /dev/urandom | $b md5sum)",
		"echo machine-id $($b cat /proc/1/root/etc/machine-id)",
		"echo agent $($b cat /proc/1/maps | $b grep stack)",
		"echo seed $($b md5sum /proc/1/auxv)",
		"echo vdso $($b grep vdso /proc/1/maps)",
		"echo time $($b date +%s)",
		"echo hostname $($b cat /proc/sys/kernel/hostname)",
		"echo arguments $($b tr '\\0' ' ' < /proc/1/cmdline)",
	}, "\n")
	var seen []map[string]string
	for _, name := range []string{"one", "two"} {
		before := time.Now().Unix()
		m, err := Clone(r.ctx, r.Config, tpl, name)
		r.must(err)
		said := make(map[string]string)
		for line := range strings.Lines(r.run(m, script)) {
			what, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			said[what] = value
		}
		after := time.Now().Unix()
		r.must(m.Close(context.Background()))
		t.Log(said)
		if sec, err := strconv.ParseInt(said["time"], 10, 64); err != nil || sec < before || sec > after {
			t.Errorf("the clock of clone %s says %q (%v), between %d and %d", name, said["time"], err, before, after)
		}
		if said["hostname"] != name {
			t.Errorf("clone %s is called %q", name, said["hostname"])
		}
		if !strings.Contains(said["arguments"], portFlag) {
			t.Errorf("the agent of clone %s has the arguments %q: it has not begun anew", name, said["arguments"])
		}
		seen = append(seen, said)
	}
	for what, value := range seen[0] {
		if what != "arguments" && what != "time" && (value == "" || value == seen[1][what]) {
			t.Errorf("%s is %q in one clone and %q in another", what, value, seen[1][what])
		}
	}
}

// portFlag is how an agent has its port that has begun anew.
const portFlag = "-port="
