// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"syscall"

	"github.com/containerd/errdefs"
)

const (
	// The two differ, so that a transport that echoes is not taken for a
	// guest. The fifth byte is no frame's kind.
	hostMagic  = "\xbeBERTH\x00H"
	guestMagic = "\xbeBERTH\x00G"

	version = 2

	// maxStale is how many bytes before a greeting are dropped: a guest's driver
	// may hold 4 MiB of an earlier session's, and sockets some more.
	maxStale = 8 << 20
)

// greeting is what either side says first: which session it means.
type greeting struct {
	magic   string
	epoch   [16]byte
	version byte
}

// greetingSize is that of magic, epoch, version and checksum.
const greetingSize = len(hostMagic) + 16 + 1 + 4

func (g greeting) bytes() []byte {
	b := append([]byte(g.magic), g.epoch[:]...)
	b = append(b, g.version)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// Handshake begins the session; neither side can do anything else before. The
// host greets and waits for the guest to answer it, the guest waits for the
// host. If ctx ends first, so does the session.
func (s *Session) Handshake(ctx context.Context) error {
	if err := s.advance(fresh, greeted); err != nil {
		return err
	}
	// A transport need not have deadlines: what ends the wait ends the session.
	stop := context.AfterFunc(ctx, func() { s.end(fmt.Errorf("handshake: %w", context.Cause(ctx))) })
	err := s.greet()
	if !stop() && err == nil {
		<-s.done
	}
	if err != nil {
		s.end(fmt.Errorf("handshake: %w", err))
		return s.Err()
	}
	return s.run()
}

func (s *Session) greet() error {
	if s.guest {
		return s.answer()
	}
	mine := greeting{magic: hostMagic, version: version}
	_, _ = rand.Read(mine.epoch[:]) // it never fails
	if _, err := s.t.Write(mine.bytes()); err != nil {
		return err
	}
	its, err := s.find(func(g greeting) bool { return g.magic == guestMagic && g.epoch == mine.epoch })
	if err == nil && its.version != version {
		err = fmt.Errorf("the guest speaks version %d of the protocol and this program version %d: "+
			"the guest's image is of another release, build it again: %w", its.version, version, errdefs.ErrNotImplemented)
	}
	return err
}

// answer says the host's epoch and the version of this side, also to a host of
// another version, which can then tell why there will be no session.
func (s *Session) answer() error {
	its, err := s.find(func(g greeting) bool { return g.magic == hostMagic })
	if err != nil {
		return err
	}
	if _, err := s.t.Write(greeting{guestMagic, its.epoch, version}.bytes()); err != nil {
		return err
	}
	if its.version != version {
		return fmt.Errorf("the host speaks version %d of the protocol and this program version %d: %w",
			its.version, version, errdefs.ErrNotImplemented)
	}
	return nil
}

// find drops what comes before the first greeting that is wanted: it is left
// from an earlier session, or from before the machine was restored.
func (s *Session) find(want func(greeting) bool) (greeting, error) {
	for range maxStale {
		b, err := s.in.Peek(greetingSize)
		if err != nil {
			return greeting{}, ended(err, len(b))
		}
		g := greeting{magic: string(b[:len(hostMagic)])}
		if g.magic == hostMagic || g.magic == guestMagic {
			rest := b[len(hostMagic):]
			copy(g.epoch[:], rest)
			g.version = rest[len(g.epoch)]
			if bytes.Equal(b, g.bytes()) && want(g) {
				_, err = s.in.Discard(greetingSize)
				return g, err
			}
		}
		_, _ = s.in.Discard(1)
	}
	return greeting{}, violation("%d bytes came and no greeting among them", maxStale)
}

// ended says what it means that no more came, after part of something or not.
func ended(err error, part int) error {
	switch {
	case errors.Is(err, syscall.ECONNRESET): // with something that it had not read
	case !errors.Is(err, io.EOF):
		return err
	case part > 0:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the other end hung up: %w", err)
}
