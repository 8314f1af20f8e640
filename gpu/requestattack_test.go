// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hostile are texts that no source may take for a device. None of them can
// become part of a path, end up whole in a log, or take long to refuse.
var hostile = map[string]string{
	"parent directories":     "../../../../etc/passwd",
	"UUID and parents":       uuidA + "/../../../null",
	"parents and UUID":       "../" + uuidA,
	"absolute path":          "/dev/sda",
	"newline":                "0\n",
	"newline and an entry":   uuidA + "\nNVIDIA_VISIBLE_DEVICES=all",
	"carriage return":        "all\r",
	"tab":                    "\tall",
	"NUL":                    "0\x00",
	"NUL in a UUID":          uuidA[:39] + "\x00",
	"terminal escape":        "\x1b[2Jall",
	"not UTF-8":              "\xff\xfe",
	"digits of Arabic":       "٣",
	"wide digits":            "０",
	"1 MB of one id":         strings.Repeat("0", 1<<20),
	"1 MB of a UUID":         "GPU-" + strings.Repeat("a", 1<<20),
	"1 MB of ids":            strings.Repeat("0,", 1<<19),
	"1 MB of commas":         strings.Repeat(",", 1<<20),
	"1 MB of newlines":       strings.Repeat("\n", 1<<20),
	"1 MB, then void":        strings.Repeat("0,", 1<<19) + "void",
	"format":                 "%s%n%!",
	"shell":                  "$(id)",
	"glob":                   "*",
	"device of another kind": "nvidiactl",
}

// TestAttackVisibleDevices has NVIDIA_VISIBLE_DEVICES, and each other source,
// say what is hostile.
func TestAttackVisibleDevices(t *testing.T) {
	gpu := env("NVIDIA_VISIBLE_DEVICES=all")
	for name, text := range hostile {
		for source, s := range map[string]*specs.Spec{
			"env":                     spec(env("NVIDIA_VISIBLE_DEVICES=" + text)),
			"annotation":              spec(pod, annotated(ours, text)),
			"annotated index":         spec(pod, annotated(ours, "index:"+text)),
			"container's annotation":  spec(pod, annotated(ours+".main", text)),
			"capabilities":            spec(gpu, env("NVIDIA_DRIVER_CAPABILITIES="+text)),
			"capabilities annotation": spec(pod, annotated(ours, "all"), annotated(ours+"-capabilities", text)),
			"CDI annotation":          spec(annotated("cdi.k8s.io/a", "nvidia.com/gpu="+text)),
			"mount":                   spec(ask(text)),
			"CDI mount":               spec(ask("cdi/nvidia.com/gpu/" + text)),
			"CDI mount of MIG":        spec(ask("cdi/nvidia.com/mig/" + text)),
			"channel mount":           spec(gpu, ask("imex/"+text)),
			"channel":                 spec(gpu, env("NVIDIA_IMEX_CHANNELS="+text)),
			"requirement":             spec(gpu, env("NVIDIA_REQUIRE_CUDA="+text)),
		} {
			t.Run(source+"/"+name, func(t *testing.T) {
				r, err := ParseRequest(s, plain)
				if accepted(source, name) {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if r != nil || !errdefs.IsInvalidArgument(err) {
					t.Fatalf("got %+v, %v", r, err)
				}
				checkMessage(t, err)
			})
		}
	}
}

// accepted are the texts of hostile that are harmless in some source.
func accepted(source, text string) bool {
	switch source {
	case "capabilities", "capabilities annotation":
		return text == "carriage return" || text == "tab" // white space is trimmed
	case "CDI annotation":
		return text == "1 MB of ids" || text == "1 MB, then void" // only the first is a name, of device 0
	}
	return false
}

// checkMessage has an error fit on a few lines of a log, without control
// characters.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 2048 {
		t.Errorf("a message of %d bytes: %.200q", len(text), text)
	}
	for _, c := range text {
		if c < ' ' || c == 0x7f || c == '\ufffd' {
			t.Fatalf("the message has control characters: %q", text)
		}
	}
}

