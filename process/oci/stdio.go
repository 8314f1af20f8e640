// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// maxStdout bounds what a runtime may answer on stdout, in bytes. `state` repeats the
	// annotations of the container, of which there may be 1 MiB.
	maxStdout = 4 << 20
	// maxStderr bounds what is kept of its stderr.
	maxStderr = 64 << 10
)

// callStdio is fds 0, 1 and 2 of one call.
//
// Output is captured in memory files rather than pipes. A process that the runtime leaves
// behind (a daemon started by a hook) may keep the descriptor for as long as it likes: what
// the runtime itself wrote is in the file once it has exited, and there is no end of a stream
// to wait for. Nor can a full pipe stop it: the file is sealed at its size (fcntl(2),
// F_SEAL_GROW) and writes beyond it fail.
type callStdio struct {
	files []*os.File
	own   bool // files were made here
}

func (r *call) openStdio() (_ *callStdio, retErr error) {
	if r.stdio != nil {
		return &callStdio{files: r.stdio}, nil
	}
	s := &callStdio{files: make([]*os.File, 3), own: true}
	defer func() {
		if retErr != nil {
			s.close()
		}
	}()
	var err error
	if r.stdin != nil {
		if s.files[0], err = memfile("stdin"); err != nil {
			return nil, err
		}
		if _, err := s.files[0].WriteAt(r.stdin, 0); err != nil {
			return nil, fmt.Errorf("write input of the runtime: %w", err)
		}
	}
	for fd, size := range map[int]int64{1: maxStdout, 2: maxStderr} {
		if s.files[fd], err = memfile("output"); err != nil {
			return nil, err
		}
		if err := s.files[fd].Truncate(size); err != nil {
			return nil, fmt.Errorf("size memory file: %w", err)
		}
		seals := unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
		if _, err := unix.FcntlInt(s.files[fd].Fd(), unix.F_ADD_SEALS, seals); err != nil {
			return nil, fmt.Errorf("seal memory file: %w", err)
		}
	}
	return s, nil
}

func memfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("oci-"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// captured is what was written to fd so far, or nil if it was not captured. The runtime has
// our file description, so its offset is the length.
func (s *callStdio) captured(fd int) []byte {
	if !s.own {
		return nil
	}
	n, err := s.files[fd].Seek(0, io.SeekCurrent)
	if err != nil {
		return nil
	}
	buf := make([]byte, n)
	got, _ := s.files[fd].ReadAt(buf, 0)
	return bytes.Trim(buf[:got], "\x00") // holes, where a child wrote at an offset of its own
}

func (s *callStdio) close() {
	if !s.own {
		return
	}
	for _, f := range s.files {
		if f != nil {
			_ = f.Close()
		}
	}
}
