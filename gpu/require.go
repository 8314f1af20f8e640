// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Requirement is a variable NVIDIA_REQUIRE_*, by which an image says which
// drivers and GPUs it can run on:
//
//	cuda>=12.4 brand=tesla,driver>=535,driver<536
//
// A space means or, a comma and. Several variables must all be met.
type Requirement struct {
	Variable string
	anyOf    []clause
}

type clause struct {
	text  string
	allOf []predicate
}

// predicate compares one fact. Versions are compared number by number, and
// what is missing counts as 0; a brand only is or is not.
type predicate struct {
	text, fact, op string
	brand          string
	version        requireVersion
}

// requireVersion has at most four numbers; a driver's has three.
type requireVersion [4]uint32

const (
	requirePrefix = "NVIDIA_REQUIRE_"
	// requireJetpack begins variables that say which files of a Jetson an
	// image wants, and hold no requirement.
	requireJetpack = requirePrefix + "JETPACK"
	// maxRequire is beyond what CUDA images have: 3 KiB, more with each branch
	// of the driver that is supported.
	maxRequire = 32 << 10
)

// requirements reads all of a container's requirements, unless it says that
// they do not matter.
func requirements(in asking) ([]Requirement, error) {
	if off, err := strconv.ParseBool(in.getenv("NVIDIA_DISABLE_REQUIRE")); err == nil && off {
		return nil, nil
	}
	names := make(map[string]bool)
	for _, entry := range in.env {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, requirePrefix) && !strings.HasPrefix(name, requireJetpack) {
			names[name] = true
		}
	}
	var all []Requirement
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r, err := parseRequirement(name, in.getenv(name))
		if err != nil {
			return nil, fmt.Errorf("environment %s: %w; %s", boundedText(name), err, skipHint)
		}
		if len(r.anyOf) > 0 {
			all = append(all, r)
		}
	}
	return all, nil
}

const brandLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_"

const skipHint = "NVIDIA_DISABLE_REQUIRE=true in the container's environment skips the check"

func parseRequirement(variable, text string) (Requirement, error) {
	r := Requirement{Variable: variable}
	if len(text) > maxRequire {
		return r, tooLong(text, maxRequire)
	}
	for alternative := range strings.SplitSeq(text, " ") {
		if alternative == "" {
			continue
		}
		c := clause{text: alternative}
		for item := range strings.SplitSeq(alternative, ",") {
			p, ok := parsePredicate(item)
			if !ok {
				return r, fmt.Errorf("%.64q is not a requirement; known are cuda, driver and arch with = != >= <= > < and a version, "+
					"brand with = != and a name: %w", item, errdefs.ErrInvalidArgument)
			}
			c.allOf = append(c.allOf, p)
		}
		r.anyOf = append(r.anyOf, c)
	}
	return r, nil
}

func parsePredicate(item string) (p predicate, ok bool) {
	begin := strings.IndexAny(item, "=!<>")
	if begin < 0 {
		return p, false
	}
	end := begin + 1
	if item[begin] != '=' && end < len(item) && item[end] == '=' {
		end++
	}
	p = predicate{text: item, fact: item[:begin], op: item[begin:end]}
	value := item[end:]
	switch {
	case p.op == "!":
		return p, false
	case p.fact == "brand":
		p.brand = strings.ToLower(value)
		return p, (p.op == "=" || p.op == "!=") && value != "" && len(value) <= 32 && strings.TrimLeft(p.brand, brandLetters) == ""
	case p.fact == "cuda", p.fact == "driver", p.fact == "arch":
		p.version, ok = parseRequireVersion(value)
		return p, ok
	}
	return p, false
}

func parseRequireVersion(s string) (v requireVersion, ok bool) {
	i := 0
	for number := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(number, 10, 32) // 04 is a driver's minor
		if err != nil || i == len(v) {
			return v, false
		}
		v[i] = uint32(n)
		i++
	}
	return v, true
}
