// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"berth/gpu/ledger"
	"berth/gpu/mig"
)

// countUnusable counts, for `berth gpu metrics`, a container that is refused
// since every GPU is barred, held or not listed: berth-gpu, which counts all
// other refusals, is not even asked then. Without it no GPU says which profiles
// there are, and what a container invents is no name for a count. That it cannot
// be counted is no reason to say anything else.
func countUnusable(run string, asks []mig.Ask) {
	seen := map[string]bool{}
	for _, a := range asks {
		name := "other"
		if a.Profile == "" {
			name = "by memory"
		}
		if !seen[name] {
			seen[name] = true
			_ = ledger.Refuse(run, name, "held")
		}
	}
}
