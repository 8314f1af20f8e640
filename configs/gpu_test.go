// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// load is LoadGPU of a file with the text.
func load(t *testing.T, text string) (GPU, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gpu.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadGPU(path)
}

func TestLoadGPU(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want func(*GPU)
	}{
		"empty":                 {"", func(*GPU) {}},
		"comments":              {"# a\n", func(*GPU) {}},
		"roots":                 {"driver_root = '/run/nvidia/driver'\ndev_root = '/d'", func(c *GPU) { c.DriverRoot, c.DevRoot = "/run/nvidia/driver", "/d" }},
		"a list replaces":       {"env_plain = ['A_1']\nenv_kubernetes = ['B', 'C']", func(c *GPU) { c.EnvPlain, c.EnvKubernetes = []string{"A_1"}, []string{"B", "C"} }},
		"a list can be emptied": {"env_plain = []\nsockets = []", func(c *GPU) { c.EnvPlain, c.Sockets = []string{}, []string{} }},
		"switches":              {"volume_mounts = false\ncuda_compat = false", func(c *GPU) { c.VolumeMounts, c.CUDACompat = false, false }},
		"one of a table":        {"[xid]\nkill = ['app', '31']", func(c *GPU) { c.Xid.Kill = []string{"app", "31"} }},
		"mps":                   {"[mps]\nmultiuser = true\non_death = 'report'", func(c *GPU) { c.MPS = MPSPolicy{Multiuser: true, OnDeath: "report"} }},
		"GPUs": {"[mig]\ngpus = ['gpu-849440AF-08D7-5DB7-E8CC-35C7CC6A180F', '00000000:3B:00.0', '0000:5d:00']\nallow_mode = ['000100AB:3B:00.0']", func(c *GPU) {
			c.MIG.GPUs, c.MIG.AllowMode = []string{"GPU-849440af-08d7-5db7-e8cc-35c7cc6a180f", "0000:3b:00.0", "0000:5d:00.0"}, []string{"100ab:3b:00.0"}
		}},
		"nothing is read": {"kmsg = ''\nxid.bar = []", func(c *GPU) { c.Kmsg, c.Xid.Bar = "", []string{} }},
	} {
		t.Run(name, func(t *testing.T) {
			want := DefaultGPU()
			c.want(&want)
			if got, err := load(t, c.text); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestLoadGPUWithoutAFile(t *testing.T) {
	got, err := LoadGPU(filepath.Join(t.TempDir(), "gpu.toml"))
	if err != nil || !reflect.DeepEqual(got, DefaultGPU()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := LoadGPU(t.TempDir()); err == nil {
		t.Error("a directory is taken for a file")
	}
}

func TestLoadGPURefuses(t *testing.T) {
	for text, want := range map[string]string{
		"\nenv_plane = []":                       `gpu.toml: line 2: option "env_plane" is not known`,
		"[xid]\nbare = []":                       `line 2: option "xid.bare" is not known`,
		"[gpu]":                                  "is not known",
		"volume_mounts = 'true'":                 "line 1: ",
		"\n\nenv_plain = 'A'":                    "line 3: ",
		"sockets = [1]":                          "line 1: ",
		"cuda_compat":                            "line 1: ",
		"cuda_compat = true\ncuda_compat = true": "line ",
		"helper = '\xff'":                        "line 1: ",
		"driver_root = ''":                       `driver_root is "": it must be an absolute path`,
		"dev_root = 'dev'":                       `dev_root is "dev"`,
		"proc_root = './proc'":                   `proc_root is "./proc"`,
		"sys_root = '../sys'":                    `sys_root is "../sys"`,
		"mig.keep_idle = -1":                     "mig.keep_idle is -1",
		"mig.keep_idle = 3601":                   "must be 0 to 3600 seconds",
		"mig.gpus = ['0']":                       `gpu.toml: mig.gpus: "0" names no GPU for good: write its UUID`,
		"mig.gpus = ['gpu0']":                    `"gpu0" names no GPU`,
		"mig.gpus = ['']":                        `"" names no GPU`,
		"mig.gpus = ['3b:00.0']":                 "with the domain, such as 0000:3b:00.0",
		"mig.gpus = ['0000:3b:00.8']":            "names no GPU",
		"mig.gpus = ['0000:3b:0x.0']":            "names no GPU",
		"mig.gpus = ['GPU-849440af']":            "names no GPU",
		"mig.gpus = ['GPU-849440af-08d7-5db7-e8cc-35c7cc6a180g']":       "names no GPU",
		"mig.allow_mode = ['MIG-849440af-08d7-5db7-e8cc-35c7cc6a180f']": "mig.allow_mode: ",
		"run_dir = 'run'":                           `run_dir is "run"`,
		"helper = 'berth-gpu'":                      `helper is "berth-gpu"`,
		"kmsg = 'kmsg'":                             `kmsg is "kmsg"`,
		"sockets = ['fabricmanager', 'nvidia-smi']": `socket "nvidia-smi" is not known; known are persistenced, fabricmanager, mps`,
		"env_plain = ['']":                          `"" does not name an environment variable`,
		"env_kubernetes = ['A=B']":                  `"A=B" does not name`,
		"env_kubernetes = ['A\"']":                  "does not name",
	} {
		got, err := load(t, text)
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(got, DefaultGPU()) {
			t.Errorf("%q: %+v, %v\nwant an error with %s", text, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "gpu.toml: ") {
			t.Errorf("%q: the error does not name the file: %v", text, err)
		}
	}
}

func FuzzLoadGPU(f *testing.F) {
	f.Add("env_plain = ['A']\n[xid]\nkill = ['31']")
	path := filepath.Join(f.TempDir(), "gpu.toml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadGPU(path)
		if err != nil && (!errors.Is(err, errdefs.ErrInvalidArgument) || !reflect.DeepEqual(got, DefaultGPU())) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestShippedGPU has the example show every option with its default, each with
// a comment above it.
func TestShippedGPU(t *testing.T) {
	got, err := LoadGPU("gpu.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultGPU()
	// What is empty is written out.
	want.EnvKubernetes, want.Xid.Kill, want.Xid.Ignore = []string{}, []string{}, []string{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example has %+v; the defaults are %+v", got, want)
	}
	text, err := os.ReadFile("gpu.toml")
	if err != nil {
		t.Fatal(err)
	}
	top, xid, _ := strings.Cut(string(text), "\n[xid]\n")
	if !strings.Contains(top, "\n# ") || xid == "" {
		t.Fatal("there is no table of Xids, or no comment")
	}
	shows(t, top, reflect.TypeFor[GPU]())
	shows(t, "\n"+xid, reflect.TypeFor[XidPolicy]())
}

// shows looks for the options of one table.
func shows(t *testing.T, text string, options reflect.Type) {
	t.Helper()
	for i := range options.NumField() {
		f := options.Field(i)
		name := f.Tag.Get("toml")
		if f.Type.Kind() != reflect.Struct && !strings.Contains(text, "\n"+name+" = ") {
			t.Errorf("the example does not show %s", name)
		}
	}
}
