// SPDX-License-Identifier: Apache-2.0

package mig

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Limits of one request. A machine has 16 GPUs of 7 instances at most.
const (
	maxText  = 256
	maxCount = 64
)

// ParseAsk reads a list of what a container asks for, separated by commas:
//
//	3g.71gb     one instance of that profile, as `nvidia-smi mig -lgip` names it
//	1g.18gb:2   two
//	>=20GiB     one with at least so much memory, of the smallest profile that has it
//	>=20GiB:2   two
//
// The error is errdefs.ErrInvalidArgument.
func ParseAsk(text string) ([]Ask, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%d bytes ask for MIG devices, at most %d are read: %w", len(text), maxText, errdefs.ErrInvalidArgument)
	}
	var asks []Ask
	total := 0
	for part := range strings.SplitSeq(text, ",") {
		a, err := parseOne(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if total += a.Count; total > maxCount {
			return nil, fmt.Errorf("%.64q asks for more than %d MIG devices: %w", text, maxCount, errdefs.ErrInvalidArgument)
		}
		asks = append(asks, a)
	}
	return asks, nil
}

func parseOne(part string) (Ask, error) {
	a := Ask{Count: 1}
	what, count, counted := strings.Cut(part, ":")
	if counted {
		n, ok := decimal(count, maxCount)
		if !ok || n == 0 {
			return a, fmt.Errorf("%.64q: %q is no count from 1 to %d: %w", part, count, maxCount, errdefs.ErrInvalidArgument)
		}
		a.Count = n
	}
	if size, ok := strings.CutPrefix(what, ">="); ok {
		memory, ok := parseSize(size)
		if !ok {
			return a, fmt.Errorf("%.64q: %q is no size such as 20GiB or 500MiB: %w", part, size, errdefs.ErrInvalidArgument)
		}
		a.Memory = memory
		return a, nil
	}
	if !isProfile(what) {
		return a, fmt.Errorf("%.64q is neither a MIG profile such as 3g.71gb or 1g.18gb:2, nor a least size such as >=20GiB: %w", part, errdefs.ErrInvalidArgument)
	}
	a.Profile = what
	return a, nil
}

// parseSize reads a size in MiB, GiB, MB or GB.
func parseSize(s string) (uint64, bool) {
	for _, unit := range []struct {
		name  string
		bytes uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"GB", 1e9}, {"MB", 1e6}} {
		if digits, ok := strings.CutSuffix(s, unit.name); ok {
			n, ok := decimal(digits, 1<<24)
			return uint64(n) * unit.bytes, ok && n > 0
		}
	}
	return 0, false
}

// isProfile says that a name can be a profile's: "1g.18gb", "1g.18gb+me", "1g.24gb+me.all",
// "1g.24gb-me". Which there are, NVML says.
func isProfile(s string) bool {
	slices, memory, ok := strings.Cut(s, "g.")
	if _, isNumber := decimal(slices, 99); !ok || !isNumber {
		return false
	}
	size, suffix, ok := strings.Cut(memory, "gb")
	if _, isNumber := decimal(size, 9999); !ok || !isNumber {
		return false
	}
	return suffix == "" || len(suffix) > 1 && len(suffix) <= 32 && (suffix[0] == '+' || suffix[0] == '-') &&
		strings.Trim(suffix[1:], "abcdefghijklmnopqrstuvwxyz.+-") == ""
}

// decimal reads digits alone: no sign, and no zero before others.
func decimal(s string, most int) (int, bool) {
	if s == "" || len(s) > 9 || len(s) > 1 && s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= most
}
