// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"
	"time"
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

// A flood, byte by byte, is read at a pace; nothing of it is lost, and after a
// while of silence all of a last word is read at once.
func TestTailKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const more = 1000
		console, guest := net.Pipe()
		var at []time.Duration
		began := time.Now()
		write := func() {
			if _, err := guest.Write([]byte{byte(len(at))}); err != nil {
				t.Error(err)
			}
			at = append(at, time.Since(began))
		}
		kept := newTail(2*tailReads + more)
		go func() {
			for range tailReads + more {
				write()
			}
			time.Sleep(tailReads * tailPause)
			for range tailReads {
				write()
			}
			_ = guest.Close()
		}()
		kept.fill(console)
		if at[tailReads-1] != 0 {
			t.Errorf("what a guest may say at once took %v", at[tailReads-1])
		}
		if took, want := at[tailReads+more-1], (more-1)*tailPause; took != want {
			t.Errorf("%d bytes more took %v, not %v", more, took, want)
		}
		if took, want := at[len(at)-1]-at[tailReads+more-1], tailReads*tailPause; took != want {
			t.Errorf("silence and the last word took %v, not %v", took, want)
		}
		for i, b := range kept.Bytes() {
			if b != byte(i) {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
	})
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
