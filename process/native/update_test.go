// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// settings are the files of a cgroup that an update may change, of v1 and of v2.
var settings = []string{
	"cpu.cfs_*_us", "cpu.shares", "cpu.idle", "cpu.weight", "cpu.max*", "cpu.rt_*_us", "cpuset.cpus", "cpuset.mems",
	"memory.*limit_in_bytes", "memory.max", "memory.low", "memory.high", "memory.swap.max", "pids.max",
	"blkio.*weight*", "blkio.throttle.*_device", "io.weight", "io.bfq.weight", "io.max",
}

// The same updates, by the library and by the command line, leave the same state
// and the same cgroup, and fail with the same words.
func TestSameUpdate(t *testing.T) {
	needRunc(t)
	device := blockDevice(t)
	for name, updates := range map[string][]string{
		"nothing":               {`{}`},
		"period alone":          {`{"cpu":{"period":50000}}`},
		"quota alone":           {`{"cpu":{"quota":25000}}`},
		"period, then quota":    {`{"cpu":{"period":80000}}`, `{"cpu":{"quota":20000}}`},
		"both":                  {`{"cpu":{"period":40000,"quota":30000}}`},
		"no quota":              {`{"cpu":{"quota":-1}}`},
		"quota after nothing":   {`{}`, `{"cpu":{"quota":20000}}`},
		"burst":                 {`{"cpu":{"burst":10000}}`},
		"shares":                {`{"cpu":{"shares":2048}}`},
		"shares of none":        {`{"cpu":{"shares":0}}`},
		"idle":                  {`{"cpu":{"idle":1}}`},
		"idle and back":         {`{"cpu":{"idle":1}}`, `{"cpu":{"idle":0,"shares":300}}`},
		"realtime":              {`{"cpu":{"realtimePeriod":900000,"realtimeRuntime":0}}`},
		"cpuset":                {`{"cpu":{"cpus":"0","mems":"0"}}`},
		"cpuset, then another":  {`{"cpu":{"cpus":"0"}}`, `{"cpu":{"shares":100}}`},
		"cpu that is not there": {`{"cpu":{"cpus":"4000"}}`, `{"cpu":{"shares":100}}`},
		"memory":                {`{"memory":{"limit":134217728,"reservation":33554432}}`},
		"no memory limit":       {`{"memory":{"limit":-1}}`},
		"swap":                  {`{"memory":{"limit":67108864,"swap":134217728}}`},
		"swap, then no limit":   {`{"memory":{"limit":67108864,"swap":134217728}}`, `{"memory":{"limit":-1}}`},
		"check, then not":       {`{"memory":{"limit":67108864,"checkBeforeUpdate":true}}`, `{"memory":{"limit":50331648}}`},
		"no swap limit":         {`{"memory":{"swap":-1}}`},
		"less swap than memory": {`{"memory":{"limit":67108864,"swap":1048576}}`, `{"memory":{"limit":50331648}}`},
		"memory in use":         {`{"memory":{"limit":4096,"checkBeforeUpdate":true}}`, `{"memory":{"limit":50331648}}`},
		"kernel memory":         {`{"memory":{"kernel":33554432}}`},
		"pids":                  {`{"pids":{"limit":77}}`},
		"no pids limit":         {`{"pids":{"limit":-1}}`},
		"pids of none":          {`{"pids":{"limit":0}}`},
		"pids left out":         {`{"pids":{"limit":77}}`, `{"cpu":{"shares":100}}`},
		"null":                  {`{"pids":{"limit":77},"blockIO":{}}`, `{"network":null,"unified":null}`},
		"weight":                {`{"blockIO":{"weight":500}}`},
		"leaf weight":           {`{"blockIO":{"leafWeight":500}}`},
		"weight of a device":    {`{"blockIO":{"weightDevice":[{` + device + `,"weight":300}]}}`},
		"throttles": {`{"blockIO":{"throttleReadBpsDevice":[{` + device + `,"rate":1048576}],"throttleWriteBpsDevice":[{` + device + `,"rate":2097152}],` +
			`"throttleReadIOPSDevice":[{` + device + `,"rate":100}],"throttleWriteIOPSDevice":[{` + device + `,"rate":200}]}}`},
		"throttle, then another": {`{"blockIO":{"throttleReadBpsDevice":[{` + device + `,"rate":1048576}]}}`,
			`{"blockIO":{"throttleReadBpsDevice":[{` + device + `,"rate":4194304},{` + device + `,"rate":3145728}]}}`},
		"unified":         {`{"unified":{"memory.high":"50331648"}}`, `{"cpu":{"shares":100}}`},
		"unified unknown": {`{"unified":{"memory.none":"1"}}`},
		"not updated":     {`{"hugepageLimits":[{"pageSize":"2MB","limit":2097152}],"devices":[{"allow":false,"access":"rwm"}]}`},
		"of no type":      {`{"cpu":{"shares":"many"}}`, `{"pids":{"limit":55}}`},
	} {
		t.Run(strings.NewReplacer(" ", "-", ",", "").Replace(name), func(t *testing.T) {
			b := newBox(t, "sleep 1000")
			fill(b.spec)
			b.spec.Hooks, b.spec.Linux.Seccomp = nil, nil
			command := b.updated(b.cli(), updates)
			native := b.updated(b.driver, updates)
			wantSame(t, "", command, native)
		})
	}
}

