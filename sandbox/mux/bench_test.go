// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"fmt"
	"io"
	"testing"
)

// BenchmarkStream is one stream over a socketpair, as stdio has it, by the size
// of writes.
func BenchmarkStream(b *testing.B) {
	for _, size := range []int{100, 4 << 10, MaxPayload, 32 << 10, 2 * MaxPayload} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			host, guest := connected(b)
			near, far := open(b, host, guest, 16, 256<<10)
			benchCopy(b, far, near, size)
		})
	}
}

// BenchmarkSocket is the socketpair alone.
func BenchmarkSocket(b *testing.B) {
	for _, size := range []int{100, 4 << 10, MaxPayload} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			near, far := wires(b)
			benchCopy(b, far, near, size)
		})
	}
}

func benchCopy(b *testing.B, from io.Writer, to io.Reader, size int) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	buf, got := make([]byte, size), make([]byte, 64<<10)
	done := make(chan error)
	go func() {
		for left := size * b.N; left > 0; {
			n, err := to.Read(got)
			if err != nil {
				done <- err
				return
			}
			left -= n
		}
		done <- nil
	}()
	for range b.N {
		if _, err := from.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCall is a short question and its answer, with nothing else, and
// while the guest writes to a hundred streams as fast as it can.
func BenchmarkCall(b *testing.B) {
	for _, floods := range []int{0, 100} {
		b.Run(fmt.Sprintf("%d floods", floods), func(b *testing.B) {
			host, guest := connected(b)
			for i := range floods {
				near, far := open(b, host, guest, uint32(16+i), 256<<10)
				go func() { _, _ = io.Copy(io.Discard, near) }()
				go func() {
					for buf := make([]byte, MaxPayload); ; {
						if _, err := far.Write(buf); err != nil {
							return
						}
					}
				}()
			}
			near, far := open(b, host, guest, 1, 1<<20)
			go func() { _, _ = io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{far}, make([]byte, 4096)) }()
			buf := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := near.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(near, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
