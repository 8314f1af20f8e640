// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseAsk(t *testing.T) {
	for text, want := range map[string]Ask{
		"on":                       {},
		"memory=10GiB,threads=25":  {Memory: 10240, Threads: 25},
		"threads=100, memory=1MiB": {Memory: 1, Threads: 100},
		"memory=512MiB":            {Memory: 512},
	} {
		got, err := ParseAsk(text)
		if got != want || err != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if again, err := ParseAsk(got.String()); again != got || err != nil {
			t.Errorf("%q reads as %+v, %v", got, again, err)
		}
	}
	for _, text := range []string{
		"", "off", "threads", "threads=0", "threads=101", "threads=+5", "threads=05", "threads=25,threads=30", "memory=10", "memory=10GB", "memory=0GiB",
		"memory=-1GiB", "memory=99999GiB", "memory=10GiB threads=25", "memory=10GiB\nquit", "on,threads=5", "threads=25,", strings.Repeat("threads=25,", 100),
	} {
		if got, err := ParseAsk(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func FuzzParseAsk(f *testing.F) {
	for _, seed := range []string{"on", "memory=10GiB,threads=25", "threads=100, memory=1MiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAsk(text)
		if err != nil {
			return
		}
		if a.Memory < 0 || a.Threads < 0 || a.Threads > 100 {
			t.Errorf("%q: %+v", text, a)
		}
		if again, err := ParseAsk(a.String()); err != nil || again != a {
			t.Errorf("%q reads as %+v, then as %+v, %v", text, a, again, err)
		}
	})
}
