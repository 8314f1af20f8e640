// SPDX-License-Identifier: Apache-2.0

// Command watch watches a directory by inotify and prints what happens in it,
// and after each change of ..data the file key.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if err := watch(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func watch(dir string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
		return err
	}
	fmt.Println("watching")
	buf := make([]byte, 4<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
			end := unix.SizeofInotifyEvent + int(e.Len)
			name := unix.ByteSliceToString(b[unix.SizeofInotifyEvent:end])
			b = b[end:]
			what := map[uint32]string{unix.IN_CREATE: "create", unix.IN_MOVED_TO: "moved", unix.IN_DELETE: "delete"}[e.Mask&^unix.IN_ISDIR]
			fmt.Println(what, name)
			if name != "..data" {
				continue
			}
			key, err := os.ReadFile(filepath.Join(dir, "key"))
			if err != nil {
				return err
			}
			fmt.Printf("key %s", key)
		}
	}
}
