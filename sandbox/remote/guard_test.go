// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

// message is one of ttrpc's.
func message(stream uint32, kind byte, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(append(b, kind, 0), data...)
}

// chunks is a connection whose reads give so many bytes at most, and whose
// writes go nowhere.
type chunks struct {
	net.Conn
	in   *bytes.Reader
	most int
}

func (c *chunks) Read(p []byte) (int, error)  { return c.in.Read(p[:min(len(p), c.most)]) }
func (c *chunks) Write(p []byte) (int, error) { return len(p), nil }

// Answers to what was asked come through as they are, however they are cut.
func TestGuardPasses(t *testing.T) {
	var sent []byte
	for _, m := range [][]byte{message(1, typeResponse, "one"), message(3, typeResponse, ""), message(5, typeResponse, "three")} {
		sent = append(sent, m...)
	}
	for most := 1; most < 30; most++ {
		g := &guard{Conn: &chunks{in: bytes.NewReader(sent), most: most}, broken: make(chan error, 1)}
		for _, stream := range []uint32{1, 3, 5} {
			// The second write of a request that is long is no request.
			request := message(stream, typeRequest, string(message(9, typeRequest, "not a request")))
			_, _ = g.Write(request[:headerSize])
			_, _ = g.Write(request[headerSize:])
		}
		got, err := io.ReadAll(g)
		if !bytes.Equal(got, sent) || err != nil {
			t.Errorf("in pieces of %d: %q, %v", most, got, err)
		}
		if g.open[9] {
			t.Error("data of a request was taken for a request")
		}
	}
}

// So many calls may wait for an answer; each answer makes room for another call.
func TestGuardBoundsUnanswered(t *testing.T) {
	broken := make(chan error, 1)
	g := &guard{Conn: &chunks{in: bytes.NewReader(message(5, typeResponse, "")), most: 100}, broken: broken}
	ask := func(n uint32) error {
		_, err := g.Write(message(2*n+1, typeRequest, ""))
		return err
	}
	for n := range uint32(maxUnanswered) {
		if err := ask(n); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	if _, err := io.ReadAll(g); err != nil {
		t.Fatal(err)
	}
	if err := ask(maxUnanswered); err != nil || len(broken) != 0 {
		t.Fatalf("after an answer: %v", err)
	}
	if err := ask(maxUnanswered + 1); !errors.Is(err, net.ErrClosed) || len(broken) != 1 {
		t.Errorf("one more: %v, told %d times", err, len(broken))
	}
}

// Whatever an agent sends, what comes through is one bounded answer to each
// call, or an error that is told.
func FuzzGuard(f *testing.F) {
	f.Add(message(1, typeResponse, "answer"), 3)
	f.Add(message(2, typeResponse, ""), 1)
	f.Fuzz(func(t *testing.T, sent []byte, most int) {
		broken := make(chan error, 1)
		g := &guard{Conn: &chunks{in: bytes.NewReader(sent), most: max(1, most)}, broken: broken}
		_, _ = g.Write(message(1, typeRequest, ""))
		got, err := io.ReadAll(g)
		if len(got) > headerSize+maxAnswer {
			t.Errorf("%d bytes came through", len(got))
		}
		if len(got) >= headerSize && (binary.BigEndian.Uint32(got[4:]) != 1 || got[8] != typeResponse) {
			t.Errorf("%x came through", got[:headerSize])
		}
		if err != nil && err != io.ErrUnexpectedEOF && len(broken) == 0 {
			t.Errorf("nobody was told: %v", err)
		}
	})
}
