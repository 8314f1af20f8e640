// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"math"
)

// The parsers take what the kernel wrote and allocate nothing. A line that does
// not have the documented form is left out: a kernel adds fields, and a part of
// the counters is worth more than none.

// maxPolicy says what the word "max" (no limit) becomes. Consumers of the two
// Metrics messages expect 0 on v1 and the largest number on v2.
type maxPolicy uint64

const (
	maxIsZero maxPolicy = 0
	maxIsMax  maxPolicy = math.MaxUint64
)

// parseNumber reads a file of one number, or "max". A negative number (-1 is an
// old "no limit") is 0.
func parseNumber(text []byte, max maxPolicy) (uint64, bool) {
	text = bytes.TrimSpace(text)
	if string(text) == "max" {
		return uint64(max), true
	}
	return parseUint(text)
}

// parseUint reads decimal digits; a leading minus makes it 0, an overflow fails.
func parseUint(text []byte) (uint64, bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	if len(text) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		digit := uint64(c - '0')
		if !negative && n > (math.MaxUint64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	if negative {
		return 0, true
	}
	return n, true
}

// nextLine splits off the first line.
func nextLine(text []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(text, []byte{'\n'})
	return line, rest
}

// nextField splits off the first field; fields are separated by blanks.
func nextField(line []byte) (field, rest []byte) {
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		return line[:i], line[i+1:]
	}
	return line, nil
}

// nextPair reads the next well-formed "key value" line ("flat keyed" in
// cgroup-v2.rst); ok is false at the end.
func nextPair(text []byte) (key []byte, value uint64, rest []byte, ok bool) {
	for len(text) > 0 {
		var line []byte
		line, text = nextLine(text)
		name, tail := nextField(line)
		number, tail := nextField(tail)
		if len(name) == 0 || len(bytes.TrimSpace(tail)) != 0 {
			continue
		}
		if v, good := parseUint(number); good {
			return name, v, text, true
		}
	}
	return nil, 0, nil, false
}

// lookup finds one key of a flat keyed file.
func lookup(text []byte, want string) (uint64, bool) {
	for {
		key, value, rest, ok := nextPair(text)
		if !ok {
			return 0, false
		}
		if string(key) == want {
			return value, true
		}
		text = rest
	}
}

// parseDevice reads "major:minor".
func parseDevice(text []byte) (major, minor uint64, ok bool) {
	a, b, found := bytes.Cut(text, []byte{':'})
	if !found {
		return 0, 0, false
	}
	major, ok = parseUint(a)
	if !ok {
		return 0, 0, false
	}
	minor, ok = parseUint(b)
	return major, minor, ok
}

// parseAverage reads a share in percent with two decimals ("12.34"), as in the
// pressure files (Documentation/accounting/psi.rst).
func parseAverage(text []byte) (float64, bool) {
	whole, fraction, _ := bytes.Cut(text, []byte{'.'})
	n, ok := parseUint(whole)
	if !ok || n > 1<<32 || len(fraction) > 6 {
		return 0, false
	}
	scale := uint64(1)
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return 0, false
		}
		n, scale = n*10+uint64(c-'0'), scale*10
	}
	return float64(n) / float64(scale), true
}

// deviceName looks a block device up in the text of /proc/partitions; nil when
// it is not there. The first of several lines wins.
func deviceName(partitions []byte, major, minor uint64) []byte {
	for len(partitions) > 0 {
		var line []byte
		line, partitions = nextLine(partitions)
		a, rest := nextField(line)
		b, rest := nextField(rest)
		_, rest = nextField(rest) // size in blocks
		name, _ := nextField(rest)
		if x, ok := parseUint(a); !ok || x != major {
			continue
		}
		if y, ok := parseUint(b); ok && y == minor && len(name) > 0 {
			return name
		}
	}
	return nil
}