// TestAttackNames has what is not a value be hostile: names of containers, keys
// of annotations, names of variables, destinations.
func TestAttackNames(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	gpu := env("NVIDIA_VISIBLE_DEVICES=all")
	for name, s := range map[string]*specs.Spec{
		"container's name":      spec(annotated("io.kubernetes.cri.container-name", long), annotated(ours+"."+long, "?")),
		"name with a newline":   spec(annotated("io.kubernetes.cri.container-name", "a\nb\x1b"), annotated(ours+".a\nb\x1b", "?")),
		"CDI key":               spec(annotated("cdi.k8s.io/"+long, "nvidia.com/gpu=?")),
		"CDI key and a newline": spec(annotated("cdi.k8s.io/\n", "nvidia.com/gds=?")),
		"CDI class":             spec(annotated("cdi.k8s.io/a", "nvidia.com/"+long+"=0")),
		"requirement's name":    spec(gpu, env("NVIDIA_REQUIRE_"+long+"=?")),
		"its newline":           spec(gpu, env("NVIDIA_REQUIRE_\n=?")),
		"destination":           spec(ask("imex/"+long), gpu),
		"many mounts":           spec(append([]part{}, manyMounts()...)...),
		"alternatives":          spec(gpu, env("NVIDIA_REQUIRE_CUDA="+strings.Repeat("cuda>=1 ", 1<<17))),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRequest(s, plain)
			if r != nil || !errdefs.IsInvalidArgument(err) {
				t.Fatalf("got %.100v, %v", r, err)
			}
			checkMessage(t, err)
		})
	}
}

func manyMounts() (parts []part) {
	for i := range 1 << 12 {
		parts = append(parts, ask(fmt.Sprint(i%900)))
	}
	return parts
}

// TestAttackSelf has an image that lists itself below another name, or says
// who it is, get no more than its policy gives.
func TestAttackSelf(t *testing.T) {
	for name, s := range map[string]*specs.Spec{
		"an annotation's name in env": spec(pod, env(ours+"=all", "io.kubernetes.cri.container-type=")),
		"lower case":                  spec(env("nvidia_visible_devices=all")),
		"spaces around":               spec(env(" NVIDIA_VISIBLE_DEVICES =all")),
		"a longer key":                spec(pod, annotated(ours+"x", "all"), annotated("x"+ours, "all"), annotated(ours+".", "all")),
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := ParseRequest(s, plain); r != nil || err != nil {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{"all", "none", "void", "0,1:2", uuidA, migA, "index:0,2", "3", "nvidia.com/gpu=0", "../x", "a\n", "mig:all", "nvidia.com/mig=all", "nvidia.com"} {
		f.Add(s, s, s, s, s, s)
	}
	f.Add("2", "compute", "0", "all", "cuda>=12 brand=tesla,driver>=470,driver<471", "amd.com/gpu=0,nvidia.com/gpu=1")
	policies := []Policy{plain, trusting, {EnvPlain: []string{"A", "NVIDIA_VISIBLE_DEVICES"}}}
	f.Fuzz(func(t *testing.T, annotation, capabilities, mounted, visible, require, cdi string) {
		for i, s := range []*specs.Spec{
			spec(annotated(ours, annotation), annotated(ours+"-capabilities", capabilities)),
			spec(pod, ask(mounted), ask("imex/"+visible), env("NVIDIA_REQUIRE_CUDA="+require, "NVIDIA_IMEX_CHANNELS="+annotation)),
			spec(env("NVIDIA_VISIBLE_DEVICES="+visible, "NVIDIA_DRIVER_CAPABILITIES="+capabilities, "NVIDIA_IMEX_CHANNELS="+mounted, "NVIDIA_GDS="+require)),
			spec(annotated("cdi.k8s.io/a", cdi), env("NVIDIA_REQUIRE_A="+require)),
			spec(hook(annotation, visible), env(visible), mount(mounted), node(annotation)),
		} {
			for _, p := range policies {
				r, err := ParseRequest(s, p)
				checkWanted(t, p, s, r != nil || err != nil)
				if err != nil {
					if r != nil || !errors.Is(err, errdefs.ErrInvalidArgument) {
						t.Errorf("case %d: %+v, %v", i, r, err)
					}
					checkMessage(t, err)
				}
				if r != nil {
					checkInvariants(t, r)
				}
			}
		}
	})
}

// checkInvariants is what those who plan from a request rely on.
func checkInvariants(t *testing.T, r *Request) {
	t.Helper()
	if kinds := boolInt(r.Edited) + boolInt(r.NoDevices) + boolInt(len(r.Devices) > 0); kinds != 1 {
		t.Errorf("%d kinds of request in one: %+v", kinds, r)
	}
	if len(r.Devices) > maxSelectors || len(r.IMEX) > maxSelectors || len(r.Asked) > 1024 || len(r.Source) > 512 {
		t.Errorf("not bounded: %+v", r)
	}
	if !r.Edited && r.Capabilities == 0 {
		t.Errorf("no capabilities: %+v", r)
	}
	for _, s := range r.Devices {
		again, none, err := parseDevices(s.String(), numbersAreCounts)
		if err != nil || none || len(again) != 1 || again[0] != s {
			t.Errorf("%+v is %q, which is %+v, %v", s, s, again, err)
		}
		if strings.ContainsAny(s.String(), "/.\n\x00 ") {
			t.Errorf("%q could be a path", s)
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
