// SPDX-License-Identifier: Apache-2.0

package oci

import "os"

// Stdio is what a process is given for its stdio; a *process.Streams is one.
type Stdio interface {
	// Files are its descriptors 0, 1 and 2, nil standing for /dev/null.
	Files() []*os.File
	// ConsoleSocket is where its terminal goes; "" where it has none.
	ConsoleSocket() string
}

// CreateRequest asks for a container made from a bundle, its init waiting for Start.
type CreateRequest struct {
	// ID names the container to the runtime; the caller has checked its grammar.
	ID string
	// Bundle is the absolute path of the directory that holds config.json.
	Bundle string
	// Streams are the init's stdio: its files become the runtime's fds 0, 1 and 2, which the
	// init inherits, or its console socket receives the terminal. Nil means /dev/null.
	Streams Stdio
	// NoPivotRoot has the runtime use MS_MOVE and chroot, for a rootfs on a ramdisk.
	NoPivotRoot bool
	// NoNewKeyring leaves the init in the session keyring of the shim.
	NoNewKeyring bool
	// Restore, when set, brings the container back from a checkpoint; its init then runs
	// when Create returns, and Start must not be called.
	Restore *RestoreRequest
	// PidFile is where the runtime writes the init's pid; "" means init.pid in the bundle.
	PidFile string
	// Ready, unless nil, waits for what has to be there before the first process and the
	// cgroup are made. It is called once, as late as that; its error ends the Create.
	Ready func() error
}

// IsReady calls Ready.
func (r *CreateRequest) IsReady() error {
	if r.Ready == nil {
		return nil
	}
	return r.Ready()
}

// RestoreRequest says where a checkpoint lies and how it was taken. Flags that changed how
// the image was dumped must be repeated here.
type RestoreRequest struct {
	CRIU
}

// CheckpointRequest asks for a checkpoint of a running container.
type CheckpointRequest struct {
	ID string
	CRIU
	// Exit stops the container after the dump; otherwise it is left running.
	Exit bool
}

// CRIU holds what checkpoint and restore have in common. The zero value dumps the plainest
// of containers.
type CRIU struct {
	// ImagePath is the directory of the image files. Required.
	ImagePath string
	// WorkPath is where CRIU writes its logs (dump.log, restore.log); "" is a directory that
	// lasts as long as the call.
	WorkPath string
	// ParentPath is an earlier pre-dump, as a path relative to ImagePath. Checkpoint only: the
	// image itself says it to restore.
	ParentPath string
	// OpenTCP allows established TCP connections.
	OpenTCP bool
	// ExternalUnixSockets allows unix sockets whose other end is outside of the container.
	ExternalUnixSockets bool
	// ShellJob allows a controlling terminal that belongs to a process outside.
	ShellJob bool
	// FileLocks allows file locks.
	FileLocks bool
	// EmptyNamespaces are the kinds of namespace (as "network") made but not filled.
	EmptyNamespaces []string
	// CgroupsMode is CRIU's --manage-cgroups-mode (soft, full, strict, ignore); "" keeps the
	// runtime's default.
	CgroupsMode string
}

// ExecRequest asks for one more process in a running container.
type ExecRequest struct {
	ID     string // of the container
	ExecID string // unique in the container; names the files in the bundle
	Bundle string // absolute path
	// Process is the OCI process as JSON.
	Process []byte
	// Streams are as in CreateRequest.
	Streams Stdio
}

// State is the part of the runtime's `state` answer that a shim has a use for.
type State struct {
	ID     string `json:"id"`
	Pid    int    `json:"pid"`
	Status string `json:"status"` // creating, created, running, paused or stopped
	Bundle string `json:"bundle"`
}
