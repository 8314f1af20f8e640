// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	uuidA = "GPU-11111111-2222-3333-4444-555555555555"
	uuidB = "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	migA  = "MIG-01234567-89ab-cdef-0123-456789abcdef"
)

// plain and trusting are what configs.DefaultGPU says, and what an operator
// might make of it who lets a device plugin ask by environment.
var (
	plain    = Policy{EnvPlain: []string{"NVIDIA_VISIBLE_DEVICES"}, VolumeMounts: true}
	trusting = Policy{EnvKubernetes: []string{"NVIDIA_VISIBLE_DEVICES"}, VolumeMounts: true}
)

// part is one thing that a spec says.
type part func(*specs.Spec)

func spec(parts ...part) *specs.Spec {
	s := &specs.Spec{Version: "1.2.0", Process: &specs.Process{}, Annotations: map[string]string{}, Linux: &specs.Linux{}, Hooks: &specs.Hooks{}}
	for _, p := range parts {
		p(s)
	}
	return s
}

func env(entries ...string) part {
	return func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, entries...) }
}

func annotated(key, value string) part {
	return func(s *specs.Spec) { s.Annotations[key] = value }
}

// pod is a container of a pod, by the name "main".
func pod(s *specs.Spec) {
	annotated("io.kubernetes.cri.container-type", "container")(s)
	annotated("io.kubernetes.cri.container-name", "main")(s)
}

func sandbox(s *specs.Spec) { annotated("io.kubernetes.cri.container-type", "sandbox")(s) }

func mount(destination string) part {
	return mountOf("/dev/null", destination)
}

func mountOf(source, destination string) part {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Source: source, Destination: destination, Type: "bind"})
	}
}

func ask(id string) part { return mount("/var/run/nvidia-container-devices/" + id) }

func node(path string) part {
	return func(s *specs.Spec) { s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: path}) }
}

func hook(path string, args ...string) part {
	return func(s *specs.Spec) {
		s.Hooks.CreateContainer = append(s.Hooks.CreateContainer, specs.Hook{Path: path, Args: args})
	}
}

func index(n int) Selector { return Selector{Kind: SelectIndex, N: n} }

const ours = AnnotationPrefix + "gpu"

// want is a request with the capabilities that most have.
func want(source, asked string, devices ...Selector) Request {
	return Request{Source: source, Asked: asked, Devices: devices, Capabilities: DefaultCapabilities}
}

func with(r Request, change func(*Request)) *Request {
	change(&r)
	return &r
}

func same(r Request) *Request { return &r }

