// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "detach.h"

struct detached detached;

// is_start tells containerd's command line, whose last word is the action.
// -namespace is the one flag that no action goes without.
static int is_start(int argc, char **argv)
{
	if (argc < 3 || strcmp(argv[argc - 1], "start") != 0)
		return 0;
	for (int i = 1; i < argc - 1; i++)
		if (strcmp(argv[i], "-namespace") == 0 || strcmp(argv[i], "--namespace") == 0)
			return 1;
	return 0;
}

static void fail(const char *what)
{
	dprintf(STDERR_FILENO, "start: %s: %s\n", what, strerror(errno));
	_exit(1);
}

// follow ends as the child does, or with success once it stays.
static void follow(pid_t child, int report)
{
	int status;
	char stays;
	ssize_t n;

	while ((n = read(report, &stays, 1)) < 0 && errno == EINTR)
		;
	if (n == 1)
		_exit(0);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			fail("wait for the child");
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

// keep_arguments moves the command line elsewhere for the Go runtime, which does
// not copy it, so that its memory is free for another.
static void keep_arguments(int argc, char **argv)
{
	detached.arguments = argv[0];
	detached.size = argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0];
	char *copy = malloc(detached.size);
	if (copy == NULL)
		fail("copy the command line");
	memcpy(copy, argv[0], detached.size);
	for (int i = 0; i < argc; i++)
		argv[i] = copy + (argv[i] - detached.arguments);
}

// arguments_of finds the command line below the environment, where the kernel
// puts both, with their number below them (System V ABI, "Process
// Initialization"): musl, unlike glibc, hands them to no constructor.
static char **arguments_of(char **environment, int *argc)
{
	char **argv = environment - 1; // the end of the list

	for (*argc = 0; (long)argv[-1] != *argc; ++*argc)
		argv--;
	return argv;
}

// detach runs before the Go runtime: there is one thread, so the child can do
// what it likes.
__attribute__((constructor)) static void detach(void)
{
	int argc, report[2];
	char **argv = arguments_of(environ, &argc);

	if (!is_start(argc, argv))
		return;
	// What containerd let slip to `start` ends here; a kernel before 5.9 cannot,
	// and then nothing is lost but this care.
	syscall(SYS_close_range, 3, ~0U, 0);
	if (pipe2(report, O_CLOEXEC) < 0)
		fail("make a pipe");
	// Not where stdout or stderr is, if who ran us has closed that: the reply would
	// be taken for the word that the shim stays.
	int high = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
	if (high < 0)
		fail("make a pipe");
	close(report[1]);
	report[1] = high;
	// Whoever ignores it is not told how a child ends (waitpid(2)).
	if (signal(SIGCHLD, SIG_DFL) == SIG_ERR)
		fail("hear of the child's end");
	pid_t parent = getpid(), child = fork();
	if (child < 0)
		fail("fork");
	if (child > 0) {
		close(report[1]);
		follow(child, report[0]);
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		fail("ask to die with the parent");
	if (getppid() != parent) // it was too late to ask
		_exit(1);
	if (setpgid(0, 0) < 0)
		fail("leave the process group");
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1); // glibc: one heap for all threads, 4 to 8 KiB less for each
#endif
	close(report[0]);
	detached.report = report[1];
	keep_arguments(argc, argv);
}
