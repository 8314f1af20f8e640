// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// decode flattens an encoding: field path ("4.33.1") to its values, in order.
// Paths of strings and of packed lists are known by the schema; all other
// length-delimited fields are messages, and are listed with the value "{}".
func decode(b []byte, strings, packed []string) (map[string][]any, error) {
	out := map[string][]any{}
	return out, decodeInto(out, "", b, strings, packed)
}

func decodeInto(out map[string][]any, path string, b []byte, strings, packed []string) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("tag in %q: %w", path, protowire.ParseError(n))
		}
		b = b[n:]
		at := fmt.Sprintf("%s%d", path, num)
		switch kind {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%s: %w", at, protowire.ParseError(n))
			}
			out[at], b = append(out[at], v), b[n:]
		case protowire.Fixed64Type:
			v, n := protowire.ConsumeFixed64(b)
			if n < 0 {
				return fmt.Errorf("%s: %w", at, protowire.ParseError(n))
			}
			out[at], b = append(out[at], math.Float64frombits(v)), b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("%s: %w", at, protowire.ParseError(n))
			}
			b = b[n:]
			switch {
			case slices.Contains(strings, at):
				out[at] = append(out[at], string(v))
			case slices.Contains(packed, at):
				for len(v) > 0 {
					x, n := protowire.ConsumeVarint(v)
					if n < 0 {
						return fmt.Errorf("%s: %w", at, protowire.ParseError(n))
					}
					out[at], v = append(out[at], x), v[n:]
				}
			default:
				out[at] = append(out[at], "{}")
				if err := decodeInto(out, at+".", v, strings, packed); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("%s: wire type %d", at, kind)
		}
	}
	return nil
}

// The schema's strings and packed lists.
var (
	stringsV1 = []string{"1.4", "5.1.1", "5.1.2", "5.2.1", "5.2.2", "5.7.1", "5.7.2"}
	packedV1  = []string{"3.1.4"}
	stringsV2 = []string{"5.1.1", "5.2.1", "7.3"}
)

// statsOf calls Stats and decodes what it appended.
func statsOf(t testing.TB, c *Cgroup) map[string][]any {
	t.Helper()
	b, url, err := c.Stats([]byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	if string(b[:4]) != "kept" {
		t.Fatal("Stats overwrote what was in dst")
	}
	strings, packed := stringsV1, packedV1
	switch {
	case c.loc.Version == V2 && url == TypeURLV2:
		strings, packed = stringsV2, nil
	case c.loc.Version != V2 && url == TypeURLV1:
	default:
		t.Fatalf("version %s has type URL %q", c.loc.Version, url)
	}
	m, err := decode(b[4:], strings, packed)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// want checks values; an absent number is 0.
func want(t testing.TB, got map[string][]any, path string, values ...any) {
	t.Helper()
	for i, v := range values {
		if n, ok := v.(int); ok {
			values[i] = uint64(n)
		}
	}
	if len(values) == 1 && values[0] == uint64(0) && len(got[path]) == 0 {
		return
	}
	if !slices.Equal(got[path], values) {
		t.Errorf("field %s is %v, want %v", path, got[path], values)
	}
}

// number is a field's only value.
func number(t testing.TB, got map[string][]any, path string) uint64 {
	t.Helper()
	if len(got[path]) == 0 {
		return 0
	}
	v, ok := got[path][0].(uint64)
	if !ok || len(got[path]) != 1 {
		t.Errorf("field %s is %v, want a number", path, got[path])
	}
	return v
}