func TestParseRequest(t *testing.T) {
	all, byUUID := Selector{Kind: SelectAll}, Selector{Kind: SelectUUID, UUID: uuidA}
	envAll := want("environment NVIDIA_VISIBLE_DEVICES", "all", all)
	byMount := want("mounts below /var/run/nvidia-container-devices/", uuidA, byUUID)
	for name, c := range map[string]struct {
		policy Policy
		spec   *specs.Spec
		want   *Request
	}{
		"nothing":                     {plain, spec(env("PATH=/bin"), mountOf("/dev/null", "/x"), annotated("a/b", "all")), nil},
		"a spec without anything":     {plain, &specs.Spec{}, nil},
		"capabilities ask for no GPU": {plain, spec(env("NVIDIA_DRIVER_CAPABILITIES=all", "NVIDIA_REQUIRE_CUDA=?", "NVIDIA_GDS=enabled")), nil},
		"an image of before 2017":     {plain, spec(env("CUDA_VERSION=8.0.61")), nil},

		"env: all":                    {plain, spec(env("NVIDIA_VISIBLE_DEVICES=all")), &envAll},
		"env: void":                   {plain, spec(env("NVIDIA_VISIBLE_DEVICES=void")), nil},
		"env: void in a list":         {plain, spec(env("NVIDIA_VISIBLE_DEVICES=0, void,?")), nil},
		"env: empty":                  {plain, spec(env("NVIDIA_VISIBLE_DEVICES=")), nil},
		"env: commas alone":           {plain, spec(env("NVIDIA_VISIBLE_DEVICES=, ,")), nil},
		"env: a name without a value": {plain, spec(env("NVIDIA_VISIBLE_DEVICES")), nil},
		"env: a longer name":          {plain, spec(env("NVIDIA_VISIBLE_DEVICES_X=all")), nil},
		"env: none": {plain, spec(env("NVIDIA_VISIBLE_DEVICES=none")),
			with(want("environment NVIDIA_VISIBLE_DEVICES", "none"), func(r *Request) { r.NoDevices = true })},
		"env: indexes": {plain, spec(env("NVIDIA_VISIBLE_DEVICES=0, 2,0")), same(want("environment NVIDIA_VISIBLE_DEVICES", "0, 2,0", index(0), index(2)))},
		"env: of all kinds": {plain, spec(env("NVIDIA_VISIBLE_DEVICES=" + strings.ToUpper(uuidB) + "," + migA + ",1:3,mig:all")),
			same(want("environment NVIDIA_VISIBLE_DEVICES", strings.ToUpper(uuidB)+","+migA+",1:3,mig:all", Selector{Kind: SelectUUID, UUID: uuidB},
				Selector{Kind: SelectMIGUUID, UUID: migA}, Selector{Kind: SelectMIGIndex, N: 1, MIG: 3}, Selector{Kind: SelectMIGAll}))},
		"env: the last of a name counts": {plain, spec(env("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=all")), &envAll},
		"env: the last may be void":      {plain, spec(env("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void")), nil},
		"env: not in a pod":              {plain, spec(pod, env("NVIDIA_VISIBLE_DEVICES=all")), nil},
		"env: in a pod, where allowed":   {trusting, spec(pod, env("NVIDIA_VISIBLE_DEVICES=all")), &envAll},
		"env: allowed in pods alone":     {trusting, spec(env("NVIDIA_VISIBLE_DEVICES=all")), nil},
		"env: another name": {Policy{EnvKubernetes: []string{"PLUGIN_GPUS"}}, spec(pod, env("PLUGIN_GPUS="+uuidA, "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_GDS=enabled")),
			same(want("environment PLUGIN_GPUS", uuidA, byUUID))},
		"env: two names, the first is not set": {Policy{EnvPlain: []string{"PLUGIN_GPUS", "NVIDIA_VISIBLE_DEVICES"}}, spec(env("PLUGIN_GPUS=", "NVIDIA_VISIBLE_DEVICES=all")), &envAll},

		"mount":                       {plain, spec(ask(uuidA)), with(byMount, func(r *Request) { r.Remove = []int{0} })},
		"mount: in a pod":             {plain, spec(pod, mountOf("/dev/null", "/null"), ask(uuidA)), with(byMount, func(r *Request) { r.Remove = []int{1} })},
		"mount: above env":            {plain, spec(env("NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices"), ask(uuidA)), with(byMount, func(r *Request) { r.Remove = []int{0} })},
		"mount: void above env":       {plain, spec(env("NVIDIA_VISIBLE_DEVICES=all"), ask("void")), nil},
		"mount: not counted":          {Policy{}, spec(pod, ask(uuidA), ask("imex/1")), nil},
		"mount: of something else":    {plain, spec(mountOf("/dev/zero", "/var/run/nvidia-container-devices/all")), nil},
		"mount: elsewhere":            {plain, spec(mount("/var/run/nvidia-container-devices"), mount("/run/nvidia-container-devices/all")), nil},
		"mount: another vendor's CDI": {plain, spec(ask("cdi/amd.com/gpu/all")), nil},
		"mount: a channel alone":      {plain, spec(ask("imex/3")), nil},
		"mount: several": {plain, spec(ask("0"), mountOf("/a", "/a"), ask("cdi/nvidia.com/gpu/1"), ask("cdi/nvidia.com/mig/all"), ask("0")),
			with(want("mounts below /var/run/nvidia-container-devices/", "0,1,mig:all,0", index(0), index(1), Selector{Kind: SelectMIGAll}),
				func(r *Request) { r.Remove = []int{0, 2, 3, 4} })},

		"annotation: all":          {plain, spec(pod, annotated(ours, "all")), same(want("annotation "+ours, "all", all))},
		"annotation: count":        {plain, spec(pod, annotated(ours, "2")), same(want("annotation "+ours, "2", Selector{Kind: SelectCount, N: 2}))},
		"annotation: index":        {plain, spec(pod, annotated(ours, "index:0")), same(want("annotation "+ours, "index:0", index(0)))},
		"annotation: indexes":      {plain, spec(pod, annotated(ours, "index:0,2,0:1")), same(want("annotation "+ours, "index:0,2,0:1", index(0), index(2), Selector{Kind: SelectMIGIndex, MIG: 1}))},
		"annotation: gpu:mig":      {plain, spec(pod, annotated(ours, "0:1")), same(want("annotation "+ours, "0:1", Selector{Kind: SelectMIGIndex, MIG: 1}))},
		"annotation: uuid":         {plain, spec(pod, annotated(ours, uuidA)), same(want("annotation "+ours, uuidA, byUUID))},
		"annotation: none":         {trusting, spec(pod, annotated(ours, "none"), env("NVIDIA_VISIBLE_DEVICES=all"), ask("all")), nil},
		"annotation: empty":        {trusting, spec(pod, annotated(ours, ""), env("NVIDIA_VISIBLE_DEVICES=all")), nil},
		"annotation: above mounts": {plain, spec(pod, annotated(ours, "all"), ask(uuidA)), same(want("annotation "+ours, "all", all))},
		"annotation: of the container": {plain, spec(pod, annotated(ours, "all"), annotated(ours+".main", uuidA)),
			same(want("annotation "+ours+".main", uuidA, byUUID))},
		"annotation: none for the container": {plain, spec(pod, annotated(ours, "all"), annotated(ours+".main", "none")), nil},
		"annotation: of another container":   {plain, spec(pod, annotated(ours+".other", "all")), nil},
		"annotation: never for the sandbox": {trusting, spec(sandbox, annotated(ours, "?"), env("NVIDIA_VISIBLE_DEVICES=all"), ask("all"),
			annotated("cdi.k8s.io/a", "nvidia.com/gpu=0"), hook("/usr/bin/nvidia-cdi-hook")), nil},

		"CDI annotation":                 {plain, spec(pod, annotated("cdi.k8s.io/a", "nvidia.com/gpu=0"), annotated(ours, "all")), same(want("annotation cdi.k8s.io/a", "0", index(0)))},
		"CDI annotation: another vendor": {plain, spec(pod, annotated("cdi.k8s.io/a", "amd.com/gpu=0,x,,=")), nil},
		"CDI annotation: several": {plain, spec(pod, annotated("cdi.k8s.io/b", "nvidia.com/mig=0:1,amd.com/gpu=0"), annotated("cdi.k8s.io/a", "k8s.device-plugin.nvidia.com/gpu="+uuidA)),
			same(want("annotation cdi.k8s.io/b", uuidA+",0:1", byUUID, Selector{Kind: SelectMIGIndex, MIG: 1}))},

		"CDI edits": {plain, spec(pod, hook("/usr/local/nvidia/toolkit/nvidia-cdi-hook", "nvidia-cdi-hook", "update-ldcache"), env("NVIDIA_REQUIRE_CUDA=?"), annotated(ours, "?")),
			&Request{Source: "CDI edits by containerd", Asked: "hook nvidia-cdi-hook update-ldcache", Edited: true}},
		"CDI edits: the older hook": {plain, spec(hook("/usr/bin/nvidia-ctk", "nvidia-ctk", "hook", "chmod")),
			&Request{Source: "CDI edits by containerd", Asked: "hook nvidia-ctk hook chmod", Edited: true}},
		"CDI edits: without hooks": {plain, spec(node("/dev/nvidia0"), mountOf("/l", "/usr/lib64/libcuda.so.550.54.15"), env("NVIDIA_VISIBLE_DEVICES=void")),
			&Request{Source: "CDI edits by containerd", Asked: "device nodes, and a mount on /usr/lib64/libcuda.so.550.54.15", Edited: true}},
		"CDI edits: of a MIG device": {plain, spec(node("/dev/nvidia-caps/nvidia-cap3"), mountOf("/l", "/lib/libnvidia-ml.so.1")),
			&Request{Source: "CDI edits by containerd", Asked: "device nodes, and a mount on /lib/libnvidia-ml.so.1", Edited: true}},
		"all nodes of the host are no edit": {plain, spec(node("/dev/null"), node("/dev/nvidia0"), env("NVIDIA_VISIBLE_DEVICES=all")), &envAll},
		"control nodes are no edit":         {plain, spec(node("/dev/nvidiactl"), mountOf("/l", "/lib/libcuda.so.1"), env("NVIDIA_VISIBLE_DEVICES=all")), &envAll},
		"other hooks are no edit":           {plain, spec(hook("/usr/bin/nvidia-ctk", "nvidia-ctk", "cdi"), env("NVIDIA_VISIBLE_DEVICES=all")), &envAll},
	} {
		t.Run(name, func(t *testing.T) {
			checkRequest(t, c.policy, c.spec, c.want)
		})
	}
}

