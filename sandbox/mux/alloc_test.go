// SPDX-License-Identifier: Apache-2.0

//go:build !race

package mux

import (
	"io"
	"testing"
)

// Data goes from Write to Read without an allocation, whatever its size. (With
// the race detector a sync.Pool forgets at random.)
func TestDataAllocatesNothing(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 16, 256<<10)
	for _, size := range []int{1, 100, chunkSize + 1, MaxPayload, 200_000} {
		buf, got := make([]byte, size), make([]byte, size)
		if allocs := testing.AllocsPerRun(500, func() {
			if _, err := near.Write(buf); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
		}); allocs >= 1 {
			t.Errorf("%v allocations for %d bytes", allocs, size)
		}
	}
	if far.in.head != nil {
		t.Error("an idle stream holds memory")
	}
}
