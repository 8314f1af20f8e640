// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/test/fakeoci"
)

const criuLog = "(00.01) Version: 3.17\n(00.05) Error (criu/vdso.c:381): vdso: bad bounds\n(00.06) Error (criu/x.c:1): then this\n"

// What is quoted of a log of CRIU.
func TestCRIUReasonOfLog(t *testing.T) {
	const (
		probe = "(00.007) Error (criu/util.c:642): exited, status=1\n"
		exec  = "Error (criu/util.c:627): execvp(\"iptables-restore\", ...) failed: No such file or directory\n"
		lock  = "(00.690) Error (criu/net.c:3071): Locking network failed\n"
		end   = "(00.732) Error (criu/cr-dump.c:2053): Dumping FAILED.\n"
		info  = "(00.733) Unseizing 149 into 1\n"
	)
	long := strings.Repeat("x", 2*maxMessage)
	for _, test := range []struct{ name, log, want string }{
		{"nothing", "", ""},
		{"no error", info, ""},
		{"one", info + lock + info, "Error (criu/net.c:3071): Locking network failed"},
		{"the same twice", lock + info + lock, "Error (criu/net.c:3071): Locking network failed"},
		{
			"amid noise", probe + exec + probe + lock + end + info,
			strings.TrimSpace(exec) + "; in the end: Error (criu/net.c:3071): Locking network failed",
		},
		{
			"noise alone", probe + info + end,
			"Error (criu/util.c:642): exited, status=1; in the end: Error (criu/cr-dump.c:2053): Dumping FAILED.",
		},
		{
			"long lines", "Error (a): " + long + "\nError (b): " + long + "\n",
			"Error (a): " + long[:maxMessage/2-11] + "; in the end: Error (b): " + long[:maxMessage/2-11],
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dump.log")
			if err := os.WriteFile(path, []byte(test.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := criuReason(path); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// The errors in CRIU's log explain the runtime's "criu failed", and the log is kept.
func TestCRIUReason(t *testing.T) {
	const want = "criu failed: type DUMP errno 0; criu: Error (criu/vdso.c:381): vdso: bad bounds; in the end: Error (criu/x.c:1): then this; see "
	check := func(err error, log string) {
		t.Helper()
		if err == nil || !strings.HasSuffix(err.Error(), want+log) {
			t.Errorf("error %v", err)
		}
		if data, err := os.ReadFile(log); err != nil || string(data) != criuLog {
			t.Errorf("kept log %q, %v", data, err)
		}
	}
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(criuLog), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	b := newBox(t, fake, "fake", "sleep")
	b.running()
	given := CRIU{ImagePath: t.TempDir(), WorkPath: t.TempDir()}
	b.verb("checkpoint", fakeoci.Verb{Fail: &fakeoci.Fail{Message: "criu failed: type DUMP errno 0"}})
	write(filepath.Join(given.WorkPath, "dump.log"))
	check(b.cli.Checkpoint(t.Context(), &CheckpointRequest{ID: b.id, CRIU: given}), filepath.Join(given.WorkPath, "dump.log"))

	scratch := CRIU{ImagePath: t.TempDir()}
	work, err := scratch.openWork(b.bundle, "dump.log")
	if err != nil {
		t.Fatal(err)
	}
	write(work.log)
	check(work.explain(errors.New("criu failed: type DUMP errno 0")), filepath.Join(b.bundle, "criu-dump.log"))
	work.close()
	b.noScratch()
}

// With the runc and criu that are there a checkpoint either works or is explained.
func TestCheckpointReal(t *testing.T) {
	inPath(t, "criu")
	runc := os.Getenv("BERTH_RUNC")
	if runc == "" {
		runc = inPath(t, "runc")
	}
	needRoot(t)
	b := newBox(t, runc, "fake", "sleep")
	p := b.running()
	criu := CRIU{ImagePath: filepath.Join(b.bundle, "image")}
	err := b.cli.Checkpoint(t.Context(), &CheckpointRequest{ID: b.id, CRIU: criu})
	b.noScratch()
	if err != nil {
		if !strings.Contains(err.Error(), "; criu: Error (") {
			t.Errorf("error %v", err)
		}
		_, again := b.cli.Create(t.Context(), &CreateRequest{ID: b.id + "r", Bundle: b.bundle, Restore: &RestoreRequest{CRIU: criu}})
		if again == nil {
			t.Error("a failed checkpoint can be restored")
		}
		b.noScratch()
		t.Skipf("no working criu: %v", err)
	}
	if err := b.cli.Delete(t.Context(), b.id, true); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	p, err = b.cli.Create(t.Context(), &CreateRequest{ID: b.id, Bundle: b.bundle, Restore: &RestoreRequest{CRIU: criu}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cli.Delete(t.Context(), b.id, true); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}