func checkRequest(t *testing.T, p Policy, s *specs.Spec, want *Request) {
	t.Helper()
	if want != nil {
		copied := *want
		copied.Annotated = strings.HasPrefix(want.Source, "annotation "+AnnotationPrefix+"gpu")
		want = &copied
	}
	got, err := ParseRequest(s, p)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	checkWanted(t, p, s, got != nil)
}

// checkWanted has no request be overlooked.
func checkWanted(t *testing.T, p Policy, s *specs.Spec, isRequest bool) {
	t.Helper()
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if isRequest && !p.Wanted(config) {
		t.Errorf("not wanted: %s", config)
	}
}

// TestWantedSpares has the specs that most containers have not be decoded.
func TestWantedSpares(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		spec   *specs.Spec
	}{
		"nothing":                            {plain, spec(env("PATH=/bin", "A=NVIDIA_VISIBLE_DEVICES=all"))},
		"a CUDA image in a pod":              {plain, spec(pod, env("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=12", "PATH=/usr/local/nvidia/bin"))},
		"a plain one, if only pods may ask":  {trusting, spec(env("NVIDIA_VISIBLE_DEVICES=all"))},
		"CDI devices of others":              {plain, spec(pod, annotated("cdi.k8s.io/a", "amd.com/gpu=0"))},
		"a privileged container":             {plain, spec(pod, node("/dev/nvidia0"), node("/dev/nvidiactl"))},
		"mounts, where they are not counted": {Policy{}, spec(ask("all"))},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := json.Marshal(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if c.policy.Wanted(config) {
				t.Errorf("wanted: %s", config)
			}
		})
	}
}

