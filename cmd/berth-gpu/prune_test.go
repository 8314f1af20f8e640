// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os"
	"testing"

	"berth/gpu/ledger"
	"berth/test/fakenvml"
)

// Tenants of shims that died before they had a claim are forgotten without anybody's asking for it: by
// whoever finds no room, and by each release.
func TestDeadTenantsAreForgotten(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	r.acquire(r.request(r.me("a"), ask1g(7)))
	for word, q := range map[string]func(){
		"acquire": func() {
			if _, _, code := r.ask("acquire", r.request(r.me("b"), ask1g(1))); code != 1 {
				t.Errorf("acquire: exit status %d", code)
			}
		},
		"release": func() { r.report("release", r.request(r.me("nobody"))) },
	} {
		dead := &ledger.Tenant{Namespace: "ns", Container: "dead", Group: "g-dead", BootID: r.boot, PID: os.Getpid(), StartTime: 1}
		if err := dead.Write(r.run); err != nil {
			t.Fatal(err)
		}
		q()
		all, err := ledger.Tenants(r.run)
		if err != nil {
			t.Fatal(err)
		}
		alive := false
		for _, tenant := range all {
			if tenant.Container == dead.Container {
				t.Errorf("after the %s there is a tenant that is gone: %+v", word, tenant)
			}
			alive = alive || tenant.Container == "a"
		}
		if !alive {
			t.Errorf("after the %s the tenant that lives is forgotten", word)
		}
	}
}
