// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
)

func TestRefusals(t *testing.T) {
	run := t.TempDir()
	if got, err := Refusals(run); err != nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := Refuse(run, "3g.71gb", "room"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := os.WriteFile(filepath.Join(refusals(run), "other:held"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Refuse(run, "other", "held"); err != nil {
		t.Fatal(err)
	}
	want := []Refusal{{"3g.71gb", "room", 400}, {"other", "held", 1}}
	if got, err := Refusals(run); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, name := range []string{"../x", ".x", "/etc/x"} {
		if Refuse(run, name, "room") == nil {
			t.Errorf("%q is counted", name)
		}
	}
}
