// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"fmt"

	"berth/process"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
)

// Request asks a keeper for a template, or for a list of those that it has if
// there is no Key. What it says is the configuration's: a keeper listens to root.
type Request struct {
	// Wait has the answer wait until the template is made.
	Wait bool `json:"wait,omitempty"`
	// End has the keeper end, with all that it keeps.
	End bool `json:"end,omitempty"`
	// Idle is how long the first keeper of this request stays that nobody asks
	// for anything, in seconds.
	Idle int `json:"idle"`
	// Cgroup is where the first keeper of this request is, in the form of an OCI
	// spec's cgroupsPath, two names long: the last one to leave removes both.
	// Empty is /berth/templates.
	Cgroup string `json:"cgroup,omitempty"`

	// Key is vm.TemplateKey, as who asks computes it.
	Key       string      `json:"key,omitempty"`
	Image     image.Image `json:"image"`
	Accel     []vm.Accel  `json:"accel"`
	MemoryMiB int         `json:"memory_mib"`
	CPUs      int         `json:"cpus"`
	QEMU      string      `json:"qemu"`
	Launcher  []string    `json:"launcher"`
	// UIDBase is the first of the users that machines run as.
	UIDBase int  `json:"uid_base"`
	Sharing bool `json:"sharing"`
}

// For is the request for a template of which a machine could be a clone.
func For(ctx context.Context, c vm.Config, sharing bool) (Request, error) {
	key, err := vm.TemplateKey(ctx, c, sharing)
	return Request{
		Key: key, Image: c.Image, Accel: c.Accel, MemoryMiB: c.MemoryMiB, CPUs: c.CPUs, QEMU: c.QEMU, Launcher: c.Launcher,
		Sharing: sharing,
	}, err
}

// class is what a keeper has one template of.
func (r Request) class() string { return fmt.Sprint(r.MemoryMiB, r.CPUs, r.Sharing) }

// config is that of the machine that becomes the template.
func (r Request) config(sup *process.Supervisor, pid int) vm.Config {
	return vm.Config{
		ID: "template-" + r.Key, Supervisor: sup, Image: r.Image, Accel: r.Accel, MemoryMiB: r.MemoryMiB, CPUs: r.CPUs,
		QEMU: r.QEMU, Launcher: r.Launcher, UID: r.UIDBase + pid, GID: r.UIDBase + pid,
	}
}

// State is how far a template is.
type State string

const (
	// Making is one that is not there yet.
	Making State = "making"
	// Ready is one of which there can be clones.
	Ready State = "ready"
	// Failed is one that could not be made.
	Failed State = "failed"
)

// Template is one as a keeper lists it.
type Template struct {
	Key       string `json:"key"`
	State     State  `json:"state"`
	Error     string `json:"error,omitempty"`
	MemoryMiB int    `json:"memory_mib"`
	CPUs      int    `json:"cpus"`
	Sharing   bool   `json:"sharing"`
	// Held is how much memory it takes, in bytes.
	Held int64 `json:"held"`
	// Given is how often it was handed out.
	Given int `json:"given"`
}

// reply is the keeper's answer. With the state Ready of what was asked for come
// two descriptors, memory and state.
type reply struct {
	// Pid is the keeper's.
	Pid       int        `json:"pid"`
	Templates []Template `json:"templates"`
	Error     string     `json:"error,omitempty"`
}

// maxMessage bounds a request and a reply, in bytes.
const maxMessage = 64 << 10
