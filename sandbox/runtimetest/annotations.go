// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// powers are annotations by which other runtimes let a pod choose what its machine
// is, and such as this one could have.
var powers = map[string]string{
	"io.katacontainers.config.hypervisor.path":                 "/bin/false",
	"io.katacontainers.config.hypervisor.virtio_fs_daemon":     "/bin/false",
	"io.katacontainers.config.hypervisor.virtio_fs_extra_args": `["-o", "sandbox=none"]`,
	"io.katacontainers.config.hypervisor.kernel":               "/bin/false",
	"io.katacontainers.config.hypervisor.kernel_params":        "init=/bin/sh",
	"io.katacontainers.config.hypervisor.file_mem_backend":     "/etc",
	"io.katacontainers.config.hypervisor.default_memory":       "4096",
	"io.katacontainers.config.agent.kernel_modules":            "nbd",
	"berth.dev/vm-qemu": "/bin/false", "berth.dev/vm-cmdline": "init=/bin/sh",
	"berth.dev/vm-virtiofsd": "/bin/false", "berth.dev/vm-image": "/tmp", "berth.dev/vm-accel": "tcg", "berth.dev/vm-template": "cow",
}

// What a pod says of its machine but for its size changes nothing of it
// (CVE-2020-27151, GHSA-rr59-xxvx-96qr).
func testAnnotations(r *Pod, _ string) {
	lines := make(map[string]string)
	for _, annotations := range []map[string]string{nil, powers} {
		id := fmt.Sprint(len(annotations))
		b := r.Box(id, "sleep 1000")
		b.spec.Annotations = annotations
		b.Run()
		status, err := b.C.Status("")
		r.must(err)
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", status.Pid))
		r.must(err)
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", status.Pid))
		r.must(err)
		lines[id] = program + " " + frequency.ReplaceAllString(strings.ReplaceAll(string(line), "\x00", " "), "tsc_early_khz=N")
		r.must(b.C.Kill(r.ctx(), "", unix.SIGKILL, false))
		b.Wait("")
		b.Delete("")
	}
	if without, with := lines["0"], lines[fmt.Sprint(len(powers))]; with != without || !strings.Contains(with, "-machine") {
		r.Errorf("with annotations it is\n%s\nwithout\n%s", with, without)
	}
}

// frequency is measured for each emulated machine.
var frequency = regexp.MustCompile(`tsc_early_khz=\d+`)
