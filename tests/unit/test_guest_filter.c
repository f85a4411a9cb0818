// SPDX-License-Identifier: Apache-2.0
// What the filter of containers refuses, and what it does not; each case in a child of its own
// network namespace, where root may open every socket without it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/scope.h"
#include "agent/guest/init.h"

enum { OLD_PACKET_SOCKET = 10 };

// The errno that socket() has in the child; 0: it opened.
static int socket_outcome(bool filtered, int family, int type, int protocol)
{
	struct error err = {0};
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 || (filtered && init_filter_install(&err) < 0))
			_exit(255);
		_exit(socket(family, type, protocol) < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_sockets(void **state)
{
	static const struct {
		int family, type, protocol, outcome;
	} cases[] = {
		{AF_PACKET, SOCK_RAW, 0, EPERM},
		{AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0, EPERM},
		{AF_INET, OLD_PACKET_SOCKET, 0, EPERM},
		{AF_INET, OLD_PACKET_SOCKET | SOCK_NONBLOCK, 0, EPERM},
		{AF_INET, SOCK_RAW, IPPROTO_TCP, EPERM},
		{AF_INET, SOCK_RAW, IPPROTO_ICMP, 0},
		{AF_INET, SOCK_RAW, IPPROTO_RAW, 0},
		{AF_INET, SOCK_STREAM, IPPROTO_TCP, 0},
		{AF_INET, SOCK_DGRAM, 0, 0},
		{AF_UNIX, SOCK_SEQPACKET, 0, 0},
	};

	(void)state;
	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(
			socket_outcome(true, cases[i].family, cases[i].type, cases[i].protocol),
			cases[i].outcome);
		assert_int_equal(
			socket_outcome(false, cases[i].family, cases[i].type, cases[i].protocol),
			0);
	}
}

static long call_i386(long number, long first, long second)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(first), "c"(second), "d"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static void test_other_ways(void **state)
{
	enum { I386_SOCKET = 359, I386_SOCKETCALL = 102, I386_GETPID = 20 };
	struct error err = {0};
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = fork();
	if (pid == 0) {
		bool ok = init_filter_install(&err) == 0 &&
			  syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == ENOSYS;

		// A kernel without i386 kills for the trap; then there is no such way.
		signal(SIGSEGV, SIG_DFL); // not cmocka's
		ok = ok && call_i386(I386_GETPID, 0, 0) == getpid() &&
		     call_i386(I386_SOCKETCALL, 1, 0) == -ENOSYS &&
		     call_i386(I386_SOCKET, AF_PACKET, SOCK_RAW) == -EPERM;
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 0) || WIFSIGNALED(status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_other_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
