// SPDX-License-Identifier: Apache-2.0

package configs

// CacheMode is how long a guest believes what it knows of the files that the
// host shares with it.
type CacheMode string

const (
	// CacheAuto has it ask again after a second; the pages of a file whose size and
	// time are what they were are kept.
	CacheAuto CacheMode = "auto"
	// CacheAlways has it believe for good. What the host changes in a volume may
	// never be seen, but for ConfigMaps and the like, of which a guest has copies.
	CacheAlways CacheMode = "always"
)
