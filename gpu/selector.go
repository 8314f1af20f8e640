// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// SelectorKind says by what a Selector names devices.
type SelectorKind uint8

// The kinds, each with the form that is read.
const (
	SelectAll      SelectorKind = iota + 1 // all: every GPU; of a partitioned one, its MIG devices
	SelectMIGAll                           // mig:all: every MIG device
	SelectIndex                            // 0
	SelectUUID                             // GPU-…
	SelectMIGIndex                         // 0:1, the MIG device 1 of GPU 0
	SelectMIGUUID                          // MIG-…
	SelectCount                            // any N whole GPUs; in annotations alone
)

// Selector is one wish for devices.
type Selector struct {
	Kind SelectorKind
	UUID string // of SelectUUID and SelectMIGUUID, with its prefix, in lower case after it
	N    int    // the index, or how many
	MIG  int    // the second index of SelectMIGIndex
}

// String is the form in which an annotation asks for the same.
func (s Selector) String() string {
	switch s.Kind {
	case SelectAll:
		return "all"
	case SelectMIGAll:
		return "mig:all"
	case SelectIndex:
		return "index:" + strconv.Itoa(s.N)
	case SelectMIGIndex:
		return fmt.Sprintf("%d:%d", s.N, s.MIG)
	case SelectCount:
		return strconv.Itoa(s.N)
	}
	return s.UUID
}

// Bounds of what is read. What comes near them is an attack or a mistake: the
// driver knows at most 64 GPUs, and 64 UUIDs are less than 3 KiB.
const (
	maxValue     = 4 << 10
	maxSelectors = 64
	maxIndex     = 999
)

// numbers says what a bare number means.
//
// To NVIDIA_VISIBLE_DEVICES it is an index. To an annotation it is a count, as
// it is to who writes `nvidia.com/gpu: 2` into the same pod; a pod's author can
// hardly know the indexes of a node that the scheduler chose. Who does writes
// index:0,2. A list of bare numbers can only mean indexes, but is refused
// nevertheless: it would change its meaning when it shrinks to one.
type numbers uint8

const (
	numbersAreIndexes numbers = iota
	numbersAreCounts
)

// parseDevices reads a list of devices. Nothing, and "void" wherever it is in
// the list, ask for nothing; "none" asks for the driver without a device.
func parseDevices(text string, bare numbers) (devices []Selector, none bool, err error) {
	if len(text) > maxValue {
		return nil, false, tooLong(text, maxValue)
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.Trim(items[i], " ")
	}
	items = slices.DeleteFunc(items, func(s string) bool { return s == "" })
	switch {
	case len(items) == 0 || slices.Contains(items, "void"):
		return nil, false, nil
	case len(items) == 1 && items[0] == "none":
		return nil, true, nil
	}
	indexed := bare == numbersAreIndexes
	for _, item := range items {
		s, ok := parseSelector(item)
		if rest, found := strings.CutPrefix(item, "index:"); found && bare == numbersAreCounts {
			indexed = true
			s, ok = parseSelector(rest)
			ok = ok && (s.Kind == SelectIndex || s.Kind == SelectMIGIndex)
		}
		if !ok {
			return nil, false, notADevice(item, bare)
		}
		if s.Kind == SelectIndex && !indexed {
			if len(items) > 1 || s.N == 0 || s.N > maxSelectors {
				return nil, false, notACount(item)
			}
			s.Kind = SelectCount
		}
		if !slices.Contains(devices, s) {
			devices = append(devices, s)
		}
	}
	if len(devices) > maxSelectors {
		return nil, false, fmt.Errorf("%d devices are asked for; at most %d can be: %w", len(devices), maxSelectors, errdefs.ErrInvalidArgument)
	}
	return devices, false, nil
}

func parseSelector(item string) (Selector, bool) {
	switch item {
	case "all":
		return Selector{Kind: SelectAll}, true
	case "mig:all":
		return Selector{Kind: SelectMIGAll}, true
	}
	if hex, ok := strings.CutPrefix(item, "GPU-"); ok {
		return Selector{Kind: SelectUUID, UUID: "GPU-" + strings.ToLower(hex)}, isUUID(hex)
	}
	if hex, ok := strings.CutPrefix(item, "MIG-"); ok {
		return Selector{Kind: SelectMIGUUID, UUID: "MIG-" + strings.ToLower(hex)}, isUUID(hex)
	}
	if gpu, mig, ok := strings.Cut(item, ":"); ok {
		n, okN := decimalID(gpu, maxIndex)
		m, okM := decimalID(mig, maxIndex)
		return Selector{Kind: SelectMIGIndex, N: n, MIG: m}, okN && okM
	}
	n, ok := decimalID(item, maxIndex)
	return Selector{Kind: SelectIndex, N: n}, ok
}

// isUUID says whether s is 8-4-4-4-12 hexadecimal digits.
func isUUID(s string) bool {
	return len(s) == 36 && strings.TrimLeft(s, "0123456789abcdefABCDEF-") == "" && strings.Count(s, "-") == 4 &&
		s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

// decimalID reads digits without a sign or leading zeros.
func decimalID(s string, most uint64) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n <= most && (s[0] != '0' || s == "0")
}

func tooLong(text string, most int) error {
	return fmt.Errorf("the value has %d bytes; at most %d are read: %w", len(text), most, errdefs.ErrInvalidArgument)
}

func notADevice(item string, bare numbers) error {
	known := "an index (0)"
	if bare == numbersAreCounts {
		known = "a count (2), an index (index:0)"
	}
	return fmt.Errorf("%.64q does not name a GPU; known are all, none, %s, a UUID (GPU-… or MIG-… with 8-4-4-4-12 hex digits), "+
		"gpu:mig (0:1) and mig:all; none only by itself: %w", item, known, errdefs.ErrInvalidArgument)
}

func notACount(item string) error {
	return fmt.Errorf("%s is not a count of GPUs: a count is a number from 1 to %d by itself; for GPUs by index write index:0 or index:0,2: %w",
		item, maxSelectors, errdefs.ErrInvalidArgument)
}
