// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"berth/configs"
)

// serveSpawned is the shim in a program of its own.
func (e *Env) serveSpawned(ctx context.Context, f *flags) error {
	if f.ownMounts && e.OwnMounts {
		if err := keepMounts(); err != nil {
			return err
		}
	}
	listener, err := inheritListener(f.socket)
	if err != nil {
		return err
	}
	cfg := ServeConfig{Listener: listener, Group: configs.Group(f.group)}
	if f.ownMounts && e.OwnMounts {
		unix.CloseOnExec(hostMountsFD)
		cfg.HostMounts = os.NewFile(hostMountsFD, "the host's mount namespace")
	}
	if cfg.Identity, err = e.identity(f); err != nil {
		return errors.Join(err, listener.Close())
	}
	cfg.SocketPath = listener.Addr().String()
	return e.serve(ctx, cfg)
}

// serve is the shim itself.
func (e *Env) serve(ctx context.Context, cfg ServeConfig) error {
	cfg.RuntimeType, cfg.Version = e.RuntimeType, e.Version
	out, err := openLog(cfg.Bundle)
	switch {
	case errors.Is(err, fs.ErrNotExist): // run by hand: stderr is the log
	case err != nil:
		return errors.Join(err, cfg.Listener.Close())
	default:
		defer func() { _ = out.Close() }()
		stop := dumpStacksOn(unix.SIGUSR1, out)
		defer stop()
		log.L.Logger.SetOutput(out)
		cfg.FollowLog = out.follow
	}
	e.setUpLog(cfg.Debug)
	err = e.Serve(ctx, cfg)
	if err != nil {
		log.G(ctx).WithError(err).Error("the shim ends")
	}
	return err
}

// setUpLog sets the format and the level that containerd's own log has.
func (e *Env) setUpLog(verbose bool) {
	_ = log.SetFormat(log.TextFormat) // a constant that it knows
	if verbose {
		_ = log.SetLevel("debug")
	}
}

// inheritListener takes the socket that `start` made, or makes one at path.
func inheritListener(path string) (Listener, error) {
	if path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("listen at %s: %w", path, err)
		}
		return listen(abs)
	}
	if on, err := unix.GetsockoptInt(listenerFD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return nil, errByHand
	}
	file := os.NewFile(listenerFD, "shim socket")
	defer func() { _ = file.Close() }()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take the inherited socket: %w", err)
	}
	if unixListener, ok := l.(Listener); ok {
		return unixListener, nil
	}
	return nil, fmt.Errorf("take the inherited socket: %s is no unix socket: %w", l.Addr(), l.Close())
}

// delete replies with how the container ended.
func (e *Env) delete(ctx context.Context, f *flags) error {
	e.setUpLog(f.debug) // to stderr, which containerd logs as warnings
	id, err := e.identity(f)
	if err != nil {
		return err
	}
	if id.SocketPath, err = findSocket(id); err != nil {
		// What is left must be cleaned up even if nobody knows where the
		// shim was.
		log.G(ctx).WithError(err).Warn("find the socket of the shim that has gone")
	}
	result, err := e.Delete(ctx, DeleteConfig{id})
	if err != nil {
		return err
	}
	data, err := proto.Marshal(&taskapi.DeleteResponse{
		Pid:        uint32(result.Pid),
		ExitStatus: uint32(result.ExitStatus),
		ExitedAt:   timestamppb.New(result.ExitedAt),
	})
	if err != nil {
		return err
	}
	if _, err := e.Stdout.Write(data); err != nil {
		return fmt.Errorf("reply to containerd: %w", err)
	}
	return nil
}
