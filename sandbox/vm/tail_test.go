// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"testing"
)

func TestTail(t *testing.T) {
	for name, c := range map[string]struct {
		writes []string
		want   string
	}{
		"nothing":             {nil, ""},
		"less than it holds":  {[]string{"ab", "c"}, "abc"},
		"as much as it holds": {[]string{"abc", "d"}, "abcd"},
		"more":                {[]string{"abc", "def"}, "cdef"},
		"much at once":        {[]string{"a", "bcdefghij"}, "ghij"},
		"after that":          {[]string{"abcdefgh", "ij"}, "ghij"},
		"exactly again":       {[]string{"abcd", "efgh"}, "efgh"},
	} {
		t.Run(name, func(t *testing.T) {
			tail := newTail(4)
			for _, w := range c.writes {
				if n, err := tail.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("%q: %d bytes were taken (%v)", w, n, err)
				}
			}
			if got := string(tail.Bytes()); got != c.want {
				t.Errorf("it keeps %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("abcdefgh"), 3)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if cut < 0 || cut > len(text) {
			return
		}
		const size = 5
		tail := newTail(size)
		for _, part := range [][]byte{text[:cut], text[cut:]} {
			_, _ = tail.Write(part)
		}
		if want := text[max(0, len(text)-size):]; !bytes.Equal(tail.Bytes(), want) {
			t.Errorf("it keeps %q, want %q", tail.Bytes(), want)
		}
	})
}