func TestRequestDetails(t *testing.T) {
	gpu := env("NVIDIA_VISIBLE_DEVICES=all")
	base := want("environment NVIDIA_VISIBLE_DEVICES", "all", Selector{Kind: SelectAll})
	annotatedAll := want("annotation "+ours, "all", Selector{Kind: SelectAll})
	for name, c := range map[string]struct {
		policy Policy
		spec   *specs.Spec
		want   *Request
	}{
		"capabilities":          {plain, spec(gpu, env("NVIDIA_DRIVER_CAPABILITIES=video, compute")), with(base, func(r *Request) { r.Capabilities = Video | Compute })},
		"capabilities: empty":   {plain, spec(gpu, env("NVIDIA_DRIVER_CAPABILITIES=")), &base},
		"capabilities: all":     {plain, spec(gpu, env("NVIDIA_DRIVER_CAPABILITIES=all")), with(base, func(r *Request) { r.Capabilities = AllCapabilities })},
		"capabilities of a pod": {plain, spec(pod, annotated(ours, "all"), env("NVIDIA_DRIVER_CAPABILITIES=video")), with(annotatedAll, func(r *Request) { r.Capabilities = Video })},
		"capabilities: annotated": {plain, spec(pod, annotated(ours, "all"), annotated(ours+"-capabilities", "ngx"), env("NVIDIA_DRIVER_CAPABILITIES=?")),
			with(annotatedAll, func(r *Request) { r.Capabilities = NGX })},
		"capabilities: of the container": {plain, spec(pod, annotated(ours, "all"), annotated(ours+"-capabilities", "?"), annotated(ours+"-capabilities.main", "display")),
			with(annotatedAll, func(r *Request) { r.Capabilities = Display })},
		"switches": {plain, spec(gpu, env("NVIDIA_GDS=enabled", "NVIDIA_MOFED=enabled", "NVIDIA_GDRCOPY=enabled", "NVIDIA_NVSWITCH=enabled")),
			with(base, func(r *Request) { r.GDS, r.MOFED, r.GDRCopy, r.NVSwitch = true, true, true, true })},
		"switches: off":          {plain, spec(gpu, env("NVIDIA_GDS=disabled", "NVIDIA_MOFED=1", "NVIDIA_GDRCOPY=", "NVIDIA_NVSWITCH=true")), &base},
		"switches: not in a pod": {plain, spec(pod, annotated(ours, "all"), env("NVIDIA_GDS=enabled", "NVIDIA_MOFED=enabled", "NVIDIA_IMEX_CHANNELS=0")), &annotatedAll},
		"switches: named in a pod": {Policy{EnvKubernetes: []string{"NVIDIA_GDS", "NVIDIA_IMEX_CHANNELS"}}, spec(pod, annotated(ours, "all"), env("NVIDIA_GDS=enabled", "NVIDIA_MOFED=enabled", "NVIDIA_IMEX_CHANNELS=0")),
			with(annotatedAll, func(r *Request) { r.GDS, r.IMEX = true, []int{0} })},
		"switches: named, ask for no GPU": {Policy{EnvKubernetes: []string{"NVIDIA_GDS", "NVIDIA_IMEX_CHANNELS"}}, spec(pod, env("NVIDIA_GDS=all", "NVIDIA_IMEX_CHANNELS=0")), nil},
		"channels":                        {plain, spec(gpu, env("NVIDIA_IMEX_CHANNELS=0, 1048575,0,")), with(base, func(r *Request) { r.IMEX = []int{0, 1048575} })},
		"channels: all":                   {plain, spec(gpu, env("NVIDIA_IMEX_CHANNELS=all")), with(base, func(r *Request) { r.AllIMEX = true })},
		"channels: mounts come first": {plain, spec(gpu, env("NVIDIA_IMEX_CHANNELS=all"), ask("imex/7"), ask("imex/8")),
			with(base, func(r *Request) { r.IMEX, r.Remove = []int{7, 8}, []int{0, 1} })},
		"requirements: off":   {plain, spec(gpu, env("NVIDIA_REQUIRE_CUDA=?", "NVIDIA_DISABLE_REQUIRE=true")), &base},
		"requirements: empty": {plain, spec(gpu, env("NVIDIA_REQUIRE_CUDA= ", "NVIDIA_REQUIRE_JETPACK=csv-mounts=all")), &base},
	} {
		t.Run(name, func(t *testing.T) {
			checkRequest(t, c.policy, c.spec, c.want)
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	gpu := env("NVIDIA_VISIBLE_DEVICES=all")
	visible := func(v string) *specs.Spec { return spec(env("NVIDIA_VISIBLE_DEVICES=" + v)) }
	annotation := func(v string) *specs.Spec { return spec(pod, annotated(ours, v)) }
	for name, c := range map[string]struct {
		spec *specs.Spec
		says string
	}{
		"word":                     {visible("some"), `environment NVIDIA_VISIBLE_DEVICES: "some" does not name a GPU; known are all, none, an index (0), a UUID`},
		"none in a list":           {visible("none,0"), "none only by itself"},
		"sign":                     {visible("-1"), `"-1"`},
		"plus":                     {visible("+1"), `"+1"`},
		"leading zero":             {visible("01"), `"01"`},
		"hexadecimal":              {visible("0x1"), `"0x1"`},
		"great":                    {visible("1000"), `"1000"`},
		"greater than a word":      {visible("18446744073709551616"), `"18446744073709551616"`},
		"short UUID":               {visible("GPU-1111"), `"GPU-1111"`},
		"UUID of dashes":           {visible("GPU-" + strings.Repeat("-", 36)), `"GPU-----`},
		"UUID in an odd form":      {visible("GPU-1111111-12222-3333-4444-555555555555"), `"GPU-1111111-1`},
		"UUID that is not hex":     {visible(strings.Replace(uuidA, "5", "g", 1)), `"GPU-`},
		"UUID without its prefix":  {visible(uuidA[4:]), `"11111111-`},
		"unknown UUID of the proc": {visible("GPU-????????-????-????-????-????????????"), `"GPU-?`},
		"old MIG name":             {visible("MIG-" + uuidA + "/1/0"), `"MIG-GPU-`},
		"index: is Berth's":        {visible("index:0"), `"index:0"`},
		"no MIG index":             {visible("0:"), `"0:"`},
		"three indexes":            {visible("0:1:2"), `"0:1:2"`},
		"65 devices":               {visible(numberedList(65)), "65 devices are asked for; at most 64"},

		"annotation: word":          {annotation("some"), "annotation berth.dev/gpu: \"some\" does not name a GPU; known are all, none, a count (2), an index (index:0), a UUID"},
		"annotation: numbers":       {annotation("0,2"), "0 is not a count of GPUs: a count is a number from 1 to 64 by itself; for GPUs by index write index:0 or index:0,2"},
		"annotation: no GPU":        {annotation("0"), "0 is not a count"},
		"annotation: many":          {annotation("65"), "65 is not a count"},
		"annotation: count and ID":  {annotation(uuidA + ",1"), "1 is not a count"},
		"annotation: index of all":  {annotation("index:all"), `"index:all"`},
		"annotation: index twice":   {annotation("index:index:0"), `"index:index:0"`},
		"annotation: index of UUID": {annotation("index:" + uuidA), `"index:GPU-`},

		"CDI: class":      {spec(annotated("cdi.k8s.io/a", "nvidia.com/gds=all")), `annotation cdi.k8s.io/a: the CDI device "nvidia.com/gds=all" is not supported; known are nvidia.com/gpu=… and nvidia.com/mig=…`},
		"CDI: no name":    {spec(annotated("cdi.k8s.io/a", "nvidia.com/gpu")), `"nvidia.com/gpu="`},
		"CDI: MIG's GPU":  {spec(annotated("cdi.k8s.io/a", "nvidia.com/mig=0")), `"nvidia.com/mig=0"`},
		"CDI: name":       {spec(annotated("cdi.k8s.io/a", "nvidia.com/gpu=../0")), `annotation cdi.k8s.io/a: "../0"`},
		"mount: id":       {spec(ask("x")), `mounts below /var/run/nvidia-container-devices/: "x"`},
		"mount: CDI":      {spec(ask("cdi/nvidia.com/gpu")), `mount on "/var/run/nvidia-container-devices/cdi/nvidia.com/gpu": the CDI device`},
		"mount: channel":  {spec(gpu, ask("imex/x")), `mount on "/var/run/nvidia-container-devices/imex/x": "x" is not an IMEX channel`},
		"channel: word":   {spec(gpu, env("NVIDIA_IMEX_CHANNELS=0,none")), `environment NVIDIA_IMEX_CHANNELS: "none" is not an IMEX channel; known are all and numbers up to 1048575`},
		"channel: great":  {spec(gpu, env("NVIDIA_IMEX_CHANNELS=1048576")), `"1048576"`},
		"channels: many":  {spec(gpu, env("NVIDIA_IMEX_CHANNELS="+numberedList(65))), "65 IMEX channels"},
		"capability":      {spec(gpu, env("NVIDIA_DRIVER_CAPABILITIES=compute,fast")), `environment NVIDIA_DRIVER_CAPABILITIES: driver capability "fast" is not known`},
		"its annotation":  {spec(pod, annotated(ours, "1"), annotated(ours+"-capabilities.main", "fast")), "annotation berth.dev/gpu-capabilities.main: driver capability"},
		"MIG's config":    {spec(gpu, env("NVIDIA_MIG_CONFIG_DEVICES=all")), "environment NVIDIA_MIG_CONFIG_DEVICES: access to the configuration of MIG is not given"},
		"MIG's monitor":   {spec(pod, annotated(ours, "1"), env("NVIDIA_MIG_MONITOR_DEVICES=0")), "environment NVIDIA_MIG_MONITOR_DEVICES"},
		"requirement":     {spec(gpu, env("NVIDIA_REQUIRE_CUDA=cuda~12")), `environment NVIDIA_REQUIRE_CUDA: "cuda~12" is not a requirement`},
		"its way out":     {spec(gpu, env("NVIDIA_REQUIRE_X=?")), "NVIDIA_DISABLE_REQUIRE=true in the container's environment skips the check"},
		"not switched so": {spec(gpu, env("NVIDIA_REQUIRE_X=?", "NVIDIA_DISABLE_REQUIRE=yes")), "is not a requirement"},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, plain, c.spec, c.says)
		})
	}
}

// numbered is a list of the numbers below n.
func numberedList(n int) string {
	var s []string
	for i := range n {
		s = append(s, Selector{Kind: SelectCount, N: i}.String())
	}
	return strings.Join(s, ",")
}

func refuses(t *testing.T, p Policy, s *specs.Spec, says string) {
	t.Helper()
	r, err := ParseRequest(s, p)
	if r != nil || !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %+v, %v\nwant an error with %s", r, err, says)
	}
	checkWanted(t, p, s, true)
}
