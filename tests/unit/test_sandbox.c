// SPDX-License-Identifier: Apache-2.0
// Every row of the filters' table, each made in a child that entered the profile, and the arguments
// that rows compare.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/sandbox_rules.h"
#include "agent/base/scope.h"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

enum { KILLED = 1000, MADE = 0 };

struct call {
	long number;
	unsigned long arguments[4];
};

static const char *const profile_names[] = {"vmm", "shim", "probe"};

// An errno, MADE, or KILLED. A call that has no errno to give (exit) counts as made.
static int outcome_of(enum sandbox_profile profile, const struct call *call)
{
	const unsigned long *arguments = call->arguments;
	struct error err = {0};
	siginfo_t info = {0};
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		long result;

		if (sandbox_enter(profile, &err) < 0)
			_exit(255);
		result = syscall(call->number, arguments[0], arguments[1], arguments[2],
				 arguments[3]);
		_exit(result < 0 ? errno : 0);
	}
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
	if (info.si_code == CLD_EXITED)
		return info.si_status;
	assert_int_equal(info.si_status, SIGSYS);
	return KILLED;
}

// With arguments that are wrong for each of them: no descriptor, no address, no process. fork would
// be made, and is refused by every profile.
static int outcome_of_name(enum sandbox_profile profile, const char *name)
{
	const struct call call = {.number = seccomp_syscall_resolve_name(name),
				  .arguments = {ULONG_MAX, 1, 1, 1}};

	assert_true(call.number >= 0);
	return outcome_of(profile, &call);
}

static void check_row(enum sandbox_profile profile, const struct sandbox_rule *rule)
{
	// What does not return, or waits for ever with such arguments.
	static const char *const not_called[] = {"rt_sigreturn", "restart_syscall", "ppoll",
						 "rt_sigtimedwait", "poll"};
	bool own = profile != SANDBOX_VMM;
	int outcome;

	for (size_t i = 0; i < ARRAY_LENGTH(not_called); i++)
		if (strcmp(rule->call, not_called[i]) == 0)
			return;
	if (rule->conditions[0].bits || (SANITIZED && own && rule->verdict == SANDBOX_REFUSE) ||
	    (SANITIZED && own && rule->omit_if_sanitized))
		return;
	outcome = outcome_of_name(profile, rule->call);
	if (rule->verdict == SANDBOX_KILL ? outcome != KILLED
	    : rule->verdict == SANDBOX_REFUSE
		    ? outcome != rule->code
		    : outcome == KILLED || outcome == EPERM || outcome == ENOSYS)
		fail_msg("%s: %s gave %d", profile_names[profile], rule->call, outcome);
}

static void test_each_row(void **state)
{
	(void)state;
	for (unsigned profile = 0; profile < SANDBOX_PROFILES; profile++)
		for (size_t i = 0; i < ARRAY_LENGTH(sandbox_rules); i++)
			if (sandbox_rules[i].profiles & SANDBOX_IN(profile))
				check_row(profile, &sandbox_rules[i]);
}

