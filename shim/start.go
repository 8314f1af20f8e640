// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	"berth/configs"
	"berth/process/cgroup"
)

// start joins the shim that a container belongs to or begins one, and replies.
// Only the reply is written: containerd takes stdout and stderr together for
// it. After an error nothing that was begun is left. A shim that it returns is
// this process's to be.
func (e *Env) start(f *flags) (*begun, error) {
	input, err := readInput(e.Stdin)
	if err != nil {
		return nil, err
	}
	boot, err := decodeBootstrap(input, f.id, f.namespace)
	if err != nil {
		return nil, err
	}
	f.debug = f.debug || boot.debug
	id, err := e.identity(f)
	if err != nil {
		return nil, err
	}
	conf := configs.DefaultShim()
	if e.Config != nil {
		if conf, err = e.Config(); err != nil {
			return nil, err
		}
	}
	if e.OnePod {
		conf.Group = configs.PerPod
	}
	group, err := readGroup(id.Bundle, id.ID)
	if err != nil {
		return nil, err
	}
	sockets, err := e.sockets(id, boot, conf.Group, group)
	if err != nil {
		return nil, err
	}
	for _, socket := range sockets[:len(sockets)-1] {
		id.SocketPath = socket
		if joined, err := e.joinIfThere(id, boot); joined || err != nil {
			return nil, err
		}
	}
	id.SocketPath = sockets[len(sockets)-1]
	return e.joinOrBegin(id, boot, conf)
}

// joinIfThere joins the shim that listens at a socket, if one does, and replies.
func (e *Env) joinIfThere(id Identity, boot bootstrap) (bool, error) {
	if alive, err := listening(id.SocketPath); !alive || err != nil {
		return false, err
	}
	l, err := lockSocket(id.SocketPath)
	if err != nil {
		return false, err
	}
	defer l.release()
	return e.joinLocked(id, boot)
}

// joinOrBegin joins the shim that listens at a socket or starts one, and replies.
func (e *Env) joinOrBegin(id Identity, boot bootstrap, conf configs.Shim) (*begun, error) {
	if conf.Group == configs.PerNode {
		if err := e.checkShared(boot); err != nil {
			return nil, err
		}
	}
	if err := makeSocketDir(filepath.Dir(id.SocketPath)); err != nil {
		return nil, err
	}
	l, err := lockSocket(id.SocketPath)
	if err != nil {
		return nil, err
	}
	defer l.release()
	if joined, err := e.joinLocked(id, boot); joined || err != nil {
		return nil, err
	}
	if err := removeSocketLocked(id.SocketPath); err != nil { // an earlier one's
		return nil, err
	}
	if err := noteSocket(id); err != nil {
		return nil, err
	}
	return e.beginLocked(id, boot, conf)
}

// joinLocked joins the shim that listens, and replies; false if none does.
func (e *Env) joinLocked(id Identity, boot bootstrap) (bool, error) {
	alive, err := listening(id.SocketPath)
	if !alive || err != nil {
		return false, err
	}
	s, err := readServed(id.SocketPath, e.RuntimeType)
	if err != nil {
		return false, err
	}
	if s.Group == configs.PerNode {
		if err := announce(id); err != nil {
			if alive, _ := listening(id.SocketPath); !alive {
				return false, nil // it has died in this moment
			}
			return false, err
		}
	}
	if err := noteSocket(id); err != nil {
		return false, err
	}
	return true, e.writeReply(min(s.Protocol, boot.protocol), "unix://"+id.SocketPath)
}

// noteSocket leaves in the bundle where its container's shim listens.
func noteSocket(id Identity) error {
	if err := noteSocketDir(id.Bundle, filepath.Dir(id.SocketPath)); err != nil {
		return err
	}
	return noteAddress(id.Bundle, id.SocketPath)
}

// beginLocked starts a shim and replies.
func (e *Env) beginLocked(id Identity, boot bootstrap, conf configs.Shim) (_ *begun, retErr error) {
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, removeSocketLocked(id.SocketPath))
		}
	}()
	own := cmp.Or(boot.options.ShimCgroup, conf.Cgroup)
	if own == "" && e.Stay != nil {
		// The container that comes at once is attached as soon as that was got
		// ready; a shim that joins a cgroup gets it ready by that.
		cgroup.ExpectAttach()
	}
	s := served{Runtime: e.RuntimeType, Version: e.Version, Protocol: currentProtocol, Namespace: id.Namespace, ID: id.ID}
	if conf.Group == configs.PerNode {
		s.Group = conf.Group
	}
	if err := s.write(id.SocketPath); err != nil {
		return nil, err
	}
	// Of the events that a shim of this group could not deliver before it
	// died, those of a container with the same name would be taken for the new
	// one's. A node's are those of all its pods: its next shim delivers them.
	if s.Group == "" {
		if err := dropJournal(journalPath(id.SocketPath)); err != nil {
			return nil, err
		}
	}
	b := &begun{Identity: id, group: s.Group}
	var err error
	if b.listener, err = listen(id.SocketPath); err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			_ = b.listener.Close()
		}
	}()

	// All of these are inherited. Doing them here leaves nothing to undo
	// once the shim runs, and no moment in which it runs without them.
	if err := raiseOOMScore(os.Getppid()); err != nil {
		return nil, err
	}
	if own != "" {
		if err := joinCgroup(own); err != nil {
			return nil, err
		}
	}
	if e.lookup("SCHED_CORE") != "" {
		if err := createCoreSchedulingDomain(); err != nil {
			return nil, err
		}
	}
	reply := func() error { return e.writeReply(boot.protocol, "unix://"+id.SocketPath) }
	if e.Stay != nil {
		return b, b.answer(reply)
	}
	return nil, e.leave(b, reply)
}
