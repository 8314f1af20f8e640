// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

const limit = 60 * time.Second

// pair is a client's connection, and the monitor's end of it.
func pair(t testing.TB) (client, monitor *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conns[0], conns[1]
}

const greeting = `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// command is what a monitor is asked.
type command struct {
	Execute   string
	Arguments json.RawMessage
	ID        uint64
}

// answerWith has the monitor greet and then answer each command by lines, in
// which %d is the command's number.
func answerWith(t *testing.T, monitor *net.UnixConn, answers func(command) string) {
	t.Helper()
	var serving sync.WaitGroup
	serving.Go(func() {
		fmt.Fprintln(monitor, greeting)
		lines := bufio.NewScanner(monitor)
		for lines.Scan() {
			var c command
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Errorf("the client says %q: %v", lines.Text(), err)
				return
			}
			if c.Execute == "qmp_capabilities" {
				fmt.Fprintf(monitor, `{"return": {}, "id": %d}`+"\r\n", c.ID)
			} else if text := answers(c); text != "" {
				fmt.Fprint(monitor, text)
			}
		}
	})
	t.Cleanup(func() {
		_ = monitor.Close()
		serving.Wait()
	})
}

func dial(t *testing.T, conn *net.UnixConn, event func(Event)) (*Client, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	c, err := Dial(ctx, conn, event)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, ctx
}

func TestExecute(t *testing.T) {
	client, monitor := pair(t)
	answerWith(t, monitor, func(c command) string {
		if c.Execute != "query-balloon" || string(c.Arguments) != `{"a":1}` {
			t.Errorf("the monitor is asked %s %s", c.Execute, c.Arguments)
		}
		return fmt.Sprintf(`{"return": {"actual": 42}, "id": %d}`+"\r\n", c.ID)
	})
	c, ctx := dial(t, client, func(Event) {})
	var got struct{ Actual int }
	if err := c.Execute(ctx, "query-balloon", map[string]int{"a": 1}, &got); err != nil || got.Actual != 42 {
		t.Errorf("the answer is %v (%v)", got, err)
	}
}

func TestRefusal(t *testing.T) {
	client, monitor := pair(t)
	answerWith(t, monitor, func(c command) string {
		return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no such thing"}, "id": %d}`+"\n", c.ID)
	})
	c, ctx := dial(t, client, func(Event) {})
	var refused *Error
	err := c.Execute(ctx, "device_add", nil, nil)
	if !errors.As(err, &refused) || refused.Class != "GenericError" || err.Error() != "device_add: no such thing" {
		t.Errorf("got %v", err)
	}
}

// Answers go to who asked, in whatever order they come, and events in between
// to the function.
func TestAnswersAndEventsMix(t *testing.T) {
	client, monitor := pair(t)
	var held []command
	answerWith(t, monitor, func(c command) string {
		held = append(held, c)
		if len(held) < 2 {
			return ""
		}
		var b strings.Builder
		for _, c := range []command{held[1], held[0]} {
			fmt.Fprintf(&b, `{"event": "TICK", "data": {"of": %q}}`+"\n", c.Execute)
			fmt.Fprintf(&b, `{"return": %q, "id": %d}`+"\n", c.Execute, c.ID)
		}
		fmt.Fprintln(&b, `{"return": "nobody asked", "id": 99}`)
		return b.String()
	})
	events := make(chan Event, 2)
	c, ctx := dial(t, client, func(e Event) { events <- e })
	var asking sync.WaitGroup
	for _, command := range []string{"one", "two"} {
		asking.Go(func() {
			var got string
			if err := c.Execute(ctx, command, nil, &got); err != nil || got != command {
				t.Errorf("%s is answered %q (%v)", command, got, err)
			}
		})
	}
	asking.Wait()
	for range 2 {
		if e := <-events; e.Name != "TICK" {
			t.Errorf("event %s", e.Name)
		}
	}
}

