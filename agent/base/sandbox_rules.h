// SPDX-License-Identifier: Apache-2.0
// The system calls of each sandbox profile, one row a call: read by the compiler of the filters
// (sandbox_compile.c) and by their test.
//
// Theory of operation. Each profile is an allow list. There are three verdicts:
//
//	ALLOW   the call is made, if the row's conditions hold.
//	REFUSE  the call fails with the row's errno and the process goes on. This is for calls that
//	        an honest program of the profile may try: QEMU asks for io_uring, and libraries
//	        look for name services and NUMA nodes.
//	KILL    the kernel ends the whole process with SIGSYS. This is for calls that no program of
//	        any profile makes unless somebody else controls it: each of them was a way out of a
//	        sandbox or into the kernel. An attacker has no second attempt.
//
// What has no row fails with ENOSYS, as on an older kernel: a library that was updated and tries a
// new call falls back to an old one (glibc's clone3 and rseq, for example), where a signal would
// end every task of the host. For an attacker ENOSYS is the same wall.
//
// A call with several ALLOW rows is allowed if the conditions of one of them hold. A filter sees
// arguments but not what they point to: clone3 is therefore refused in favour of clone, whose flags
// can be compared. Calls of other architectures (i386 by int 0x80, x32) end the process.
//
// Where the lists come from: strace -f of QEMU 7.2 (microvm, TCG; boot, disk and network load,
// system_powerdown, NFS, exit), of the shim and of the probe, and their sources for what a trace
// does not show (error paths, abort(), KVM). QEMU needs no socket(): its tap, its disk and its
// control socket are descriptors that it inherits. QEMU's own `-sandbox` is a deny list that leaves
// socket() open in every family (AF_VSOCK ignores network namespaces), io_uring, bpf, keyctl,
// perf_event_open, userfaultfd and pidfd_getfd; it stays on as a second layer.
//
// VMM: shim and VMM have the same uid, so the kernel itself would let the VMM signal its shim.
// kill, tkill, the queueing calls and pidfd_send_signal are missing; tgkill is for SIGABRT (abort)
// and SIGUSR1 (KVM's kick of a virtual CPU), which the shim ignores. fcntl's F_SETOWN and F_SETSIG,
// which would send any signal by way of a descriptor, are missing as well, and prlimit64 is for the
// own process. execve must be allowed, because the filter is installed before QEMU is executed;
// fork and vfork are not, and QEMU's own filter forbids execve before the guest runs.
//
// Shim and probe may not make memory executable. The shim enters its filter when the first
// connection of the guest is accepted, before a byte of it is read: until then it reads messages of
// the agent only, and it still has to start the VMM, which would inherit the filter.
//
// Sanitizers: AddressSanitizer and LeakSanitizer need calls that depend on their version (ptrace
// and clone for the leak check at exit). In a build with PENSTOCK_SANITIZE the profiles of our own
// programs therefore allow what has no row, and omit the KILL rows marked SANITIZER.
#pragma once

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>

#include "agent/base/sandbox.h"

enum { SANDBOX_CONDITIONS_MAX = 3 };

enum sandbox_verdict { SANDBOX_ALLOW, SANDBOX_REFUSE, SANDBOX_KILL };

// (argument & bits) == value; no bits: no condition.
struct sandbox_condition {
	unsigned argument;
	uint64_t bits, value;
};

struct sandbox_rule {
	const char *call;
	unsigned profiles; // SANDBOX_IN(...)
	enum sandbox_verdict verdict;
	int code;               // the errno of SANDBOX_REFUSE
	bool omit_if_sanitized; // see above; not of the VMM
	struct sandbox_condition conditions[SANDBOX_CONDITIONS_MAX];
};

#define SANDBOX_IN(profile) (1U << (profile))

// Kernel and hardware see 32 bits of these arguments; the upper half is noise of the caller.
#define SANDBOX_IS(argument, value)                                                                \
	{                                                                                          \
		argument, UINT32_MAX, value                                                        \
	}
#define SANDBOX_MASKED(argument, bits, value)                                                      \
	{                                                                                          \
		argument, bits, value                                                              \
	}

