// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"berth/configs"
)

// The bounds of what an Xid keeps of its text, in bytes. A process name of
// the kernel has 15 (TASK_COMM_LEN), the driver's own field 100.
const (
	maxXidName    = 64
	maxXidMessage = 256
)

// xidMark begins every report of the driver (open-gpu-kernel-modules,
// kernel_rc.c, krcReportXid). A record that has it elsewhere is none: there
// are others that begin with the name of a process, but that has 15 bytes at
// most, as many as the mark, and so no room for the rest of a report.
const xidMark = "NVRM: Xid ("

// Xid is an error that the driver has reported to the kernel's log.
type Xid struct {
	// Seq is the record's number, the same for every reader until the next
	// boot; At is when it was read.
	Seq uint64
	At  time.Time
	// BusID is the GPU, as in Device.BusID.
	BusID string
	// GI and CI are the MIG instance that the driver blames, or -1.
	GI, CI int
	Number int
	// Pid is the process that the driver blames, as the first PID namespace
	// has it, or 0. It may be gone by now.
	Pid int
	// Name is what that process calls itself, and like the part of Message
	// that repeats it not to be trusted. Both are printable ASCII.
	Name, Message string
}

// ParseXid reads a record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg).
// It is false for all that the driver did not write as a report of an Xid:
// what a process writes to the log has a facility other than the kernel's.
func ParseXid(record []byte) (Xid, bool) {
	head, text, ok := bytes.Cut(record, []byte(";"))
	if !ok || !bytes.HasPrefix(text, []byte(xidMark)) {
		return Xid{}, false
	}
	if end := bytes.IndexByte(text, '\n'); end >= 0 { // properties follow
		text = text[:end]
	}
	fields := strings.Split(string(head), ",")
	if len(fields) < 4 {
		return Xid{}, false
	}
	prio, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil || prio>>3 != 0 {
		return Xid{}, false
	}
	seq, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return Xid{}, false
	}
	x, ok := parseXidLine(string(text[len(xidMark):]))
	x.Seq = seq
	return x, ok
}

// parseXidLine reads what follows the mark, as in
//
//	PCI:0000:3b:00 GPU-I:01 GPU-CI:00): 31, pid=7, name=python3, MMU Fault
//	PCI:0000:3b:00): 79, GPU has fallen off the bus.
//
// Older drivers wrote pid='<unknown>', name=<unknown>, or no name, or no "PCI:".
func parseXidLine(s string) (Xid, bool) {
	where, what, ok := strings.Cut(s, "): ")
	number, message, _ := strings.Cut(what, ", ")
	n, isNumber := xidInt(strings.TrimSuffix(number, ","))
	if !ok || !isNumber {
		return Xid{}, false
	}
	x := Xid{GI: -1, CI: -1, Number: n}
	bus, instance, _ := strings.Cut(strings.TrimPrefix(where, "PCI:"), " ")
	if x.BusID, ok = configs.BusID(bus); !ok {
		return Xid{}, false
	}
	for f := range strings.FieldsSeq(instance) {
		key, value, _ := strings.Cut(f, ":")
		id, ok := xidInt(value)
		switch {
		case ok && key == "GPU-I":
			x.GI = id
		case ok && key == "GPU-CI":
			x.CI = id
		default:
			return Xid{}, false
		}
	}
	if pid, rest, ok := cutXidField(message, "pid="); ok {
		x.Pid, _ = xidInt(strings.Trim(pid, "'"))
		message = rest
		if name, rest, ok := cutXidField(message, "name="); ok {
			if name != "<unknown>" {
				x.Name = xidText(name, maxXidName)
			}
			message = rest
		}
	}
	x.Message = xidText(message, maxXidMessage)
	return x, true
}

// cutXidField splits "key=value, rest". A name may hold the separator; the
// rest of it is then taken for message, and nothing depends on that.
func cutXidField(s, key string) (value, rest string, ok bool) {
	if s, ok = strings.CutPrefix(s, key); !ok {
		return "", s, false
	}
	value, rest, _ = strings.Cut(s, ", ")
	return value, rest, true
}

// xidInt reads a number as the driver prints it, without a sign.
func xidInt(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// xidText is s cut to max bytes, with all that a terminal could act upon
// replaced. (The kernel has escaped it already; a FIFO in its place has not.)
func xidText(s string, max int) string {
	b := []byte(strings.TrimSpace(s[:min(len(s), max)]))
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
