// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/configs"
)

// What the configuration says of the share reaches its daemon.
func TestConfiguredShare(t *testing.T) {
	for mode, cached := range map[configs.CacheMode]bool{configs.CacheAuto: false, configs.CacheAlways: true} {
		conf := configs.DefaultVM()
		conf.ShareCache, conf.Virtiofsd = mode, "/opt/virtiofsd"
		if c := configured(conf); c.ShareCached != cached || c.Virtiofsd != conf.Virtiofsd {
			t.Errorf("share_cache = %q: cached is %v, the daemon %s", mode, c.ShareCached, c.Virtiofsd)
		}
	}
}

// A shim believes what another of the same run_dir has noted of KVM.
func TestAcceleratorIsNoted(t *testing.T) {
	conf := configs.DefaultVM()
	conf.RunDir, conf.Accel = t.TempDir(), []string{"kvm", "another"}
	if err := os.WriteFile(filepath.Join(conf.RunDir, ".kvm-is-slow"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := accelerator(t.Context(), conf); err == nil || !strings.Contains(err.Error(), "ago") {
		t.Errorf("the note is not believed: %v", err)
	}
}
