// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func exit() *Event {
	return &Event{Event: &Event_Exit{Exit: &Exit{Process: 7, Status: 3, Known: true, OomKills: 1}}}
}

func oom(id string) *Event {
	return &Event{Event: &Event_Oom{Oom: &OOM{Container: id, Kills: 2}}}
}

func TestEventsComeAsTheyWereSent(t *testing.T) {
	var wire bytes.Buffer
	sent := []*Event{exit(), oom("a"), exit()}
	for _, e := range sent {
		if err := WriteEvent(&wire, e); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range sent {
		if got, err := ReadEvent(&wire); err != nil || !proto.Equal(got, want) {
			t.Errorf("event %d: %v, %v; want %v", i, got, err, want)
		}
	}
	if _, err := ReadEvent(&wire); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestEventsAreBounded(t *testing.T) {
	if err := WriteEvent(io.Discard, oom(strings.Repeat("x", MaxEvent))); err == nil {
		t.Error("an event that nobody would read is written")
	}
	for name, wire := range map[string]string{
		"long":      "\x00\x00\x02\x01" + strings.Repeat("x", MaxEvent+1),
		"huge":      "\xff\xff\xff\xff",
		"empty":     "\x00\x00\x00\x00",
		"torn":      "\x00\x00\x00\x09abc",
		"cut":       "\x00\x00",
		"garbage":   "\x00\x00\x00\x03\xff\xff\xff",
		"not known": "\x00\x00\x00\x02\x7a\x00",
	} {
		if e, err := ReadEvent(strings.NewReader(wire)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
}

// What is read is an event within bounds, or an error; never a panic, nor more
// memory than an event may have.
func FuzzReadEvent(f *testing.F) {
	for _, e := range []*Event{exit(), oom("a")} {
		var wire bytes.Buffer
		if err := WriteEvent(&wire, e); err != nil {
			f.Fatal(err)
		}
		f.Add(wire.Bytes())
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := bytes.NewReader(wire)
		e, err := ReadEvent(r)
		if err != nil {
			return
		}
		if read := len(wire) - r.Len(); read > 4+MaxEvent {
			t.Errorf("%d bytes were read", read)
		}
		if e.GetExit() == nil && e.GetOom() == nil {
			t.Error("an event that is none")
		}
	})
}
