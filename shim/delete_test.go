// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"os"
	"path/filepath"
	"testing"

	"berth/process"
	"berth/sandbox"
)

// Of what a dead shim left, containerd tells the end of an init itself.
func TestToldByReply(t *testing.T) {
	for _, c := range []struct {
		event sandbox.Event
		want  bool
	}{
		{sandbox.Event{Kind: sandbox.TaskExit, Container: "a", Exit: process.Exit{Status: 3}}, true},
		{sandbox.Event{Kind: sandbox.TaskExit, Container: "a", Exec: "e"}, false},
		{sandbox.Event{Kind: sandbox.TaskDelete, Container: "a"}, true},
		{sandbox.Event{Kind: sandbox.TaskOOM, Container: "a"}, false},
		{sandbox.Event{Kind: sandbox.TaskStart, Container: "a"}, false},
	} {
		topic, m := message(c.event)
		event, err := marshalAny(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := toldByReply(topic, event); got != c.want {
			t.Errorf("%s of %q/%q: %t", topic, c.event.Container, c.event.Exec, got)
		}
	}
}

// Every kind of event has a message, and no two share a topic.
func TestEventsHaveMessages(t *testing.T) {
	topics := make(map[string]bool)
	for kind := sandbox.TaskCreate; kind <= sandbox.TaskCheckpointed; kind++ {
		topic, m := message(sandbox.Event{Kind: kind, Container: "a", Create: &sandbox.CreateRequest{}})
		if m == nil || topics[topic] {
			t.Errorf("kind %d: topic %q, %v", kind, topic, m)
		}
		topics[topic] = true
	}
	if _, m := message(sandbox.Event{Kind: sandbox.HookEvent + 1}); m != nil {
		t.Error("an unknown kind has a message")
	}
}

func TestNoteAddress(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := noteAddress(dir, "/run/s/x"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil || string(got) != "unix:///run/s/x" {
		t.Errorf("%q, %v", got, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}
