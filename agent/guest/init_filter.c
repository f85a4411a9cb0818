// SPDX-License-Identifier: Apache-2.0
// The system calls that no container gets (seccomp(2), seccomp_filter.rst).
//
// The containers of a task share its interface, and the control of the task goes over it: who
// listens to all of its packets learns the session token, and can read a sibling's logs and forge
// its exit. So there are no packet sockets, under their old name neither, and no raw sockets for
// TCP, which see what comes in. Other raw sockets stay with CAP_NET_RAW, for ping and its like.
// io_uring would be a second way to a socket, and so would i386's socketcall, whose arguments a
// filter cannot see: C libraries prefer socket() since Linux 4.3.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/scope.h"
#include "agent/guest/init.h"

enum { I386_SOCKET = 359, I386_SOCKETCALL = 102, IO_URING_SETUP = 425, X32_BIT = 0x40000000 };
enum { SOCKET_TYPE_MASK = 0xf, OLD_PACKET_SOCKET = 10 }; // in any family (linux/net.h)

#define LOAD(field)  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE(code) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (code))
// At instruction `at`: go to instruction `target` when what was loaded is `value`.
#define WHEN(at, value, target) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, (target) - (at)-1, 0)

enum { AT_I386 = 7, AT_SOCKET = 12, AT_RAW = 19, AT_REFUSED = 22, AT_ABSENT = 23 };

static const struct sock_filter program[] = {
	/*  0 */ LOAD(arch),
	/*  1 */ WHEN(1, AUDIT_ARCH_I386, AT_I386),
	/*  2 */ LOAD(nr),
	/*  3 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)X32_BIT),
	/*  4 */ WHEN(4, SYS_socket, AT_SOCKET),
	/*  5 */ WHEN(5, IO_URING_SETUP, AT_ABSENT),
	/*  6 */ ALLOW,
	/*  7 */ LOAD(nr),
	/*  8 */ WHEN(8, I386_SOCKET, AT_SOCKET),
	/*  9 */ WHEN(9, I386_SOCKETCALL, AT_ABSENT),
	/* 10 */ WHEN(10, IO_URING_SETUP, AT_ABSENT),
	/* 11 */ ALLOW,
	/* 12 */ LOAD(args[0]), // the family
	/* 13 */ WHEN(13, AF_PACKET, AT_REFUSED),
	/* 14 */ LOAD(args[1]), // the type
	/* 15 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SOCKET_TYPE_MASK),
	/* 16 */ WHEN(16, OLD_PACKET_SOCKET, AT_REFUSED),
	/* 17 */ WHEN(17, SOCK_RAW, AT_RAW),
	/* 18 */ ALLOW,
	/* 19 */ LOAD(args[2]), // the protocol
	/* 20 */ WHEN(20, IPPROTO_TCP, AT_REFUSED),
	/* 21 */ ALLOW,
	/* 22 */ REFUSE(EPERM),
	/* 23 */ REFUSE(ENOSYS),
};

// Without no_new_privs, which set-user-ID programs of a container would feel: needs CAP_SYS_ADMIN.
int init_filter_install(struct error *err)
{
	const struct sock_fprog filter = {
		.len = (unsigned short)ARRAY_LENGTH(program),
		.filter = (struct sock_filter *)(uintptr_t)program,
	};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0)
		return error_errno(err, "seccomp filter");
	return 0;
}
