// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"os"
	"os/signal"
	"runtime"
	"time"
)

const (
	// maxStacks bounds a dump, in bytes; it is about 2000 goroutines,
	// which is more than a hundred pods of two containers have. The rest is cut off.
	maxStacks = 2 << 20
	// stackPatience is how long a dump waits for containerd to read one
	// chunk of it. Only the dump waits.
	stackPatience = time.Second
)

// dumpStacksOn writes the stacks of all goroutines to the log whenever sig
// comes, until the function it returns is called.
func dumpStacksOn(sig os.Signal, out *logFIFO) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, sig)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range signals {
			dumpStacks(out)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

func dumpStacks(out *logFIFO) {
	buf := make([]byte, 16<<10)
	n := runtime.Stack(buf, true)
	for n == len(buf) && n < maxStacks {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	writeChunks(out, []byte("=== BEGIN goroutine stack dump ===\n"))
	writeChunks(out, buf[:n])
	writeChunks(out, []byte("\n=== END goroutine stack dump ===\n"))
}

// writeChunks writes whole lines, chunk by chunk as the reader takes them.
func writeChunks(out *logFIFO, text []byte) {
	for len(text) > 0 {
		n := min(logChunk, len(text))
		if n < len(text) {
			if line := bytes.LastIndexByte(text[:n], '\n'); line > 0 {
				n = line + 1
			}
		}
		out.waitWritable(stackPatience)
		_, _ = out.Write(text[:n])
		text = text[n:]
	}
}
