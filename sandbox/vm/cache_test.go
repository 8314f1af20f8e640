// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the configuration says of the cache is on virtiofsd's command line.
func TestShareCacheArguments(t *testing.T) {
	for cached, want := range map[bool][]string{
		false: {"cache=always", "timeout=1"},
		true:  {"cache=always"},
	} {
		c := Config{Share: "/share", ShareCached: cached}
		var got []string
		for _, a := range c.shareArguments(3) {
			if strings.HasPrefix(a, "cache=") || strings.HasPrefix(a, "timeout=") {
				got = append(got, a)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("cached %v: %q, want %q", cached, got, want)
		}
	}
}

// changes are the host's, to a file that a guest has read, with what it is to read
// then.
var changes = map[string]struct {
	do   func(file string) error
	then string
}{
	"another text of the same length": {func(file string) error { return os.WriteFile(file, []byte("new"), 0o644) }, "new"},
	"a longer text":                   {func(file string) error { return os.WriteFile(file, []byte("newer"), 0o644) }, "newer"},
	"another file in its place":       {replace, "new"},
}

func replace(file string) error {
	return errors.Join(os.WriteFile(file+".tmp", []byte("new"), 0o644), os.Rename(file+".tmp", file))
}

// What the host changes is seen, soon. The loops are ended by the rig's deadline.
func TestShareIsFollowed(t *testing.T) {
	g, share := sharing(t, false)
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			file := known(t, g, filepath.Join(share, "file"))
			if err := change.do(file); err != nil {
				t.Fatal(err)
			}
			for g.do("read", inGuest(file)) != change.then {
			}
		})
	}
	t.Run("a new name", func(t *testing.T) {
		before := g.do("list", inGuest(""))
		if err := os.WriteFile(filepath.Join(share, "new"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for g.do("list", inGuest("")) == before {
		}
	})
}

// What has the size and the time that it had is not read again, as a program is not
// that is run once more.
func TestShareIsKept(t *testing.T) {
	g, share := sharing(t, false)
	file := known(t, g, filepath.Join(share, "file"))
	later := known(t, g, filepath.Join(share, "later"))
	err := errors.Join(os.WriteFile(file, []byte("new"), 0o644), os.Chtimes(file, longAgo, longAgo),
		os.WriteFile(later, []byte("new"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for g.do("read", inGuest(later)) != "new" { // it asks again, and what it has known for longer too
	}
	if got := g.do("read", inGuest(file)); got != "old" {
		t.Errorf("the guest reads %q: it has read the file anew", got)
	}
}

// A guest that need not ask has a file where it was, when one that asks has seen
// another in its place.
func TestShareIsCached(t *testing.T) {
	g, share := sharing(t, true)
	asking, other := sharing(t, false)
	for g, share := range map[*guestOf]string{g: share, asking: other} {
		if err := replace(known(t, g, filepath.Join(share, "file"))); err != nil {
			t.Fatal(err)
		}
	}
	for asking.do("read", inGuest("file")) != "new" {
	}
	if got := g.do("read", inGuest("file")); got != "old" {
		t.Errorf("the guest reads %q: it has asked", got)
	}
}

// sharing boots a guest that has mounted a share.
func sharing(t *testing.T, cached bool) (_ *guestOf, share string) {
	t.Helper()
	r := newRig(t)
	c := r.config()
	c.Share, c.ShareCached = shared(t), cached
	g := r.up(c)
	g.do("mount", "virtiofs", ShareTag, inGuest(""))
	return g, c.Share
}

// longAgo is apart from the times of all changes, however coarse those are.
var longAgo = time.Unix(1_000_000_000, 0)

// known makes a file of the share one that the guest has read.
func known(t *testing.T, g *guestOf, file string) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(file, []byte("old"), 0o644), os.Chtimes(file, longAgo, longAgo)); err != nil {
		t.Fatal(err)
	}
	for g.do("read", inGuest(file)) != "old" {
	}
	return file
}

// inGuest is where the guest has a file of the share; "" is all of it.
func inGuest(file string) string {
	if file == "" {
		return "/run/share"
	}
	return "/run/share/" + filepath.Base(file)
}
