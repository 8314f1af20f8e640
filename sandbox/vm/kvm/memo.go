// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// memoLife is how long a KVM that was too slow is taken to be so still. It is
// short, because a host that was too busy to run the guest looks the same.
const memoLife = time.Minute

// TryOnce is Try, but that it believes the file where it says that KVM was too
// slow here in the last minute, and writes it: whoever can do without KVM need
// not wait a second for that each time. All other errors come at once, and are
// not kept.
func TryOnce(ctx context.Context, device, file string) error {
	info, err := os.Stat(file)
	if err == nil {
		if age := time.Since(info.ModTime()); age >= 0 && age < memoLife {
			return fmt.Errorf("%s: %w (%v ago)", device, errSlow, age.Round(time.Second))
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look whether KVM was slow: %w", err)
	}
	err = Try(ctx, device)
	if errors.Is(err, errSlow) {
		// Without a note the next one waits as this one has.
		_ = os.WriteFile(file, []byte(err.Error()+"\n"), 0o600)
	}
	return err
}
