// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
)

// maxKernel bounds what a payload may become, in bytes.
const maxKernel = 512 << 20

// decompressKernel undoes the compression of a bzImage's payload. Its last 4
// bytes are the size of what comes out (arch/x86/boot/compressed/Makefile).
func decompressKernel(payload []byte) ([]byte, error) {
	size := binary.LittleEndian.Uint32(payload[len(payload)-4:])
	if size > maxKernel {
		return nil, fmt.Errorf("the kernel would have %d bytes: the image is damaged", size)
	}
	var r io.Reader
	switch {
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}): // the legacy frame of lz4
		r = lz4.NewReader(bytes.NewReader(payload[:len(payload)-4]))
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(payload)) // the size is gzip's own trailer
		if err != nil {
			return nil, fmt.Errorf("decompress the kernel: %w", err)
		}
		z.Multistream(false)
		r = z
	case bytes.HasPrefix(payload, []byte("\x7fELF")):
		return payload, nil
	default:
		return nil, fmt.Errorf("the kernel is compressed in a way that is not known (it begins % x): lz4 and gzip are", payload[:4])
	}
	out := bytes.NewBuffer(make([]byte, 0, size))
	if _, err := io.Copy(out, io.LimitReader(r, maxKernel)); err != nil {
		return nil, fmt.Errorf("decompress the kernel: %w", err)
	}
	if uint32(out.Len()) != size {
		return nil, fmt.Errorf("the kernel has %d bytes where its image says %d: the image is damaged", out.Len(), size)
	}
	return out.Bytes(), nil
}
