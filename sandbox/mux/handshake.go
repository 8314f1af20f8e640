// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// The greeting is a magic, a version and an epoch, which is random. The host
// sends one, the guest sends it back. Whatever comes before it is left from an
// earlier session, or from a machine that was restored, and is dropped.
const (
	magic        = "berth\x00\x01\xfe"
	version      = 1
	epochSize    = 16
	greetingSize = len(magic) + 1 + epochSize
	maxStale     = 8 << 20 // more than all windows of a pod hold
)

// greetingLimit is what an emulated guest needs to boot on a busy host, and
// several times that.
const greetingLimit = time.Minute

// Handshake begins the session. The host returns once the guest has answered,
// which takes it as long as it takes to boot; a guest waits for ever.
func (s *Session) Handshake(ctx context.Context) error {
	if !s.guest {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, greetingLimit)
		defer cancel()
	}
	// A transport has no deadlines: what ends the wait ends the session.
	defer context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })()
	err := s.greet()
	if ctx.Err() != nil { // and that is why the transport was closed
		err = fmt.Errorf("the other end did not answer in time: %w", context.Cause(ctx))
	}
	if err != nil {
		err = fmt.Errorf("handshake: %w", err)
		s.end(err)
		return err
	}
	return s.begin()
}

func (s *Session) greet() error {
	if s.guest {
		greeting, err := s.find([]byte(magic))
		if err != nil {
			return err
		}
		_, err = s.t.Write(greeting)
		return err
	}
	greeting := append([]byte(magic), version)
	greeting = append(greeting, make([]byte, epochSize)...)
	if _, err := rand.Read(greeting[len(magic)+1:]); err != nil {
		return err
	}
	if _, err := s.t.Write(greeting); err != nil {
		return err
	}
	_, err := s.find(greeting)
	return err
}

// find reads to the end of the first greeting that begins with want.
func (s *Session) find(want []byte) ([]byte, error) {
	var have []byte
	for range maxStale {
		b, err := s.in.ReadByte()
		if err != nil {
			return nil, err
		}
		have = append(have, b)
		if n := min(len(have), len(want)); string(have[:n]) != string(want[:n]) {
			have = resync(have, want)
		}
		if len(have) == greetingSize {
			if have[len(magic)] != version {
				return nil, fmt.Errorf("version %d is spoken there, %d here", have[len(magic)], version)
			}
			return have, nil
		}
	}
	return nil, errors.New("no greeting among all that came")
}

// resync is the longest end of have that may be the beginning of want.
func resync(have, want []byte) []byte {
	for i := 1; i <= len(have); i++ {
		if n := min(len(have)-i, len(want)); string(have[i:i+n]) == string(want[:n]) {
			return have[i:]
		}
	}
	return nil
}
