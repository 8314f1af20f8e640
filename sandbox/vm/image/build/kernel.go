// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// kernel is one kernel of a distribution's package.
type kernel struct {
	root    string
	release string
}

func findKernel(root, release string) (*kernel, error) {
	if release != "" {
		k := &kernel{root: root, release: release}
		if _, err := os.Stat(k.image()); err != nil {
			return nil, fmt.Errorf("kernel %s: %w", release, err)
		}
		return k, nil
	}
	found, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i] = strings.TrimPrefix(filepath.Base(found[i]), "vmlinuz-")
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no boot/vmlinuz-* in %s: unpack a kernel package there, such as Debian's linux-image-cloud-amd64", root)
	case 1:
		return &kernel{root: root, release: found[0]}, nil
	}
	return nil, fmt.Errorf("%s has the kernels %s: say which with --release", root, strings.Join(found, ", "))
}

func (k *kernel) image() string  { return filepath.Join(k.root, "boot/vmlinuz-"+k.release) }
func (k *kernel) config() string { return filepath.Join(k.root, "boot/config-"+k.release) }
func (k *kernel) moduleDir() string {
	return filepath.Join(k.root, "lib/modules", k.release)
}

// Offsets in a bzImage's setup header (Documentation/arch/x86/boot.rst).
const (
	offSetupSects    = 0x1f1
	offHeaderMagic   = 0x202
	offVersion       = 0x206
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
	sector           = 512
	// protocolPayload is the first version of the boot protocol that says
	// where the payload is.
	protocolPayload = 0x0208
)

// payload is the compressed vmlinux in the bzImage.
func (k *kernel) payload() ([]byte, error) {
	data, err := os.ReadFile(k.image())
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if len(data) < offPayloadLength+4 || string(data[offHeaderMagic:offHeaderMagic+4]) != "HdrS" {
		return nil, fmt.Errorf("%s is no bzImage: it has no setup header", k.image())
	}
	if v := le.Uint16(data[offVersion:]); v < protocolPayload {
		return nil, fmt.Errorf("%s speaks boot protocol %#x: a kernel since 2.6.26 is needed", k.image(), v)
	}
	sects := int(data[offSetupSects])
	if sects == 0 {
		sects = 4 // boot.rst: 0 means 4
	}
	start := uint64((sects+1)*sector) + uint64(le.Uint32(data[offPayloadOffset:]))
	end := start + uint64(le.Uint32(data[offPayloadLength:]))
	if end > uint64(len(data)) || end < start+8 {
		return nil, fmt.Errorf("%s is not whole: its payload ends at %d, the file at %d", k.image(), end, len(data))
	}
	return data[start:end], nil
}

// writeVmlinux writes the kernel as an ELF file that QEMU starts through PVH.
func (k *kernel) writeVmlinux(w io.Writer) error {
	payload, err := k.payload()
	if err != nil {
		return err
	}
	vmlinux, err := decompressKernel(payload)
	if err != nil {
		return fmt.Errorf("%s: %w", k.image(), err)
	}
	if err := checkPVH(vmlinux); err != nil {
		return fmt.Errorf("%s: %w", k.image(), err)
	}
	_, err = w.Write(vmlinux)
	return err
}

// pvhEntry is XEN_ELFNOTE_PHYS32_ENTRY (include/xen/interface/elfnote.h).
const pvhEntry = 18

// checkPVH fails unless the ELF file has a PVH entry, without which QEMU would
// start it at the wrong one.
func checkPVH(vmlinux []byte) error {
	f, err := elf.NewFile(strings.NewReader(string(vmlinux)))
	if err != nil {
		return fmt.Errorf("the kernel is no ELF file: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			return fmt.Errorf("read the kernel's notes: %w", err)
		}
		if hasNote(notes, "Xen\x00", pvhEntry) {
			return nil
		}
	}
	return errors.New("the kernel has no PVH entry (CONFIG_PVH)")
}

// hasNote looks through a note segment: name size, descriptor size, type, then
// name and descriptor, each padded to 4 bytes (elf(5)).
func hasNote(notes []byte, name string, kind uint32) bool {
	le := binary.LittleEndian
	for len(notes) >= 12 {
		nameLen, descLen, typ := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		next := 12 + (nameLen+3)&^3 + (descLen+3)&^3
		if next > uint64(len(notes)) {
			return false
		}
		if typ == kind && string(notes[12:12+nameLen]) == name {
			return true
		}
		notes = notes[next:]
	}
	return false
}