#define V    SANDBOX_IN(SANDBOX_VMM)
#define S    SANDBOX_IN(SANDBOX_SHIM)
#define P    SANDBOX_IN(SANDBOX_PROBE)
#define OWN  (S | P)
#define EACH (V | S | P)

#define ALLOW(call, profiles)                                                                      \
	{                                                                                          \
#call, profiles, SANDBOX_ALLOW, 0, false,                                          \
		{                                                                                  \
			{                                                                          \
				0                                                                  \
			}                                                                          \
		}                                                                                  \
	}
#define ALLOW_IF(call, profiles, ...)                                                              \
	{                                                                                          \
#call, profiles, SANDBOX_ALLOW, 0, false,                                          \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define REFUSE(call, profiles, code)                                                               \
	{                                                                                          \
#call, profiles, SANDBOX_REFUSE, code, false,                                      \
		{                                                                                  \
			{                                                                          \
				0                                                                  \
			}                                                                          \
		}                                                                                  \
	}
#define KILL(call)                                                                                 \
	{                                                                                          \
#call, EACH, SANDBOX_KILL, 0, false,                                               \
		{                                                                                  \
			{                                                                          \
				0                                                                  \
			}                                                                          \
		}                                                                                  \
	}
#define KILL_SANITIZER(call)                                                                       \
	{                                                                                          \
#call, EACH, SANDBOX_KILL, 0, true,                                                \
		{                                                                                  \
			{                                                                          \
				0                                                                  \
			}                                                                          \
		}                                                                                  \
	}

enum {
	SANDBOX_SOCKET_TYPE = 0xf, // SOCK_CLOEXEC and SOCK_NONBLOCK are in the same argument
	SANDBOX_KVM_TYPE = KVMIO << 8,
	SANDBOX_IOCTL_TYPE = 0xff00,
	SANDBOX_THREAD_FLAGS = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
	SANDBOX_NAMESPACE_FLAGS = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
				  CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
};

static const struct sandbox_rule sandbox_rules[] = {
	// Memory.
	ALLOW(brk, EACH),
	ALLOW(madvise, EACH),
	ALLOW(mremap, EACH),
	ALLOW(munmap, EACH),
	ALLOW(mmap, V), // TCG translates the guest's code into executable memory
	ALLOW(mprotect, V),
	ALLOW_IF(mmap, OWN, SANDBOX_MASKED(2, PROT_EXEC, 0)),
	ALLOW_IF(mprotect, OWN, SANDBOX_MASKED(2, PROT_EXEC, 0)),
	ALLOW(memfd_create, V), // TCG's translation buffer
	ALLOW(membarrier, V),   // RCU

	// Descriptors.
	ALLOW(close, EACH),
	ALLOW(close_range, V),
	ALLOW(dup, V),
	ALLOW(dup2, V),
	ALLOW(dup3, V),
	ALLOW(eventfd2, V),
	ALLOW(pipe2, V),
	ALLOW(signalfd4, V),
	ALLOW(epoll_create1, V | P),
	ALLOW(epoll_ctl, V | P),
	ALLOW(epoll_wait, V | P),
	ALLOW(epoll_pwait, V | P),
	ALLOW(poll, EACH),
	ALLOW(ppoll, EACH),
	ALLOW(read, EACH),
	ALLOW(readv, V),
	ALLOW(write, EACH),
	ALLOW(writev, EACH),
	ALLOW_IF(fcntl, V, SANDBOX_IS(1, F_DUPFD)),
	ALLOW_IF(fcntl, EACH, SANDBOX_IS(1, F_DUPFD_CLOEXEC)),
	ALLOW_IF(fcntl, EACH, SANDBOX_IS(1, F_GETFD)),
	ALLOW_IF(fcntl, EACH, SANDBOX_IS(1, F_SETFD)),
	ALLOW_IF(fcntl, EACH, SANDBOX_IS(1, F_GETFL)),
	ALLOW_IF(fcntl, EACH, SANDBOX_MASKED(1, UINT32_MAX, F_SETFL),
		 SANDBOX_MASKED(2, O_ASYNC, 0)),

	// Files.
	ALLOW(access, V),
	ALLOW(faccessat, V),
	ALLOW(open, V),
	ALLOW(openat, V | S),
	ALLOW(newfstatat, EACH),
	ALLOW(fstat, EACH),
	ALLOW(stat, V),
	ALLOW(lstat, V),
	ALLOW(statx, V),
	ALLOW(statfs, V),
	ALLOW(fstatfs, V),
	ALLOW(getcwd, V),
	ALLOW(getdents64, V),
	ALLOW(readlink, V),
	ALLOW(readlinkat, V),
	ALLOW(lseek, V | S),
	ALLOW(pread64, V | S),
	ALLOW(pwrite64, V | S),
	ALLOW(preadv, V),
	ALLOW(pwritev, V),
	ALLOW(fallocate, V | S),
	ALLOW(fsync, V | S),
	ALLOW(fdatasync, V | S),
	ALLOW(ftruncate, S),
	ALLOW(fchmod, S),
	ALLOW(fchown, S),
	ALLOW(renameat, S),
	ALLOW(renameat2, S),
	ALLOW(unlinkat, S),

	// Connections: those that were handed over, and the probe's own.
	ALLOW(accept4, S),
	ALLOW(getpeername, V | S),
	ALLOW(getsockname, V | S),
	ALLOW(getsockopt, EACH),
	ALLOW(setsockopt, EACH),
	ALLOW(recvfrom, EACH),
	ALLOW(recvmsg, EACH),
	ALLOW(sendmsg, EACH),
	ALLOW(sendto, EACH),
	ALLOW(shutdown, EACH),
	ALLOW_IF(socket, P, SANDBOX_IS(0, AF_INET),
		 SANDBOX_MASKED(1, SANDBOX_SOCKET_TYPE, SOCK_STREAM)),
	ALLOW(bind, P),
	ALLOW(connect, P),
	REFUSE(socket, V | S, EPERM),
	REFUSE(socketpair, EACH, EPERM),

	// Devices: the tap, a terminal that is none (-serial stdio), /dev/kvm.
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNGETFEATURES)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNGETIFF)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNGETVNETHDRSZ)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNSETVNETHDRSZ)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNSETVNETLE)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNSETVNETBE)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNSETOFFLOAD)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TUNSETSNDBUF)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TCGETS)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, TCSETS)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, FIONBIO)),
	ALLOW_IF(ioctl, V, SANDBOX_IS(1, FIONREAD)),
	ALLOW_IF(ioctl, V, SANDBOX_MASKED(1, SANDBOX_IOCTL_TYPE, SANDBOX_KVM_TYPE)),

	// Time.
	ALLOW(clock_getres, V),
	ALLOW(clock_gettime, EACH),
	ALLOW(clock_nanosleep, V),
	ALLOW(gettimeofday, EACH),
	ALLOW(nanosleep, V),
	ALLOW(time, EACH),
	ALLOW(timer_create, V),
	ALLOW(timer_delete, V),
	ALLOW(timer_getoverrun, V),
	ALLOW(timer_gettime, V),
	ALLOW(timer_settime, V),
	ALLOW(timerfd_create, V),
	ALLOW(timerfd_settime, V),

	// Threads and signals.
	ALLOW(futex, EACH),
	ALLOW(rseq, V),
	ALLOW(set_robust_list, V),
	ALLOW(set_tid_address, V),
	ALLOW(arch_prctl, V),
	ALLOW_IF(clone, V,
		 SANDBOX_MASKED(0, SANDBOX_THREAD_FLAGS | SANDBOX_NAMESPACE_FLAGS,
				SANDBOX_THREAD_FLAGS)),
	REFUSE(clone3, EACH, ENOSYS),
	ALLOW(sched_getaffinity, V),
	ALLOW(sched_yield, EACH),
	ALLOW(sigaltstack, V),
	ALLOW(restart_syscall, EACH),
	ALLOW(rt_sigaction, EACH),
	ALLOW(rt_sigpending, V),
	ALLOW(rt_sigprocmask, EACH),
	ALLOW(rt_sigreturn, EACH),
	ALLOW(rt_sigtimedwait, V),
	ALLOW_IF(tgkill, EACH, SANDBOX_IS(2, SIGABRT)),
	ALLOW_IF(tgkill, V, SANDBOX_IS(2, SIGUSR1)),
	ALLOW(pidfd_send_signal, S), // ends the VMM
	ALLOW(waitid, S),

	// The process.
	ALLOW(execve, V),
	ALLOW(exit, EACH),
	ALLOW(exit_group, EACH),
	ALLOW(getpid, EACH),
	ALLOW(gettid, EACH),
	ALLOW(getppid, V),
	ALLOW(getuid, V),
	ALLOW(geteuid, V | S),
	ALLOW(getgid, V),
	ALLOW(getegid, V),
	ALLOW(getcpu, V),
	ALLOW(getrandom, EACH),
	ALLOW(sysinfo, V),
	ALLOW(uname, EACH),
	ALLOW(umask, V),
	ALLOW_IF(prlimit64, V, SANDBOX_IS(0, 0)),
	ALLOW(getrlimit, V),
	ALLOW_IF(prctl, V, SANDBOX_IS(0, PR_MCE_KILL)),
	ALLOW_IF(prctl, V, SANDBOX_IS(0, PR_SET_NO_NEW_PRIVS)),
	ALLOW_IF(prctl, V, SANDBOX_IS(0, PR_SET_TIMERSLACK)),
	ALLOW_IF(prctl, V, SANDBOX_IS(0, PR_SET_NAME)),
	ALLOW_IF(prctl, V, SANDBOX_IS(0, PR_GET_NAME)),
	ALLOW_IF(prctl, V, SANDBOX_IS(0, PR_CAPBSET_READ)),
	ALLOW(seccomp, V), // QEMU's own filter: filters only ever take away

	// What honest libraries of QEMU try and do without.
	REFUSE(io_uring_setup, V, ENOSYS),
	REFUSE(fork, EACH, EPERM),
	REFUSE(vfork, EACH, EPERM),
	REFUSE(get_mempolicy, V, ENOSYS),
	REFUSE(set_mempolicy, V, ENOSYS),
	REFUSE(mbind, V, ENOSYS),
	REFUSE(kill, EACH, EPERM),
	REFUSE(tkill, EACH, EPERM),

	// Out of the sandbox, or into the kernel.
	KILL(acct),
	KILL(add_key),
	KILL(bpf),
	KILL(chroot),
	KILL(delete_module),
	KILL(fanotify_init),
	KILL(finit_module),
	KILL(fsconfig),
	KILL(fsmount),
	KILL(fsopen),
	KILL(fspick),
	KILL(init_module),
	KILL(io_uring_enter),
	KILL(io_uring_register),
	KILL(ioperm),
	KILL(iopl),
	KILL(kcmp),
	KILL(kexec_file_load),
	KILL(kexec_load),
	KILL(keyctl),
	KILL(lookup_dcookie),
	KILL(modify_ldt),
	KILL(mount),
	KILL(mount_setattr),
	KILL(move_mount),
	KILL(move_pages),
	KILL(migrate_pages),
	KILL(name_to_handle_at),
	KILL(open_by_handle_at),
	KILL(open_tree),
	KILL(perf_event_open),
	KILL_SANITIZER(personality), // switches off the randomisation of addresses
	KILL(pidfd_getfd),
	KILL(pivot_root),
	KILL(process_madvise),
	KILL_SANITIZER(process_vm_readv),
	KILL_SANITIZER(process_vm_writev),
	KILL_SANITIZER(ptrace),
	KILL(quotactl),
	KILL(reboot),
	KILL(request_key),
	KILL(setns),
	KILL(swapoff),
	KILL(swapon),
	KILL(umount2),
	KILL(unshare),
	KILL(userfaultfd),
	KILL(vhangup),
};

#undef V
#undef S
#undef P
#undef OWN
#undef EACH
#undef ALLOW
#undef ALLOW_IF
#undef REFUSE
#undef KILL
#undef KILL_SANITIZER
