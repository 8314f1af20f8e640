// SPDX-License-Identifier: Apache-2.0

package mux

import "sync"

// chunkSize is the unit in bytes in which a stream takes memory. An idle one
// has none.
const chunkSize = 16 << 10

type chunk struct {
	next *chunk
	b    [chunkSize]byte
}

// inbox is what has come on a stream and was not read. Frames are joined, so
// that many small ones take no more memory than a few large ones: at most two
// chunks more than the window.
type inbox struct {
	head, tail *chunk
	from, to   int // where the data begins in head and ends in tail
	size       int
}

func (i *inbox) put(p []byte, pool *sync.Pool) {
	i.size += len(p)
	for len(p) > 0 {
		if i.tail == nil || i.to == chunkSize {
			i.grow(pool.Get().(*chunk))
		}
		n := copy(i.tail.b[i.to:], p)
		i.to += n
		p = p[n:]
	}
}

func (i *inbox) grow(c *chunk) {
	if i.tail == nil {
		i.head, i.from = c, 0
	} else {
		i.tail.next = c
	}
	i.tail, i.to = c, 0
}

func (i *inbox) take(p []byte, pool *sync.Pool) (n int) {
	for n < len(p) && i.size > 0 {
		end := chunkSize
		if i.head == i.tail {
			end = i.to
		}
		m := copy(p[n:], i.head.b[i.from:end])
		n += m
		i.from += m
		i.size -= m
		if i.from == end {
			i.shrink(pool)
		}
	}
	return n
}

// shrink gives back the first chunk, which was read.
func (i *inbox) shrink(pool *sync.Pool) {
	c := i.head
	i.head, i.from = c.next, 0
	if i.head == nil {
		i.tail = nil
	}
	c.next = nil
	pool.Put(c)
}

// drop gives back everything.
func (i *inbox) drop(pool *sync.Pool) {
	i.size = 0
	for i.head != nil {
		i.shrink(pool)
	}
}
