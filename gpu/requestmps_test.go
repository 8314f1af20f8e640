// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"berth/gpu/mps"
)

func TestParseMPS(t *testing.T) {
	const key = AnnotationPrefix + "mps"
	gpu, want := annotated(ours, "1"), &mps.Ask{Memory: 10240, Threads: 25}
	both := annotated(key, "memory=10GiB,threads=25")
	for name, c := range map[string]struct {
		parts []part
		want  *mps.Ask
		says  string // of the error
		none  bool   // no request at all
	}{
		"plain":                {parts: []part{gpu, both}, want: want},
		"a slice":              {parts: []part{annotated(AnnotationPrefix+"mig", "1g.18gb"), both}, want: want},
		"by mounts":            {parts: []part{ask("0"), both}, want: want},
		"by environment":       {parts: []part{env("NVIDIA_VISIBLE_DEVICES=0"), both}, want: want},
		"on":                   {parts: []part{gpu, annotated(key, "on")}, want: &mps.Ask{}},
		"none":                 {parts: []part{gpu, annotated(key, "none")}},
		"one container":        {parts: []part{pod, gpu, annotated(key+".main", "threads=25"), annotated(key, "on")}, want: &mps.Ask{Threads: 25}},
		"another container":    {parts: []part{pod, gpu, annotated(key+".other", "threads=25")}},
		"not this container":   {parts: []part{pod, gpu, annotated(key+".main", "none"), annotated(key, "on")}},
		"pod, without a GPU":   {parts: []part{pod, both}, none: true},
		"sandbox":              {parts: []part{sandbox, gpu, both}, none: true},
		"without a GPU":        {parts: []part{both}, says: "asks for no GPU to share"},
		"by name, without":     {parts: []part{pod, annotated(key+".main", "on")}, says: key + ".main: the container asks for no GPU"},
		"GPU none":             {parts: []part{annotated(ours, "none"), both}, says: "asks for no GPU"},
		"driver alone":         {parts: []part{env("NVIDIA_VISIBLE_DEVICES=none"), both}, says: "asks for no GPU"},
		"text":                 {parts: []part{gpu, annotated(key, "threads=999")}, says: "no percentage"},
		"without compute":      {parts: []part{gpu, annotated(ours+"-capabilities", "utility"), both}, says: "add compute"},
		"edited by containerd": {parts: []part{hook("/usr/bin/nvidia-cdi-hook", "nvidia-cdi-hook", "update-ldcache"), both}, says: "berth.dev/gpu"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRequest(spec(c.parts...), plain)
			switch {
			case c.says != "":
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the error is %v, want one that says %q", err, c.says)
				}
			case err != nil || (r == nil) != c.none:
				t.Errorf("%+v, %v", r, err)
			case c.none:
			case (r.MPS == nil) != (c.want == nil) || r.MPS != nil && *r.MPS != *c.want:
				t.Errorf("it asks for %+v, want %+v", r.MPS, c.want)
			}
		})
	}
	if !plain.Wanted([]byte(`{"annotations":{"` + key + `":"on"}}`)) {
		t.Error("a request for MPS alone goes unseen, and is not refused")
	}
}
