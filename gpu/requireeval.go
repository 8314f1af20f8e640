// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Facts are what requirements are about, for one GPU. What is not known is
// empty.
type Facts struct {
	CUDA   string // the newest CUDA of the driver, as in "12.4"
	Driver string // the driver's version, as in "550.54.15"
	Arch   string // the GPU's compute capability, as in "9.0"
	Brand  string // NVML's brand of the GPU in lower case, as in "tesla"
}

func (f Facts) get(fact string) string {
	switch fact {
	case "cuda":
		return f.CUDA
	case "driver":
		return f.Driver
	case "arch":
		return f.Arch
	}
	return f.Brand
}

// truth is in the order in which verdicts are reported: what is undecided may
// still be helped by asking NVML.
type truth uint8

const (
	undecided truth = iota
	unmet
	met
)

// verdict is why a clause is not met.
type verdict struct {
	truth truth
	text  string
}

// Check returns nil if f meets the requirement. Otherwise the error says which
// clauses are not met and what was found. It is errdefs.ErrFailedPrecondition,
// or ErrNeedNVML if the answer hangs on a fact that is not known.
func (r Requirement) Check(f Facts) error {
	var verdicts []verdict
	for _, c := range r.anyOf {
		v := c.check(f)
		if v.truth == met {
			return nil
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) == 0 {
		return nil
	}
	slices.SortStableFunc(verdicts, func(a, b verdict) int { return int(a.truth) - int(b.truth) })
	var class error = errdefs.ErrFailedPrecondition
	if verdicts[0].truth == undecided {
		class = ErrNeedNVML
	}
	const shown = 3 // CUDA images have dozens
	var texts []string
	for _, v := range verdicts[:min(shown, len(verdicts))] {
		texts = append(texts, v.text)
	}
	if n := len(verdicts) - shown; n > 0 {
		texts = append(texts, fmt.Sprintf("nor are %d more alternatives", n))
	}
	return fmt.Errorf("%s is not met: %s; install a driver that does, or choose another GPU or image; %s: %w",
		boundedText(r.Variable), strings.Join(texts, "; "), skipHint, class)
}

// check finds the first predicate that is not met, or else the first one that
// cannot be decided.
func (c clause) check(f Facts) verdict {
	v := verdict{truth: met}
	for _, p := range c.allOf {
		found := f.get(p.fact)
		switch p.check(found) {
		case unmet:
			return verdict{unmet, fmt.Sprintf("%.128q asks for %.64s, found %s %.64s", c.text, p.text, p.fact, found)}
		case undecided:
			if v.truth == met {
				v = verdict{undecided, fmt.Sprintf("%.128q asks for %.64s, but the %s is not known (%.64q)", c.text, p.text, p.fact, found)}
			}
		}
	}
	return v
}

func (p predicate) check(found string) truth {
	var order int
	if p.fact == "brand" {
		if found == "" {
			return undecided
		}
		order = strings.Compare(strings.ToLower(found), p.brand)
	} else {
		v, ok := parseRequireVersion(found)
		if !ok {
			return undecided
		}
		order = slices.Compare(v[:], p.version[:])
	}
	var ok bool
	switch {
	case p.op == "!=":
		ok = order != 0
	case order == 0:
		ok = strings.HasSuffix(p.op, "=")
	case order < 0:
		ok = p.op[0] == '<'
	default:
		ok = p.op[0] == '>'
	}
	if ok {
		return met
	}
	return unmet
}
