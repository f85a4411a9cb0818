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

enum { OLD_PACKET_SOCKET = 10, MULTIPATH_TCP = 262 };

struct attempt {
	int family, type, protocol;
	int option; // of IPPROTO_IP, set to 1; 0: none
	int outcome;
};

static int try_out(const struct attempt *attempt)
{
	const int on = 1;
	int fd = socket(attempt->family, attempt->type, attempt->protocol);

	if (fd < 0)
		return errno;
	return attempt->option && setsockopt(fd, IPPROTO_IP, attempt->option, &on, sizeof(on)) < 0
		       ? errno
		       : 0;
}

// The errno that the attempt ends with in a child; 0: success.
static int outcome_of(const struct attempt *attempt, bool filtered)
{
	struct error err = {0};
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 || (filtered && init_filter_install(&err) < 0))
			_exit(255);
		_exit(try_out(attempt));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_sockets(void **state)
{
	static const struct attempt cases[] = {
		{AF_PACKET, SOCK_RAW, 0, 0, EPERM},
		{AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0, EPERM},
		{AF_XDP, SOCK_RAW, 0, 0, EPERM},
		{AF_INET, OLD_PACKET_SOCKET, 0, 0, EPERM},
		{AF_INET, OLD_PACKET_SOCKET | SOCK_NONBLOCK, 0, 0, EPERM},
		{AF_INET, SOCK_RAW, IPPROTO_TCP, 0, EPERM},
		{AF_INET, SOCK_RAW, MULTIPATH_TCP, 0, EPERM},
		{AF_INET, SOCK_RAW, IPPROTO_RAW, 0, EPERM},
		{AF_INET, SOCK_RAW, IPPROTO_ICMP, IP_HDRINCL, EPERM},
		{AF_INET, SOCK_RAW, IPPROTO_ICMP, IP_TRANSPARENT, 0},
		{AF_INET, SOCK_RAW, IPPROTO_ICMP, 0, 0},
		{AF_INET, SOCK_STREAM, IPPROTO_TCP, IP_TTL, 0},
		{AF_INET, SOCK_DGRAM, 0, 0, 0},
		{AF_UNIX, SOCK_SEQPACKET, 0, 0, 0},
	};

	(void)state;
	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(outcome_of(&cases[i], true), cases[i].outcome);
		assert_int_equal(outcome_of(&cases[i], false), 0);
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

// True when the child of a test found what it looks for; *ret_trapped: it fell into a trap.
static bool child_succeeded(pid_t pid, bool *ret_trapped)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	*ret_trapped = WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_refused(long result, int code)
{
	return result == -1 && errno == code;
}

static void test_other_ways(void **state)
{
	enum { X32_GETPID = 39 | 1 << 30, USER_KEYRING = -4 };
	struct error err = {0};
	bool trapped;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = fork();
	if (pid == 0)
		_exit(!(init_filter_install(&err) == 0 &&
			is_refused(syscall(SYS_io_uring_setup, 1, NULL), ENOSYS) &&
			is_refused(syscall(X32_GETPID), ENOSYS) &&
			is_refused(syscall(SYS_add_key, "user", "a", "b", 1, USER_KEYRING),
				   EPERM) &&
			is_refused(syscall(SYS_keyctl, 0, USER_KEYRING, 0), EPERM) &&
			is_refused(syscall(SYS_request_key, "user", "a", NULL, 0), EPERM)));
	assert_true(child_succeeded(pid, &trapped));
}

static void test_i386(void **state)
{
	enum { SOCKET = 359, SOCKETCALL = 102, SETSOCKOPT = 366, GETPID = 20 };
	struct error err = {0};
	bool succeeded, trapped;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL); // cmocka has its own handler
		_exit(!(init_filter_install(&err) == 0 && call_i386(GETPID, 0, 0) == getpid() &&
			call_i386(SOCKETCALL, 1, 0) == -ENOSYS &&
			call_i386(SOCKET, AF_PACKET, SOCK_RAW) == -EPERM &&
			call_i386(SETSOCKOPT, -1, IPPROTO_IP) == -EBADF));
	}
	succeeded = child_succeeded(pid, &trapped);
	if (trapped) {
		print_message("skipped: this kernel takes no i386 calls, there is no such way\n");
		skip();
	}
	assert_true(succeeded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_other_ways),
		cmocka_unit_test(test_i386),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
