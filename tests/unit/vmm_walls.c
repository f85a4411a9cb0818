// SPDX-License-Identifier: Apache-2.0
// vmm_walls refused | bpf | x32: what a VMM that was taken over would try. test_cell_sandbox.c
// starts it in the VMM's place. Names no file, starts no thread, and is linked statically.
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { X32_BIT = 0x40000000 }; // a call by the x32 ABI

static void report(const char *wall, long result)
{
	printf("%s: %s\n", wall, result < 0 ? strerror(errno) : "no wall");
	fflush(stdout);
}

static void try_refused(void)
{
	pid_t shim = getppid();
	struct rlimit limit = {0, 0};

	report("vsock socket", socket(AF_VSOCK, SOCK_STREAM, 0));
	report("inet socket", socket(AF_INET, SOCK_STREAM, 0));
	report("unix socket", socket(AF_UNIX, SOCK_STREAM, 0));
	report("fork", syscall(SYS_fork));
	report("io_uring", syscall(SYS_io_uring_setup, 1, NULL));
	report("signal the shim", kill(shim, 0));
	report("signal the shim by thread", syscall(SYS_tgkill, shim, shim, SIGSTOP));
	report("signal the shim by descriptor", fcntl(STDOUT_FILENO, F_SETOWN, shim));
	report("limit the shim", syscall(SYS_prlimit64, shim, RLIMIT_NOFILE, &limit, NULL));
	report("detach the tap", ioctl(STDIN_FILENO, TUNSETPERSIST, 0));
	if (getrlimit(RLIMIT_CORE, &limit) == 0)
		printf("core limit: %lu %lu\n", limit.rlim_cur, limit.rlim_max);
}

int main(int argc, char **argv)
{
	const char *wall = argc > 1 ? argv[1] : "refused";

	if (strcmp(wall, "bpf") == 0)
		report(wall, syscall(SYS_bpf, 0, NULL, 0));
	else if (strcmp(wall, "x32") == 0)
		report(wall, syscall(X32_BIT | SYS_getpid));
	else
		try_refused();
	return 0;
}
