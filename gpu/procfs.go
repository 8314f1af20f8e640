// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
)

// procLimit bounds what is read of one file of /proc or /sys. The largest,
// /proc/devices, is a few KiB.
const procLimit = 64 << 10

func readProc(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, procLimit))
}

// parseModuleVersion finds the driver's version in /proc/driver/nvidia/version. It
// is the first word of the NVRM line with a version's form, for the line of
// the open module has more words before it than that of the proprietary one.
func parseModuleVersion(b []byte) string {
	for word := range strings.FieldsSeq(field(b, "NVRM version")) {
		if isVersion(word) {
			return word
		}
	}
	return ""
}

// isVersion tells whether s is a driver's version, as in 570.124.06. It goes
// into file names.
func isVersion(s string) bool {
	parts := strings.Split(s, ".")
	if len(s) > 32 || len(parts) < 2 || len(parts) > 4 {
		return false
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// field is the value of the first line "key: value", trimmed, or empty.
func field(b []byte, key string) string {
	for line := range bytes.Lines(b) {
		if k, v, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(k)) == key {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}

// numberField is a field that holds a number of at most 31 bits.
func numberField(b []byte, key string) (int, bool) {
	n, err := strconv.ParseUint(field(b, key), 10, 31)
	return int(n), err == nil
}

// parseMajors reads the majors of the character devices of /proc/devices by
// name. A name of several majors has its first.
func parseMajors(b []byte) map[string]uint32 {
	majors := make(map[string]uint32)
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "Block" {
			break
		}
		if len(words) != 2 {
			continue
		}
		// A major has 12 bits (linux/kdev_t.h).
		n, err := strconv.ParseUint(words[0], 10, 12)
		if _, seen := majors[words[1]]; err == nil && !seen {
			majors[words[1]] = uint32(n)
		}
	}
	return majors
}

// parseInformation reads /proc/driver/nvidia/gpus/BUSID/information. Of a GPU
// that the driver cannot wake the file is empty: its minor is -1.
func parseInformation(b []byte, busID string) Device {
	d := Device{BusID: busID, Minor: -1, Model: field(b, "Model")}
	if minor, ok := numberField(b, "Device Minor"); ok && minor < 1<<20 {
		d.Minor = minor
	}
	if uuid := field(b, "GPU UUID"); isGPUUUID(uuid) {
		d.UUID = uuid
	}
	// "GPU Blacklisted" until R465.
	d.Excluded = field(b, "GPU Excluded") == "Yes" || field(b, "GPU Blacklisted") == "Yes"
	return d
}

// isGPUUUID tells "GPU-" and a UUID from the question marks that the driver
// writes as long as it does not know.
func isGPUUUID(s string) bool {
	const pattern = "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	if len(s) != len(pattern) {
		return false
	}
	for i := range len(s) {
		if pattern[i] == 'x' {
			if strings.IndexByte("0123456789abcdefABCDEF", s[i]) < 0 {
				return false
			}
		} else if s[i] != pattern[i] {
			return false
		}
	}
	return true
}

// parseBusID reads "dddd:bb:dd.f" as a number that sorts as the bus does.
func parseBusID(s string) (uint64, bool) {
	rest, function, ok := strings.Cut(s, ".")
	parts := strings.Split(rest, ":")
	if !ok || len(parts) != 3 {
		return 0, false
	}
	var id uint64
	for i, bits := range []int{32, 8, 5, 3} {
		p := function
		if i < 3 {
			p = parts[i]
		}
		n, err := strconv.ParseUint(p, 16, bits)
		if err != nil {
			return 0, false
		}
		id = id<<bits | n
	}
	return id, true
}

// numbered is N of a name that is prefix and N in decimal, as in "gi7".
func numbered(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseUint(digits, 10, 31)
	return int(n), ok && err == nil && strconv.FormatUint(n, 10) == digits
}
