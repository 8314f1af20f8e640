// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Refusal counts how often nobody got a slice of a profile, for a reason, since the last boot. The
// names are the writer's, not those that were asked for: there are as many as profiles and reasons.
type Refusal struct {
	Profile, Reason string
	Count           uint64
}

func refusals(run string) string { return filepath.Join(run, "gpu", "refused") }

// Refuse counts one more. A count is a file with a number of fixed width, so that it is written over
// in one step.
func Refuse(run, profile, reason string) error {
	name := profile + ":" + reason
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("%q cannot be counted", name)
	}
	if err := os.MkdirAll(refusals(run), 0o700); err != nil {
		return fmt.Errorf("count a refusal: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(refusals(run), name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("count a refusal: %w", err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // held for as long as this takes
		return fmt.Errorf("count a refusal: %w", err)
	}
	n, err := count(f)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%020d\n", n+1), 0)
	}
	if err != nil {
		return fmt.Errorf("count a refusal: %w", err)
	}
	return nil
}

// count is 0 of a file that is new, or holds no number.
func count(f *os.File) (n uint64, err error) {
	data := make([]byte, 32)
	length, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n, _ = strconv.ParseUint(strings.TrimSpace(string(data[:length])), 10, 64)
	return n, nil
}

// Refusals are all counts.
func Refusals(run string) (out []Refusal, _ error) {
	entries, err := os.ReadDir(refusals(run))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the refusals: %w", err)
	}
	for _, e := range entries {
		profile, reason, ok := strings.Cut(e.Name(), ":")
		f, err := os.Open(filepath.Join(refusals(run), e.Name()))
		if err != nil || !ok {
			continue
		}
		n, err := count(f)
		if _ = f.Close(); err == nil {
			out = append(out, Refusal{Profile: profile, Reason: reason, Count: n})
		}
	}
	return out, nil
}
