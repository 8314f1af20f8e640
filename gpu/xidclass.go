// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"slices"
	"strings"
)

// Class says what an Xid calls for.
type Class uint8

// The classes of Xids, by NVIDIA's catalogue.
const (
	ClassUnknown  Class = iota // not in the table
	ClassInfo                  // nothing to do, or already done
	ClassApp                   // restart the application
	ClassWorkflow              // look closer: NVLink, memory
	ClassReset                 // reset the GPU
	ClassMachine               // restart the machine
)

// classNames is in the order of the classes.
var classNames = [...]string{"unknown", "info", "app", "workflow", "reset", "machine"}

// String is the name that a policy uses.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// xidRecovery is the Xid by which newer drivers say what must be done.
const xidRecovery = 154

// xidTable has the known numbers: class by NVIDIA's XID catalogue, meaning by
// its documentation and nverror.h. 45 is not in the catalogue's table: it
// follows another Xid and is no finding of its own.
var xidTable = [...]struct {
	class   Class
	means   string
	numbers []int
}{
	{ClassInfo, "driver firmware error", []int{38}},
	{ClassInfo, "the application's channel was stopped", []int{43}},
	{ClassInfo, "fault during a context switch", []int{44}},
	{ClassInfo, "channel removed after an earlier error", []int{45}},
	{ClassInfo, "memory row or page retired", []int{63}},
	{ClassInfo, "many correctable ECC errors", []int{92}},
	{ClassInfo, "the InfoROM was erased too often", []int{93}},
	{ClassInfo, "", []int{37}},
	{ClassApp, "the GPU stopped processing", []int{8}},
	{ClassApp, "bad push buffer", []int{11, 25, 32}},
	{ClassApp, "graphics engine exception", []int{13}},
	{ClassApp, "GPU memory page fault", []int{31}},
	{ClassApp, "copy engine exception", []int{39, 40, 41, 70, 71, 72, 75, 76, 77, 85}},
	{ClassApp, "SEC2 engine exception", []int{60}},
	{ClassApp, "video decoder exception", []int{68, 83, 84, 88, 89}},
	{ClassApp, "graphics class error", []int{69}},
	{ClassApp, "push buffer checksum mismatch", []int{80}},
	{ClassApp, "JPEG engine exception", []int{82}},
	{ClassApp, "optical flow engine exception", []int{86}},
	{ClassApp, "contained memory error", []int{94}},
	{ClassApp, "", []int{96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 139}},
	{ClassWorkflow, "uncorrectable ECC error", []int{48}},
	{ClassWorkflow, "NVLink error", []int{74, 144, 145, 146, 147, 148, 149, 150}},
	{ClassReset, "the GPU stopped processing", []int{46}},
	{ClassReset, "the power controller halted", []int{62}},
	{ClassReset, "a memory row or page could not be retired", []int{64}},
	{ClassReset, "uncontained memory error", []int{95}},
	{ClassReset, "context switch timeout", []int{109}},
	{ClassReset, "the GPU's system processor did not answer", []int{119}},
	{ClassReset, "error of the GPU's system processor", []int{120}},
	{ClassReset, "unrecovered ECC error", []int{140}},
	{ClassReset, "", []int{110, 136, 143, 155, 156, 158, 162}},
	{ClassMachine, "the GPU has fallen off the bus", []int{79}},
	{ClassMachine, "", []int{160}},
}

// Class says what x calls for.
func (x Xid) Class() Class {
	class, _ := x.look()
	return class
}

// Meaning is a few words for the operator, or empty.
func (x Xid) Meaning() string {
	_, means := x.look()
	return means
}

func (x Xid) look() (Class, string) {
	if x.Number == xidRecovery {
		return recoveryClass(x.Message), "recovery action changed"
	}
	for _, t := range xidTable {
		if slices.Contains(t.numbers, x.Number) {
			return t.class, t.means
		}
	}
	return ClassUnknown, ""
}

// recoveryClass reads "... recovery action changed from 0x0 (None) to 0x1
// (GPU Reset Required)", whose numbers are nvmlDeviceGpuRecoveryAction_t's.
// Only what comes last is the driver's word: a name may stand before it.
func recoveryClass(message string) Class {
	const to = " to 0x"
	at := strings.LastIndex(message, to)
	if at < 0 || at+len(to) == len(message) {
		return ClassUnknown
	}
	switch message[at+len(to)] {
	case '0':
		return ClassInfo
	case '1', '4': // reset; drain and reset
		return ClassReset
	case '2':
		return ClassMachine
	case '3': // drain the peers
		return ClassWorkflow
	}
	return ClassUnknown
}
