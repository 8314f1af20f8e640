// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// capabilities of a migration: memory that is in a file stays there, and how far
// it is is told by events (qapi/migration.json).
func (m *Machine) prepareMigration(ctx context.Context) error {
	type capability struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	return m.qmp.Execute(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []capability{{"x-ignore-shared", true}, {"events", true}},
	}, nil)
}

// save writes what the devices of a paused machine are like. A descriptor is the
// only way out: QEMU may open no file and start no program.
func (m *Machine) save(ctx context.Context, to *os.File) error {
	if err := m.prepareMigration(ctx); err != nil {
		return err
	}
	if err := m.qmp.ExecuteFile(ctx, "getfd", map[string]any{"fdname": "state"}, nil, to); err != nil {
		return err
	}
	if err := m.qmp.Execute(ctx, "migrate", map[string]any{"uri": "fd:state"}, nil); err != nil {
		return err
	}
	return m.awaitMigration(ctx)
}

// load has a machine that waits for it become what was saved.
func (m *Machine) load(ctx context.Context, from *os.File) error {
	if err := m.prepareMigration(ctx); err != nil {
		return err
	}
	if err := m.qmp.ExecuteFile(ctx, "getfd", map[string]any{"fdname": "state"}, nil, from); err != nil {
		return err
	}
	if err := m.qmp.Execute(ctx, "migrate-incoming", map[string]any{"uri": "fd:state"}, nil); err != nil {
		return err
	}
	return m.awaitMigration(ctx)
}

// awaitMigration waits for the end of a migration.
func (m *Machine) awaitMigration(ctx context.Context) error {
	for {
		select {
		case status := <-m.migrated:
			switch status {
			case "completed":
				return nil
			case "failed", "cancelled":
				return fmt.Errorf("QEMU says that it has %s", status)
			}
		case <-m.qmp.Done(): // it ends if it cannot load
			return fmt.Errorf("QEMU has ended: %s", printable(m.log.Bytes(), quoted))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// migration takes the monitor's event of that name.
func (m *Machine) migration(data json.RawMessage) {
	var e struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	switch e.Status {
	case "completed", "failed", "cancelled":
		select {
		case m.migrated <- e.Status:
		default: // one is enough
		}
	}
}