type updater interface {
	Update(context.Context, string, []byte) error
}

// usage is what a message has of the moment.
var usage = regexp.MustCompile(`usage:? \d+`)

// updated is what is to be seen of a container after updates, and after those
// that went on; it is removed again.
func (b *box) updated(d updater, updates []string) map[string]any {
	b.Helper()
	p, err := b.tryCreate(nil)
	b.must(err)
	seen := map[string]any{"before": b.resources()}
	for i, update := range updates {
		step := map[string]any{"error": ""}
		if err := d.Update(b.Context(), b.id, []byte(update)); err != nil {
			step["error"] = usage.ReplaceAllString(err.Error(), "usage")
		}
		step["resources"] = b.resources()
		seen[strings.Repeat("then ", i)+update] = step
	}
	b.kill(p)
	b.must(b.driver.Delete(b.Context(), b.id, true))
	return seen
}

// resources are those in a container's state, and the settings of its cgroups.
func (b *box) resources() map[string]any {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.driver.Root, b.id, "state.json"))
	b.must(err)
	var state struct {
		Config struct {
			Cgroups map[string]any `json:"cgroups"`
		} `json:"config"`
	}
	b.must(json.Unmarshal(data, &state))
	files := map[string]any{}
	for _, dir := range b.cgroups() {
		for _, setting := range settings {
			found, err := filepath.Glob(filepath.Join(dir, setting))
			b.must(err)
			for _, file := range found {
				text, err := os.ReadFile(file)
				if err != nil { // some may not be read by anybody
					text = []byte(err.Error())
				}
				files[file] = string(text)
			}
		}
	}
	if len(state.Config.Cgroups) == 0 || len(files) < 5 {
		b.Fatalf("the state has the cgroups %v, and their files are %v", state.Config.Cgroups, files)
	}
	return map[string]any{"state": state.Config.Cgroups, "files": files, "unit": b.unit()}
}

// An update leaves the device rules alone: others, as what hands out GPUs, have changed them.
func TestUpdateLeavesDevices(t *testing.T) {
	b := newBox(t, "sleep 1000")
	dir := filepath.Join("/sys/fs/cgroup/devices", b.cgroup())
	if _, err := os.Stat("/sys/fs/cgroup/devices/devices.allow"); err != nil {
		t.Skip("cgroup v1 has no devices controller here, whose rules can be read")
	}
	b.spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	p := b.run(nil)
	const rule = "c 77:78 rw"
	b.must(os.WriteFile(filepath.Join(dir, "devices.allow"), []byte(rule), 0))
	b.must(b.driver.Update(t.Context(), b.id, []byte(`{"pids":{"limit":77}}`)))
	rules, err := os.ReadFile(filepath.Join(dir, "devices.list"))
	b.must(err)
	if !strings.Contains(string(rules), rule+"\n") {
		t.Errorf("the rule is gone: %s", rules)
	}
	b.kill(p)
}

// An update with null for an object, which the command line does not survive, is
// one that leaves it out.
func TestUpdateOfNull(t *testing.T) {
	b := newBox(t, "sleep 1000")
	fill(b.spec)
	b.spec.Hooks, b.spec.Linux.Seccomp = nil, nil
	const left, null = `{"unified":null}`, `{"memory":null,"cpu":null,"blockIO":null,"pids":null}`
	wantSame(t, "", b.updated(b.driver, []string{left})[left], b.updated(b.driver, []string{null})[null])
}

// blockDevice is one of this machine that can be throttled, as a part of JSON.
func blockDevice(t *testing.T) string {
	t.Helper()
	devices, err := filepath.Glob("/sys/block/*/dev")
	if err != nil || len(devices) == 0 {
		t.Skipf("this machine has no block device: %v", err)
	}
	number, err := os.ReadFile(devices[0])
	if err != nil {
		t.Fatal(err)
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(number)), ":")
	return `"major":` + major + `,"minor":` + minor
}
