// SPDX-License-Identifier: Apache-2.0

package network

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"berth/sandbox/netlink"
)

// Somebody who looks at the filters, whenever it be, does not keep a redirect
// from being removed.
func TestWatchedRedirect(t *testing.T) {
	s := newSpace(t)
	s.veth("eth0", mac1, 1500)
	var conns [3]*netlink.Conn
	var index uint32
	err := inside(s.ns, func() (err error) {
		for i := range conns {
			if conns[i], err = netlink.Dial(); err != nil {
				return err
			}
		}
		index, err = tapIndex(conns[0], "eth0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	look := func(c *netlink.Conn) error {
		m := netlink.New(unix.RTM_GETTFILTER, 0, tcmsg{
			Index: int32(index), Parent: filterParent, Handle: firstFilter, Info: filterPref<<16 | ethPAll<<8,
		})
		m.Add(attrKind, "u32")
		return c.Do(m)
	}
	for range 100 {
		if err := redirect(conns[0], index, index); err != nil {
			t.Fatal(err)
		}
		if err := look(conns[0]); err != nil {
			t.Fatalf("look at the filter: %v", err)
		}
		var watchers sync.WaitGroup
		for _, c := range conns[1:] {
			watchers.Go(func() {
				for range 20 {
					_ = look(c) // which may have gone meanwhile
				}
			})
		}
		err := restore(conns[0], index)
		watchers.Wait()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// firstFilter is the handle that u32 gives the first of its filters.
const firstFilter = 0x80000800
