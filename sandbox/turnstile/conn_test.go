// SPDX-License-Identifier: Apache-2.0

package turnstile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"berth/sandbox/turnstile"
)

func message(id uint32, payload string) []byte {
	m := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	m = binary.BigEndian.AppendUint32(m, id)
	return append(append(m, 1, 0), payload...)
}

// turn runs f in a bubble with a turnstile and the other end of its connection,
// whose bytes go into out.
func turn(t *testing.T, in []byte, f func(c *turnstile.Conn, out *bytes.Buffer, over chan struct{})) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var out bytes.Buffer
		copied := make(chan struct{})
		go func() { defer close(copied); _, _ = io.Copy(&out, far) }()
		sent := make(chan struct{})
		go func() { defer close(sent); _, _ = far.Write(in) }()
		over := make(chan struct{})
		f(turnstile.New(near, over), &out, over)
		_, _ = near.Close(), far.Close()
		<-copied
		<-sent
	})
}

func TestAnAnswerWaitsForItsRequest(t *testing.T) {
	turn(t, append(message(1, "one"), message(3, "three")...), func(c *turnstile.Conn, out *bytes.Buffer, _ chan struct{}) {
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], message(1, "one")) {
			t.Fatalf("read %q, %v; the first message alone was expected", buf[:n], err)
		}
		go func() { _, _ = c.Write(message(1, "answer")) }()
		synctest.Wait()
		if out.Len() > 0 {
			t.Error("the answer is out before the server came back from its request")
		}
		if n, err = c.Read(buf); err != nil || !bytes.Equal(buf[:n], message(3, "three")) {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
		synctest.Wait()
		if !bytes.Equal(out.Bytes(), message(1, "answer")) {
			t.Errorf("the other end has %q", out.Bytes())
		}
	})
}

// An answer is owed from when its request is seen until its last byte is out.
func TestAnswersAreOwed(t *testing.T) {
	turn(t, append(message(1, "one"), message(3, "three")...), func(c *turnstile.Conn, _ *bytes.Buffer, _ chan struct{}) {
		want := func(n int) {
			t.Helper()
			if owed := c.Owed(); owed != n {
				t.Errorf("%d answers are owed, want %d", owed, n)
			}
		}
		write := func(p []byte) {
			t.Helper()
			if _, err := c.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 4096)
		for n := range 2 {
			want(n)
			if _, err := c.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		want(2)
		answer := message(1, "answer")
		answer[8] = 2 // a response
		write(answer[:headerSize])
		want(2)
		write(answer[headerSize:])
		want(1)
		data := message(1, "data")
		data[8] = 3 // of a stream, which is no answer
		write(data)
		want(1)
	})
}

// A server answers data for a stream that it does not know, which is no request: such a
// client would else outweigh another, to which an answer is owed.
func TestNoFewerThanNoAnswersAreOwed(t *testing.T) {
	stray := message(1, "stray")
	stray[8] = 3 // of a stream
	turn(t, stray, func(c *turnstile.Conn, _ *bytes.Buffer, over chan struct{}) {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		close(over) // the answer need not wait for the next request
		answer := message(1, "no longer active")
		answer[8] = 2
		if _, err := c.Write(answer); err != nil {
			t.Fatal(err)
		}
		if owed := c.Owed(); owed != 0 {
			t.Errorf("%d answers are owed", owed)
		}
	})
}

func TestAnEndingServerIsNotHeldBack(t *testing.T) {
	turn(t, message(1, ""), func(c *turnstile.Conn, out *bytes.Buffer, over chan struct{}) {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = c.Write(message(1, "")) }()
		synctest.Wait()
		close(over)
		synctest.Wait()
		if !bytes.Equal(out.Bytes(), message(1, "")) {
			t.Errorf("the other end has %q", out.Bytes())
		}
	})
}

func TestLongAnswersAndTornRequests(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 10_000))
	turn(t, append(message(1, long), 0, 0, 0), func(c *turnstile.Conn, out *bytes.Buffer, _ chan struct{}) {
		got := make([]byte, headerSize+len(long))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, message(1, long)) {
			t.Fatalf("a long request is not read whole: %v", err)
		}
		wrote := make(chan error, 1)
		go func() {
			answer := message(1, long)
			_, err := c.Write(answer[:4096])
			if err == nil {
				_, err = c.Write(answer[4096:])
			}
			wrote <- err
		}()
		read := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(c, got[:headerSize])
			read <- err
		}()
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		_ = c.Close()
		if err := <-read; !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a torn request ends with %v", err)
		}
	})
}

const headerSize = 10
