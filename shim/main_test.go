// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/containerd/log"

	"berth/configs"
	"berth/shim/detach"
	"berth/test/leak"
)

// roleVariable has the test binary play another program.
const roleVariable = "BERTH_SHIM_TEST_ROLE"

// ownMountsVariable has the shim be one with mounts of its own.
const ownMountsVariable = "BERTH_SHIM_TEST_OWN_MOUNTS"

// groupVariable is what the shim is configured to serve.
const groupVariable = "BERTH_SHIM_TEST_GROUP"

// cgroupVariable is where shims are configured to live.
const cgroupVariable = "BERTH_SHIM_TEST_CGROUP"

// onePodVariable has the shim be one that serves no node.
const onePodVariable = "BERTH_SHIM_TEST_ONE_POD"

// stayVariable has the process that `start` runs in become the shim.
const stayVariable = "BERTH_SHIM_TEST_STAY"

const testRuntime = "io.containerd.test.v2"

// init keeps the first thread for the main goroutine, as a shim's does: it alone can
// stay (detach.Stay).
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "shim":
		os.Exit(Main(testEnv()))
	case "publish":
		os.Exit(publishUntilKilled())
	case "queue":
		os.Exit(queueUntilKilled())
	}
	os.Exit(leak.Main(m))
}

// testEnv is a shim whose server speaks lines of text.
func testEnv() Env {
	stay := detach.Stay()
	if os.Getenv(stayVariable) == "" {
		stay = nil
	}
	return Env{
		Stay: stay,
		Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Name: "test-shim", RuntimeType: testRuntime, Version: "v1.2.3", Revision: "abc",
		OwnMounts: os.Getenv(ownMountsVariable) != "",
		OnePod:    os.Getenv(onePodVariable) != "",
		Config: func() (configs.Shim, error) {
			conf := configs.DefaultShim()
			if group := os.Getenv(groupVariable); group != "" {
				conf.Group = configs.Group(group)
			}
			conf.Cgroup = os.Getenv(cgroupVariable)
			return conf, nil
		},
		Serve: serveLines,
		Delete: func(_ context.Context, cfg DeleteConfig) (DeleteResult, error) {
			log.L.Debug("delete " + cfg.SocketPath)
			return DeleteResult{Pid: 42, ExitStatus: 137, ExitedAt: time.Unix(1700000000, 5)}, nil
		},
		Features: func(_ context.Context, rt configs.Runtime) ([]byte, error) {
			return fmt.Appendf(nil, `{"ociVersionMin":%q}`, rt.BinaryName), nil
		},
	}
}

// serveLines says its pid to whoever connects, and ends at the word "stop".
func serveLines(_ context.Context, cfg ServeConfig) error {
	log.L.WithField("namespace", cfg.Namespace).Info("serving")
	for {
		conn, err := cfg.Listener.Accept()
		if err != nil {
			return err
		}
		if stop := serveLine(conn); stop {
			if _, err := closeSocket(cfg.SocketPath, func() bool { return true }); err != nil {
				return err
			}
			_, _ = fmt.Fprintln(conn, "stopped")
			return conn.Close()
		}
		_ = conn.Close()
	}
}

func serveLine(conn net.Conn) (stop bool) {
	_, _ = fmt.Fprintln(conn, os.Getpid())
	s := bufio.NewScanner(conn)
	return s.Scan() && s.Text() == "stop"
}
