// SPDX-License-Identifier: Apache-2.0
#include "agent/base/sandbox.h"

#include <assert.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

const struct sock_fprog *sandbox_filter(enum sandbox_profile profile)
{
	assert(profile < SANDBOX_PROFILES && sandbox_filters[profile].len > 0);
	return &sandbox_filters[profile];
}

int sandbox_enter(enum sandbox_profile profile, struct error *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, "set no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, sandbox_filter(profile)) < 0)
		return error_errno(err, "install the system call filter");
	return 0;
}
