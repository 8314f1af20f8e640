// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Ask is what a container asks of its pod's daemon: limits for each client.
type Ask struct {
	// Memory is how much of each device a client may allocate, in MiB; 0 is no
	// limit.
	Memory int `json:"memory_mib,omitempty"`
	// Threads is what part of a device's threads a client may use, in percent;
	// 0 is no limit.
	Threads int `json:"threads,omitempty"`
}

// maxText bounds the text of an Ask, in bytes.
const maxText = 128

// ParseAsk reads what a container asks for: "memory=10GiB,threads=25", one of
// the two, or "on" for a daemon without limits. The error is
// errdefs.ErrInvalidArgument.
func ParseAsk(text string) (Ask, error) {
	var a Ask
	wrong := func(what string) (Ask, error) {
		return Ask{}, fmt.Errorf("%.64q: %s; known are memory=10GiB, threads=25 (percent), both with a comma between them, on and none: %w", text, what, errdefs.ErrInvalidArgument)
	}
	if text == "on" {
		return a, nil
	}
	if len(text) > maxText {
		return wrong(fmt.Sprintf("%d bytes", len(text)))
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case key == "memory" && a.Memory == 0:
			if a.Memory = mebibytes(value); a.Memory == 0 {
				return wrong(fmt.Sprintf("%q is no size such as 10GiB or 500MiB", value))
			}
		case key == "threads" && a.Threads == 0:
			if a.Threads = decimal(value, 100); a.Threads == 0 {
				return wrong(fmt.Sprintf("%q is no percentage from 1 to 100", value))
			}
		default:
			return wrong(fmt.Sprintf("%q is not known, or is there twice", key))
		}
	}
	return a, nil
}

// String is the text that ParseAsk reads.
func (a Ask) String() string {
	var parts []string
	if a.Memory > 0 {
		parts = append(parts, fmt.Sprintf("memory=%dMiB", a.Memory))
	}
	if a.Threads > 0 {
		parts = append(parts, fmt.Sprintf("threads=%d", a.Threads))
	}
	if parts == nil {
		return "on"
	}
	return strings.Join(parts, ",")
}

// mebibytes reads a size, which the daemon takes in whole MiB; 0 is none.
func mebibytes(s string) int {
	if digits, ok := strings.CutSuffix(s, "GiB"); ok {
		return decimal(digits, 1<<14) << 10
	}
	if digits, ok := strings.CutSuffix(s, "MiB"); ok {
		return decimal(digits, 1<<24)
	}
	return 0
}

// decimal reads digits alone, without a zero before others; 0 is none.
func decimal(s string, most int) int {
	if s == "" || len(s) > 8 || s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0
	}
	if n, err := strconv.Atoi(s); err == nil && n <= most {
		return n
	}
	return 0
}