func TestDescriptor(t *testing.T) {
	client, monitor := pair(t)
	c := newClient(client, func(Event) {})
	go c.read(make(chan struct{}))
	defer c.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	got := make(chan error, 1)
	go func() {
		data, rights := make([]byte, 1024), make([]byte, 64)
		_, n, _, _, err := monitor.ReadMsgUnix(data, rights)
		if err == nil {
			var messages []unix.SocketControlMessage
			if messages, err = unix.ParseSocketControlMessage(rights[:n]); err == nil && len(messages) != 1 {
				err = fmt.Errorf("%d control messages", len(messages))
			}
			for _, m := range messages {
				fds, _ := unix.ParseUnixRights(&m)
				for _, fd := range fds {
					_ = unix.Close(fd)
				}
			}
		}
		got <- err
		fmt.Fprintln(monitor, `{"return": {}, "id": 1}`)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.ExecuteFile(ctx, "add-fd", nil, nil, null); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Errorf("no descriptor came: %v", err)
	}
}

func TestPeerThatIsGone(t *testing.T) {
	client, monitor := pair(t)
	answerWith(t, monitor, func(command) string {
		_ = monitor.Close()
		return ""
	})
	c, ctx := dial(t, client, func(Event) {})
	if err := c.Execute(ctx, "quit", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	<-c.Done()
	if err := c.Execute(ctx, "quit", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("later: %v", err)
	}
}

// A monitor that neither reads nor answers holds nobody up for longer than they
// are willing to wait.
func TestDeafPeer(t *testing.T) {
	client, monitor := pair(t)
	answerWith(t, monitor, func(command) string { return "" })
	c, ctx := dial(t, client, func(Event) {})
	given, giveUp := context.WithCancel(ctx)
	giveUp()
	if err := c.Execute(given, "stop", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPeerThatDoesNotRead(t *testing.T) {
	client, monitor := pair(t)
	c := newClient(client, func(Event) {})
	go c.read(make(chan struct{}))
	defer c.Close()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var reading sync.WaitGroup
	reading.Go(func() { // the first byte, and no more
		_, _ = monitor.Read(make([]byte, 1))
		giveUp()
	})
	defer reading.Wait()
	large := strings.Repeat("x", 4<<20) // more than a socket holds
	if err := c.Execute(ctx, "large", large, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Half a command was sent: the connection is of no use any more.
	<-c.Done()
}

func TestPeerThatTalksNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":           "hello\n",
		"another JSON":      `["QMP"]` + "\n",
		"a message too big": strings.Repeat("x", maxMessage+1),
		"a second greeting": greeting + "\n" + greeting + "\n",
		"the end":           "",
	} {
		t.Run(name, func(t *testing.T) {
			client, monitor := pair(t)
			var writing sync.WaitGroup
			writing.Go(func() {
				_, _ = monitor.Write([]byte(text))
				_ = monitor.CloseWrite()
			})
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if _, err := Dial(ctx, client, func(Event) {}); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v", err)
			}
			_ = monitor.Close()
			writing.Wait()
		})
	}
}

func TestTooManyCommandsWait(t *testing.T) {
	c := newClient(nil, nil)
	for range maxWaiting {
		if _, _, err := c.expect(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.expect(); err == nil {
		t.Error("one more was taken")
	}
}

// Whatever the peer says, the client ends and nothing is left.
func FuzzPeer(f *testing.F) {
	f.Add([]byte(greeting + "\n" + `{"return": {}, "id": 1}` + "\n" + `{"event": "RESET"}` + "\n"))
	f.Add([]byte(greeting + "\n" + `{"error": {}, "id": 1}`))
	f.Fuzz(func(t *testing.T, said []byte) {
		client, monitor := pair(t)
		go func() {
			_, _ = monitor.Write(said)
			_ = monitor.CloseWrite()
		}()
		c, err := Dial(t.Context(), client, func(Event) {})
		if err == nil {
			c.Close()
		}
		_ = monitor.Close()
	})
}
