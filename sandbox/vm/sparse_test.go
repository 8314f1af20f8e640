// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// A copy has the same bytes, and no more of them on record than it needs.
func TestCopyMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		from, err := newMemory("from", 1+rng.IntN(2))
		if err != nil {
			t.Fatal(err)
		}
		info, err := from.Stat()
		if err != nil {
			t.Fatal(err)
		}
		used := make(map[int64]bool)
		for range rng.IntN(40) {
			at := page * rng.Int64N(info.Size()/page)
			data := make([]byte, page)
			if rng.IntN(3) > 0 { // or a page of zeroes that is there
				data[rng.IntN(page)] = 1
				used[at] = true
			} else {
				delete(used, at)
			}
			if _, err := from.WriteAt(data, at); err != nil {
				t.Fatal(err)
			}
		}
		to, err := newMemory("to", int(info.Size()>>20))
		if err != nil {
			t.Fatal(err)
		}
		if err := copyMemory(to, from); err != nil {
			t.Fatal(err)
		}
		want, _ := io.ReadAll(io.NewSectionReader(from, 0, info.Size()))
		got, _ := io.ReadAll(io.NewSectionReader(to, 0, info.Size()))
		if !bytes.Equal(got, want) {
			t.Error("the copy is not the same")
		}
		if held := (&Template{Memory: to, State: to}).Held() / 2; held != int64(len(used))*page {
			t.Errorf("%d pages are there in the copy, want %d", held/page, len(used))
		}
		closeAll(from, to)
	}
}
