// SPDX-License-Identifier: Apache-2.0

package mig

import (
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseAsk(t *testing.T) {
	for text, want := range map[string][]Ask{
		"3g.71gb":              {{Profile: "3g.71gb", Count: 1}},
		"1g.18gb:2":            {{Profile: "1g.18gb", Count: 2}},
		"1g.18gb+me":           {{Profile: "1g.18gb+me", Count: 1}},
		"1g.24gb+me.all:2":     {{Profile: "1g.24gb+me.all", Count: 2}},
		">=20GiB":              {{Memory: 20 << 30, Count: 1}},
		">=500MB:3":            {{Memory: 500e6, Count: 3}},
		"1g.18gb:2, 3g.71gb":   {{Profile: "1g.18gb", Count: 2}, {Profile: "3g.71gb", Count: 1}},
		">=1GB,>=1MiB,7g.80gb": {{Memory: 1e9, Count: 1}, {Memory: 1 << 20, Count: 1}, {Profile: "7g.80gb", Count: 1}},
	} {
		if got, err := ParseAsk(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ",", "1g.18gb,", "3g", "3g.71", "g.71gb", "3g.gb", "-1g.5gb", "1g.5gb:0", "1g.5gb:65", "1g.5gb:-1", "1g.5gb:01",
		"1g.5gb:", "1g.5gb:2:2", ">=", ">=20", ">=0GiB", ">=20TiB", ">=-1GiB", ">=99999999GiB", ">20GiB", "=20GiB", "../x", "1g.5gb/..", "1g.5gb+", "1g.5gb+m\ne",
		"1G.5GB", "all", "1g.5gb:40,1g.5gb:40", strings.Repeat("1g.5gb,", 50), strings.Repeat("9", 300), "１g.5gb"} {
		if got, err := ParseAsk(text); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%.40q was taken for %+v, %v", text, got, err)
		}
	}
}

// What is accepted is bounded, and of the grammar.
func FuzzParseAsk(f *testing.F) {
	for _, seed := range []string{"3g.71gb", "1g.18gb+me:2,>=20GiB", ">=1MB:64"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		asks, err := ParseAsk(text)
		if err != nil {
			return
		}
		total := 0
		for _, a := range asks {
			total += a.Count
			if (a.Profile == "") == (a.Memory == 0) || a.Count < 1 || strings.Trim(a.Profile, "abcdefghijklmnopqrstuvwxyz0123456789.+-") != "" {
				t.Errorf("%q: %+v", text, a)
			}
		}
		if total > maxCount {
			t.Errorf("%q asks for %d", text, total)
		}
	})
}
