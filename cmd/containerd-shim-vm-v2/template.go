// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"berth/configs"
	"berth/sandbox/template"
	"berth/sandbox/vm"
)

const (
	// detachArg makes the program start a keeper, keepArg makes it one.
	detachArg = "start-keeper"
	keepArg   = "keep-templates"
)

func detach(program, dir, request string) int {
	return exitCode("start a keeper of templates", template.Detach([]string{program, keepArg, dir, request}, dir))
}

func keep(dir, request string) int {
	return exitCode("keep templates", template.Keep(context.Background(), dir, request))
}

func exitCode(what string, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, what+":", err)
		return 1
	}
	return 0
}

// machine makes the machine: of a template, if that is wanted and there is one,
// and no device has to be there from the start.
// Whatever is wrong with that, the machine boots.
func (b *booting) machine(ctx context.Context, hostname string, c vm.Config) (*vm.Machine, error) {
	if b.conf.Template != configs.NoTemplate && len(c.VFIO) == 0 {
		m, err := b.clone(ctx, hostname, c)
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		log.G(ctx).WithError(err).Info("the machine boots, and is not made of a template")
	}
	return vm.Boot(ctx, c)
}

func (b *booting) clone(ctx context.Context, hostname string, c vm.Config) (*vm.Machine, error) {
	q, err := template.For(ctx, c, b.conf.Template == configs.SharedTemplate)
	if err != nil {
		return nil, err
	}
	q.UIDBase, q.Idle = b.conf.UIDBase, b.conf.TemplateIdle
	dir := template.Dir(b.conf.RunDir)
	t, err := template.Get(ctx, dir, q)
	if errors.Is(err, template.ErrNoKeeper) {
		if _, err := template.Start(b.sup, []string{c.Launcher[0], detachArg, dir}, b.hostMounts, q); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the first template is being made: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if hostname == "" {
		hostname = b.id[:min(len(b.id), maxHostname)]
	}
	return template.Clone(ctx, c, t, hostname)
}

// maxHostname is Linux's (gethostname(2)), without the end.
const maxHostname = 64
