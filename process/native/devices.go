// SPDX-License-Identifier: Apache-2.0

package native

import (
	_ "github.com/opencontainers/cgroups/devices" // lets cgroup managers set device rules

	_ "berth/process/native/become" // the library runs this program again
)
