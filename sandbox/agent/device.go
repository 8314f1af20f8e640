// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// addDevices puts disks into a spec as block devices, by the numbers that this
// kernel has for them. All else keeps its bytes.
func (s *server) addDevices(ctx context.Context, spec []byte, devices []*agentapi.BlockDevice) ([]byte, error) {
	if len(devices) == 0 {
		return spec, nil
	}
	var nodes, rules []any
	for _, d := range devices {
		path, err := s.findDisk(ctx, d.Disk)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return nil, fmt.Errorf("look at the disk %s: %w", d.Disk, err)
		}
		major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		mode := fs.FileMode(d.Mode & 0o777)
		nodes = append(nodes, specs.LinuxDevice{
			Path: d.Path, Type: "b", Major: major, Minor: minor, FileMode: &mode, UID: &d.Uid, GID: &d.Gid,
		})
		if d.Access != "" {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: d.Access})
		}
	}
	var top, linux, resources map[string]json.RawMessage
	if err := json.Unmarshal(spec, &top); err != nil {
		return nil, notASpec(err)
	}
	if err := json.Unmarshal(top["linux"], &linux); err != nil {
		return nil, notASpec(err)
	}
	if linux["resources"] != nil {
		if err := json.Unmarshal(linux["resources"], &resources); err != nil {
			return nil, notASpec(err)
		}
	}
	if resources == nil {
		resources = make(map[string]json.RawMessage)
	}
	for _, list := range []struct {
		in   map[string]json.RawMessage
		more []any
	}{{linux, nodes}, {resources, rules}} {
		if err := appendTo(list.in, "devices", list.more); err != nil {
			return nil, err
		}
	}
	var err error
	if linux["resources"], err = json.Marshal(resources); err != nil {
		return nil, err
	}
	if top["linux"], err = json.Marshal(linux); err != nil {
		return nil, err
	}
	return json.Marshal(top)
}

// appendTo adds to a list in an object, which may have none yet.
func appendTo(object map[string]json.RawMessage, name string, more []any) error {
	var list []json.RawMessage
	if object[name] != nil {
		if err := json.Unmarshal(object[name], &list); err != nil {
			return notASpec(err)
		}
	}
	for _, m := range more {
		data, err := json.Marshal(m)
		if err != nil {
			return err
		}
		list = append(list, data)
	}
	data, err := json.Marshal(list)
	object[name] = data
	return err
}
