// SPDX-License-Identifier: Apache-2.0

// Command rearrange takes a file that its container has from the pod's share, gets
// from there to the root of the share, as no path leads to it but a file handle
// does, and tries whatever would have the host mount or unmount elsewhere. It says
// what came of each attempt on stdout: "WHAT: ERROR", or "done: WHAT".
package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// fuseHandle is the type of a handle without a parent (fuse_encode_fh, fs/fuse/inode.c).
const fuseHandle = 0x81

func run(file string) error {
	fd, err := unix.Open(file, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("written")); err != nil {
		return err // it is to be the host that refuses, not this mount
	}
	// The number of the root's inode is 1, in two words, and its generation 0.
	handle := make([]byte, 12)
	binary.NativeEndian.PutUint32(handle[4:], 1)
	root, err := unix.OpenByHandleAt(fd, unix.NewFileHandle(fuseHandle, handle), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open the root of the share: %w", err)
	}
	try("/new", unix.Mkdirat(root, "new", 0o755))
	try("/link", unix.Symlinkat("/etc", root, "link"))
	entries, err := os.NewFile(uintptr(root), "share").ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := container(root, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// container tries it with the directory of one: 1 is a mounted directory, 2 a file.
func container(root int, name string) error {
	dir, err := unix.Openat(root, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	fmt.Println("looking at", name)
	try("mkdir", unix.Mkdirat(dir, "new", 0o755))
	try("symlink", unix.Symlinkat("/etc", dir, "9"))
	try("mknod", unix.Mknodat(dir, "node", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	try("link", unix.Linkat(dir, "2", dir, "8", 0))
	try("chmod", unix.Fchmod(dir, 0o777))
	try("chown", unix.Fchown(dir, 1, 1))
	try("rename the directory", unix.Renameat(root, name, root, "aside"))
	try("rename a mount point", unix.Renameat(dir, "1", dir, "7"))
	try("exchange mount points", unix.Renameat2(dir, "1", dir, "rootfs", unix.RENAME_EXCHANGE))
	try("remove a directory", unix.Unlinkat(dir, "1", unix.AT_REMOVEDIR))
	try("remove a file", unix.Unlinkat(dir, "2", 0))
	return unix.Close(dir)
}

func try(what string, err error) {
	if err == nil {
		fmt.Println("done:", what)
		return
	}
	fmt.Printf("%s: %v\n", what, err)
}
