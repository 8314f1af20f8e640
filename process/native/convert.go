// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"sync"

	"github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process/oci"
)

// converting guards the library's specconv.AllowedDevices, a variable of all
// containers: with a user namespace a conversion writes the owner of that
// container's devices into what the variable points to. The command line, which
// makes one container, can bear that.
var converting sync.Mutex

// convert makes the library's configuration of a specification. Its working
// directory, by which the library tells the bundle, is the thread's.
func (d *Driver) convert(r *oci.CreateRequest, spec *specs.Spec) (*configs.Config, error) {
	opts := &specconv.CreateOpts{
		CgroupName:       r.ID,
		UseSystemdCgroup: d.SystemdCgroup,
		NoPivotRoot:      r.NoPivotRoot,
		NoNewKeyring:     r.NoNewKeyring,
		Spec:             spec,
		RootlessEUID:     os.Geteuid() != 0,
		RootlessCgroups:  d.rootlessCgroups(),
	}
	converting.Lock()
	defer converting.Unlock()
	all := specconv.AllowedDevices
	defer func() { specconv.AllowedDevices = all }()
	specconv.AllowedDevices = make([]*config.Device, len(all))
	for i, device := range all {
		own := *device
		specconv.AllowedDevices[i] = &own
	}
	return specconv.CreateLibcontainerConfig(opts)
}
