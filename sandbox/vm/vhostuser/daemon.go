// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"fmt"
	"os"
)

// introduce gives virtiofsd the area and the queues in it. Protocol features are
// not taken: a queue is then enabled as soon as it is there.
func (r *Relay) introduce() error {
	if err := send(r.daemon, getFeatures, 0, nil); err != nil {
		return err
	}
	answer, err := receive(r.daemon)
	if err != nil {
		return err
	}
	defer answer.close()
	var features uint64
	if err := answer.fields(&features); err != nil {
		return err
	}
	if features&featureVersion1 == 0 {
		return fmt.Errorf("it has the features %#x, and is no device of virtio 1.0", features)
	}
	if err := send(r.daemon, setOwner, 0, nil); err != nil {
		return err
	}
	if err := send(r.daemon, setFeatures, 0, nil, uint64(featureVersion1)); err != nil {
		return err
	}
	if err := send(r.daemon, setMemTable, 0, []*os.File{r.area.file}, uint32(1), uint32(0),
		region{Guest: areaGuest, Size: areaSize, Monitor: areaGuest}); err != nil {
		return err
	}
	for i, q := range r.queues {
		if err := r.introduceQueue(uint32(i), q); err != nil {
			return err
		}
	}
	return nil
}

func (r *Relay) introduceQueue(i uint32, q *queue) error {
	ring := areaGuest + q.desk.base
	for _, m := range []struct {
		request request
		file    *os.File
		fields  []any
	}{
		{setVringNum, nil, []any{i, uint32(entries)}},
		{setVringBase, nil, []any{i, uint32(0)}},
		// The addresses of descriptors, used and available ring, and no log.
		{setVringAddr, nil, []any{i, uint32(0), ring, ring + offUsed, ring + offAvail, uint64(0)}},
		{setVringCall, q.done, []any{uint64(i)}},
		{setVringKick, q.asked.file, []any{uint64(i)}},
	} {
		var files []*os.File
		if m.file != nil {
			files = []*os.File{m.file}
		}
		if err := send(r.daemon, m.request, 0, files, m.fields...); err != nil {
			return err
		}
	}
	return nil
}