static void test_no_row(void **state)
{
	static const struct {
		enum sandbox_profile profile;
		const char *call;
	} cases[] = {
		{SANDBOX_VMM, "pidfd_send_signal"},
		{SANDBOX_VMM, "rt_sigqueueinfo"},
		{SANDBOX_VMM, "rt_tgsigqueueinfo"},
		{SANDBOX_VMM, "sched_setaffinity"},
		{SANDBOX_VMM, "setpriority"},
		{SANDBOX_VMM, "ftruncate"},
		{SANDBOX_VMM, "renameat"},
		{SANDBOX_VMM, "connect"},
		{SANDBOX_VMM, "pidfd_open"},
		{SANDBOX_SHIM, "execve"},
		{SANDBOX_SHIM, "execveat"},
		{SANDBOX_SHIM, "clone"},
		{SANDBOX_SHIM, "connect"},
		{SANDBOX_SHIM, "memfd_create"},
		{SANDBOX_SHIM, "linkat"},
		{SANDBOX_SHIM, "symlinkat"},
		{SANDBOX_SHIM, "ioctl"},
		{SANDBOX_PROBE, "execve"},
		{SANDBOX_PROBE, "openat"},
		{SANDBOX_PROBE, "open"},
		{SANDBOX_PROBE, "listen"},
		{SANDBOX_PROBE, "clone"},
		{SANDBOX_PROBE, "ioctl"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++)
		if (!SANITIZED || cases[i].profile == SANDBOX_VMM)
			assert_int_equal(outcome_of_name(cases[i].profile, cases[i].call), ENOSYS);
}

// Not a descriptor: a call that is made fails with EBADF.
enum { NO_FD = 12345 };

static void test_arguments(void **state)
{
	static const struct {
		enum sandbox_profile profile;
		struct call call;
		int outcome;
	} cases[] = {
		{SANDBOX_PROBE, {SYS_socket, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC}}, MADE},
		{SANDBOX_PROBE, {SYS_socket, {AF_INET, SOCK_DGRAM}}, ENOSYS},
		{SANDBOX_PROBE, {SYS_socket, {AF_INET, SOCK_RAW}}, ENOSYS},
		{SANDBOX_PROBE, {SYS_socket, {AF_INET6, SOCK_STREAM}}, ENOSYS},
		{SANDBOX_PROBE, {SYS_socket, {AF_VSOCK, SOCK_STREAM}}, ENOSYS},
		{SANDBOX_PROBE, {SYS_socket, {AF_UNIX, SOCK_STREAM}}, ENOSYS},
		{SANDBOX_PROBE, {SYS_socket, {AF_NETLINK, SOCK_RAW}}, ENOSYS},
		{SANDBOX_VMM, {SYS_socket, {AF_VSOCK, SOCK_STREAM}}, EPERM},
		{SANDBOX_VMM, {SYS_socket, {AF_PACKET, SOCK_RAW}}, EPERM},
		{SANDBOX_SHIM, {SYS_socket, {AF_UNIX, SOCK_STREAM}}, EPERM},
		{SANDBOX_SHIM, {SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE}}, ENOSYS},
		{SANDBOX_SHIM, {SYS_mprotect, {0, 4096, PROT_EXEC}}, ENOSYS},
		{SANDBOX_SHIM, {SYS_mprotect, {0, 0, PROT_READ}}, MADE},
		{SANDBOX_VMM, {SYS_mprotect, {0, 0, PROT_EXEC}}, MADE},
		{SANDBOX_VMM, {SYS_fcntl, {NO_FD, F_GETFL}}, EBADF},
		{SANDBOX_VMM, {SYS_fcntl, {NO_FD, F_SETFL, O_NONBLOCK}}, EBADF},
		{SANDBOX_VMM, {SYS_fcntl, {NO_FD, F_SETFL, O_ASYNC}}, ENOSYS},
		{SANDBOX_VMM, {SYS_fcntl, {NO_FD, F_SETOWN}}, ENOSYS},
		{SANDBOX_VMM, {SYS_fcntl, {NO_FD, F_SETSIG}}, ENOSYS},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, TUNSETOFFLOAD}}, EBADF},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, TUNSETOFFLOAD | 1UL << 32}}, EBADF},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, TUNSETPERSIST}}, ENOSYS},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, TUNSETIFF}}, ENOSYS},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, TIOCSTI}}, ENOSYS},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, FIOSETOWN}}, ENOSYS},
		{SANDBOX_VMM, {SYS_ioctl, {NO_FD, KVM_RUN}}, EBADF},
		{SANDBOX_VMM, {SYS_tgkill, {1, 1, SIGKILL}}, ENOSYS},
		{SANDBOX_VMM, {SYS_prlimit64, {1, 0}}, ENOSYS},
		{SANDBOX_VMM, {SYS_prlimit64, {0, 0}}, MADE},
		{SANDBOX_VMM, {SYS_prctl, {PR_SET_DUMPABLE, 1}}, ENOSYS},
		{SANDBOX_VMM, {SYS_clone, {SIGCHLD}}, ENOSYS},
		{SANDBOX_VMM, {SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD}}, ENOSYS},
		{SANDBOX_VMM, {SYS_clone, {CLONE_NEWUSER | SANDBOX_THREAD_FLAGS}}, ENOSYS},
		{SANDBOX_VMM, {0x40000000 | SYS_getpid, {0}}, KILLED}, // x32
		{SANDBOX_PROBE, {0x40000000 | SYS_getpid, {0}}, KILLED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int outcome;

		if (SANITIZED && cases[i].profile != SANDBOX_VMM)
			continue;
		outcome = outcome_of(cases[i].profile, &cases[i].call);
		if (outcome != cases[i].outcome)
			fail_msg("case %zu gave %d, not %d", i, outcome, cases[i].outcome);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_row),
		cmocka_unit_test(test_no_row),
		cmocka_unit_test(test_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
