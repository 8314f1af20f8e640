// SPDX-License-Identifier: Apache-2.0

// Command fakedriver builds the file system of a machine with NVIDIA GPUs in a directory, for
// use by hand and in demonstrations.
package main

import (
	"flag"
	"fmt"
	"os"

	"berth/test/fakedriver"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fakedriver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var cfg fakedriver.Config
	flags := flag.NewFlagSet("fakedriver", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: fakedriver DIR [flags]: build a fake driver root in the new directory DIR")
		flags.PrintDefaults()
	}
	model := flags.String("model", "h200", "a100, h100, h200 or t4")
	flags.IntVar(&cfg.GPUs, "gpus", 1, "number of GPUs, 1 to 8")
	flags.StringVar(&cfg.Version, "version", "", "version of the driver (default 570.124.06)")
	flags.StringVar(&cfg.LibVersion, "lib-version", "", "version of the libraries, if it differs")
	flags.BoolVar(&cfg.OpenModule, "open", false, "the open kernel module")
	flags.BoolVar(&cfg.NVSwitch, "nvswitch", false, "with NVSwitches and their software")
	flags.BoolVar(&cfg.Compat32, "compat32", false, "with 32-bit libraries")
	flags.BoolVar(&cfg.Lib64, "lib64", false, "library directories as on RHEL")
	flags.BoolVar(&cfg.UnloadedUVM, "no-uvm", false, "nvidia-uvm is not loaded")
	flags.BoolVar(&cfg.NoModeset, "no-modeset", false, "nvidia-modeset and nvidia-drm are not loaded")
	flags.IntVar(&cfg.IMEXChannels, "imex", 0, "number of IMEX channels")
	flags.StringVar(&cfg.NVML, "nvml", "", "library to install as libnvidia-ml.so")
	flags.StringVar(&cfg.SMI, "smi", "", "program to install as nvidia-smi")
	flags.Func("mig", "an instance, as GPU:GI:CI or GPU:GI (repeatable)", func(s string) error { return addInstance(&cfg, s) })
	flags.Func("excluded", "an excluded GPU (repeatable)", number(&cfg.Excluded))
	flags.Func("unknown", "a GPU that shows no UUID yet (repeatable)", number(&cfg.UUIDUnknown))
	if len(args) == 0 || args[0][0] == '-' {
		flags.Usage()
		return flag.ErrHelp
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	cfg.Model = fakedriver.Model(*model)
	d, err := fakedriver.Build(args[0], cfg)
	if err != nil {
		return err
	}
	fmt.Printf("driver %s, CUDA %s, libraries in %s%s\n", d.Version, d.CUDA, d.Root, d.LibDir)
	for _, g := range d.GPUs {
		fmt.Printf("GPU %d: %s (UUID: %s) %s /%s\n", g.Index, g.Name, g.UUID, g.BusID, g.Node())
	}
	return nil
}

// number is a flag that adds to a list.
func number(list *[]int) func(string) error {
	return func(s string) error {
		var n int
		if _, err := fmt.Sscanf(s, "%d", &n); err != nil {
			return fmt.Errorf("%q is not the place of a GPU: %w", s, err)
		}
		*list = append(*list, n)
		return nil
	}
}

func addInstance(cfg *fakedriver.Config, s string) error {
	var gpu int
	in := fakedriver.Instance{CI: fakedriver.NoCI}
	if n, _ := fmt.Sscanf(s, "%d:%d:%d", &gpu, &in.GI, &in.CI); n < 2 || gpu < 0 || gpu > 7 {
		return fmt.Errorf("%q is not GPU:GI:CI or GPU:GI", s)
	}
	for len(cfg.MIG) <= gpu {
		cfg.MIG = append(cfg.MIG, nil)
	}
	cfg.MIG[gpu] = append(cfg.MIG[gpu], in)
	return nil
}
