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
	return isNumbers(s) && strings.Contains(s, ".")
}

// isNumbers tells whether s is numbers with dots between them.
func isNumbers(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return len(s) <= 32
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

// number is a field that holds one, as a minor, a mode or a user id, or -1.
func number(b []byte, key string) int {
	n, err := strconv.ParseUint(field(b, key), 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// parseMajors reads the majors of the character devices of /proc/devices by
// name. A name of several majors has its first.
func parseMajors(b []byte) map[string]uint32 {
	majors := make(map[string]uint32)
	characters, _, _ := strings.Cut(string(b), "Block devices:")
	for line := range strings.Lines(characters) {
		major, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(major, 10, 12)
		if _, seen := majors[name]; err == nil && name != "" && !seen {
			majors[name] = uint32(n)
		}
	}
	return majors
}

// parseInformation reads /proc/driver/nvidia/gpus/BUSID/information. Of a GPU
// that the driver cannot wake the file is empty: its minor is -1.
func parseInformation(b []byte, busID string) Device {
	d := Device{BusID: busID, Minor: number(b, "Device Minor"), Model: field(b, "Model")}
	// The driver writes question marks as long as it does not know.
	const hex = "0123456789abcdefABCDEF-"
	if id, ok := strings.CutPrefix(field(b, "GPU UUID"), "GPU-"); ok && len(id) == 36 && strings.Trim(id, hex) == "" {
		d.UUID = "GPU-" + id
	}
	// "Blacklisted" until R465.
	d.Excluded = field(b, "GPU Excluded") == "Yes" || field(b, "GPU Blacklisted") == "Yes"
	return d
}

// parseDev reads "226:1", as sysfs has a device's number.
func parseDev(b []byte) (major, minor uint32, ok bool) {
	ma, mi, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	x, err1 := strconv.ParseUint(ma, 10, 12)
	y, err2 := strconv.ParseUint(mi, 10, 20)
	return uint32(x), uint32(y), err1 == nil && err2 == nil
}

// numbered is N of a name that is prefix and N in decimal, as in "gi7".
func numbered(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseUint(digits, 10, 31)
	return int(n), ok && err == nil && strconv.FormatUint(n, 10) == digits
}
