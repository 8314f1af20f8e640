// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox/vm"
)

// accept answers until the listener is closed.
func (k *keeper) accept(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return // it is closed
		}
		k.work.Go(func() {
			defer func() { _ = conn.Close() }()
			k.answer(ctx, conn)
		})
	}
}

// answer answers the one request of a connection.
func (k *keeper) answer(ctx context.Context, conn *net.UnixConn) {
	if conn.SetDeadline(time.Now().Add(requestTimeout)) != nil {
		return
	}
	buf := make([]byte, maxMessage)
	n, err := conn.Read(buf)
	if err != nil {
		return
	}
	var q Request
	var r reply
	var files []*os.File
	if err := json.Unmarshal(buf[:n], &q); err != nil {
		r.Error = fmt.Sprintf("the request is none: %v", err)
	} else if q.End {
		k.retire()
	} else if q.Wait && conn.SetDeadline(time.Time{}) != nil { // as long as it takes
		return
	} else if q.Key == "" {
		r.Templates = k.list(q.Wait)
	} else {
		r, files = k.give(ctx, q)
	}
	r.Pid = os.Getpid()
	data, err := json.Marshal(r)
	if err != nil {
		return
	}
	defer closeAll(files)
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	_, _, _ = conn.WriteMsgUnix(data, unix.UnixRights(fds...), nil) // or whoever asked has gone
}

// give answers who wants a template.
func (k *keeper) give(ctx context.Context, q Request) (reply, []*os.File) {
	defer k.touch()
	// Another version of this program, with other arguments, cannot have its
	// templates made here: it is to have a keeper of its own version.
	if own, err := vm.TemplateKey(ctx, q.config(k.sup, 0), q.Sharing); err != nil || own != q.Key {
		k.retire()
		return reply{Error: "this keeper is of another version, and ends"}, nil
	}
	h := k.find(ctx, q)
	if q.Wait {
		<-h.made // ctx ends that too
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !h.done() || h.template == nil {
		return reply{Templates: []Template{h.describe()}}, nil
	}
	files, err := duplicate(h.template)
	if err != nil {
		return reply{Error: err.Error()}, nil
	}
	h.given++
	return reply{Templates: []Template{h.describe()}}, files
}

// touch says that somebody has asked.
func (k *keeper) touch() {
	select {
	case k.used <- struct{}{}:
	default:
	}
}

// retire ends the keeper.
func (k *keeper) retire() {
	k.mu.Lock()
	k.retired = true
	k.mu.Unlock()
	k.touch()
}

// duplicate makes descriptors to hand out, which stay when the template is
// dropped.
func duplicate(t *vm.Template) (files []*os.File, _ error) {
	for _, f := range []*os.File{t.Memory, t.State} {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("hand out a template: %w", err)
		}
		files = append(files, os.NewFile(uintptr(fd), f.Name()))
	}
	return files, nil
}

// list is what there is, once it is made if that is wanted.
func (k *keeper) list(wait bool) []Template {
	k.mu.Lock()
	for _, h := range k.classes {
		if wait && !h.done() {
			k.mu.Unlock()
			<-h.made
			return k.list(wait)
		}
	}
	defer k.mu.Unlock()
	all := make([]Template, 0, len(k.classes))
	for _, h := range k.classes {
		all = append(all, h.describe())
	}
	return all
}

// describe is called with the keeper's lock held.
func (h *holding) describe() Template {
	q := h.request
	t := Template{Key: q.Key, State: Making, MemoryMiB: q.MemoryMiB, CPUs: q.CPUs, Sharing: q.Sharing, Given: h.given}
	switch {
	case !h.done():
	case h.err != nil:
		t.State, t.Error = Failed, h.err.Error()
		t.Error = t.Error[:min(len(t.Error), 2<<10)]
	default:
		t.State, t.Held = Ready, h.template.Held()
	}
	return t
}
