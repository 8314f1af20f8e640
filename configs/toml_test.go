// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseTOML(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Runtime
	}{
		"empty":            {"", Runtime{}},
		"comments":         {"# a\n\n  \t# b\nRoot = '/r' # c", Runtime{Root: "/r"}},
		"literal string":   {`BinaryName = 'a\b"#'`, Runtime{BinaryName: `a\b"#`}},
		"basic string":     {`BinaryName="a\\b\"\t\u00e9#'"`, Runtime{BinaryName: "a\\b\"\té#'"}},
		"quoted keys":      {"\"Root\" = '/a'\n'IoUid'\t=\t7", Runtime{Root: "/a", IOUID: 7}},
		"integers":         {"IoUid = 1_000\nIoGid = 0x10", Runtime{IOUID: 1000, IOGID: 16}},
		"several lines":    {"Root = '''\n/r'''", Runtime{Root: "/r"}},
		"carriage returns": {"NoPivotRoot = true\r\nNoNewKeyring = false\r\n", Runtime{NoPivotRoot: true}},
		"containerd 1.7's defaults": {"BinaryName = \"\"\nCriuImagePath = \"\"\nCriuPath = \"\"\nCriuWorkPath = \"\"\nIoGid = 0\nIoUid = 0\n" +
			"NoNewKeyring = false\nNoPivotRoot = false\nRoot = \"\"\nShimCgroup = \"\"\nSystemdCgroup = true\n", Runtime{SystemdCgroup: true}},
		"type of the table": {"TypeUrl = 'containerd.runc.v1.Options'\nTaskApiAddress = ''\nTaskApiVersion = 0", Runtime{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseTOML([]byte(c.text)); got != c.want || err != nil {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestParseTOMLRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"SystemCgroup = true":               `option "SystemCgroup" is not known; known are BinaryName, CriuImagePath, CriuWorkPath, IoGid, IoUid, NoNewKeyring, NoPivotRoot, Root, ShimCgroup, SystemdCgroup`,
		"systemdcgroup = true":              `"systemdcgroup" is not known`,
		"Root = '/'\nsystemd_cgroup = true": `"systemd_cgroup" is not known`,
		"a.b = 1":                           `"a" is not known`,
		"Root = 1":                          "option Root must be a string",
		"SystemdCgroup = 'true'":            "must be true or false",
		"IoUid = -1":                        "0 to 4294967295",
		"IoUid = 4294967296":                "0 to 4294967295",
		"IoUid = 010":                       "line 1: ",
		"IoUid = 1.5":                       "0 to 4294967295",
		"Root = ['/']":                      "must be a string",
		"Root =":                            "line 1: ",
		"Root":                              "line 1: ",
		"= 1":                               "line 1: ",
		"\nRoot = '/":                       "line 2: ",
		`Root = "/\"`:                       "line 1: ",
		`Root = "\q"`:                       "line 1: ",
		"Root = '/' '/'":                    "line 1: ",
		"Root = '/'\nRoot = '/'":            "already",
		"[options]\nRoot = '/'":             `"options" is not known`,
		"CriuPath = '/usr/sbin/criu'":       "CriuPath is not supported",
		"TypeUrl = 'runsc'":                 "TypeUrl is not supported",
		"Root = '\xff'":                     "line 1: ",
	} {
		got, err := ParseTOML([]byte(text))
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), want) || got != (Runtime{}) {
			t.Errorf("%q: %+v, %v; want an error with %q", text, got, err, want)
		}
	}
}

func FuzzParseTOML(f *testing.F) {
	f.Add("SystemdCgroup = true\nBinaryName = \"a\\n\"\n")
	f.Add("'IoUid' = 0x10 # c")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseTOML([]byte(text))
		if err != nil && (r != (Runtime{}) || !errors.Is(err, errdefs.ErrInvalidArgument)) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
