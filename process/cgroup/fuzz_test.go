// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seeds adds the files of testdata.
func seeds(f *testing.F) {
	paths, err := filepath.Glob("testdata/*" + scopeV2 + "/*.*")
	if err != nil || len(paths) == 0 {
		f.Fatal("no files", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range []string{"", "max", "-1\n", "18446744073709551615", "18446744073709551616", "8:0 Read 12\n8:0 Total 12\nTotal 12\n", "a 1\nb\n c 2 \n\n"} {
		f.Add([]byte(s))
	}
}

// Whatever the text, the encoding is well formed.
func FuzzEncoders(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, encode := range map[string]func([]byte) []byte{
			"memory v1": func(b []byte) []byte { return appendPairs(b, text, memoryFieldV1) },
			"memory v2": func(b []byte) []byte { return appendPairs(b, text, memoryFieldV2) },
			"cpu v2":    func(b []byte) []byte { return appendPairs(b, text, cpuFieldV2) },
			"throttle":  func(b []byte) []byte { return appendPairs(b, text, throttleFieldV1) },
			"rdma":      func(b []byte) []byte { return appendRDMAEntries(b, text, 1) },
			"io":        func(b []byte) []byte { return appendIOEntries(b, text) },
			"psi":       func(b []byte) []byte { return appendPSI(b, text) },
			"per cpu":   func(b []byte) []byte { return appendPerCPU(b, text) },
			"blkio":     func(b []byte) []byte { return appendBlkioEntries(b, text, text, 1) },
		} {
			b := encode([]byte("x"))
			if _, err := decode(b[1:], []string{"1.1", "1.2"}, []string{"4"}); err != nil && name != "io" {
				t.Errorf("%s of %q: %v", name, text, err)
			}
			if name == "io" {
				if _, err := decode(b[1:], nil, nil); err != nil {
					t.Errorf("io of %q: %v", text, err)
				}
			}
		}
		var n counters
		n.parse(text)
		parseNumber(text, maxIsMax)
		for _, pid := range parsePids(nil, text) {
			if pid < 0 {
				t.Errorf("pid %d of %q", pid, text)
			}
		}
		parseStat(text)
	})
}

// A directory that is found lies below the mount that shows it.
func FuzzLocation(f *testing.F) {
	f.Add("31 30 0:29 /a /m\\040n rw - cgroup cgroup rw,memory\n", "2:memory:/a/b\n0::/\n")
	f.Add("31 30 0:29 / / rw - cgroup2 x rw\n", "0::/../x\n")
	f.Add("31 30 0:29 /a/../b /m rw - cgroup cgroup rw,memory\n", "1:memory,cpu:/b/./c//d\n")
	f.Fuzz(func(t *testing.T, mountinfo, memberships string) {
		mounts, err := parseMounts(strings.NewReader(mountinfo))
		if err != nil {
			t.Fatal(err)
		}
		versionOf(mounts)
		for _, m := range parseMemberships(memberships) {
			for _, mnt := range mounts {
				dir, ok := mnt.dir(m.path)
				if ok && (!encloses(mnt.point, dir) || leavesRoot(dir) || !filepath.IsAbs(dir) || strings.HasSuffix(dir, " (deleted)") && !strings.HasSuffix(mnt.point, " (deleted)")) {
					t.Errorf("mount %+v shows %q at %q", mnt, m.path, dir)
				}
			}
		}
	})
}
