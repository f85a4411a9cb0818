// SPDX-License-Identifier: Apache-2.0
// The system calls that no container gets (seccomp(2), seccomp_filter.rst).
//
// The containers of a task share its interface, and the control of the task goes over it: who
// listens to all of its packets learns the session token, and who writes TCP segments as he likes
// can speak as penstock-init. So there are no packet sockets, under their old name neither, no raw
// sockets for TCP, and none that bring an IP header of their own. Other raw sockets stay with
// CAP_NET_RAW, for ping and its like.
//
// io_uring would be a second way to a socket, and so would x32 and i386's socketcall, whose
// arguments a filter cannot see: C libraries prefer socket() since Linux 4.3. Keyrings belong to a
// user, and the users of all containers are the same.
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

enum { X86_64, I386, ARCHITECTURES };

static const uint32_t architectures[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386};

// An argument of the call, as far as the kernel looks at it.
struct condition {
	unsigned argument;
	uint32_t bits, value; // no bits: always true
};

struct rule {
	int numbers[ARCHITECTURES]; // of the call, or NO_CALL
	int code;                   // the errno that it gets
	struct condition conditions[2];
};

enum { NO_CALL = -1, X32_BIT = 0x40000000 };
enum { OLD_PACKET_SOCKET = 10 }; // in any family (linux/net.h)

#define IS(argument, value)                                                                        \
	{                                                                                          \
		argument, UINT32_MAX, value                                                        \
	}
#define IS_TYPE(type)                                                                              \
	{                                                                                          \
		1, 0xf, type                                                                       \
	}
// A packet carries eight bits of the protocol: 262, IPPROTO_MPTCP, is TCP to a raw socket.
#define IS_PROTOCOL(protocol)                                                                      \
	{                                                                                          \
		2, 0xff, protocol                                                                  \
	}

static const struct rule rules[] = {
	{{SYS_socket, 359}, EPERM, {IS(0, AF_PACKET)}},
	{{SYS_socket, 359}, EPERM, {IS(0, AF_XDP)}},
	{{SYS_socket, 359}, EPERM, {IS_TYPE(OLD_PACKET_SOCKET)}},
	{{SYS_socket, 359}, EPERM, {IS_TYPE(SOCK_RAW), IS_PROTOCOL(IPPROTO_TCP)}},
	{{SYS_socket, 359}, EPERM, {IS_TYPE(SOCK_RAW), IS_PROTOCOL(IPPROTO_RAW)}},
	{{SYS_setsockopt, 366}, EPERM, {IS(1, IPPROTO_IP), IS(2, IP_HDRINCL)}},
	{{SYS_add_key, 286}, EPERM, {{0}}},
	{{SYS_request_key, 287}, EPERM, {{0}}},
	{{SYS_keyctl, 288}, EPERM, {{0}}},
	{{SYS_io_uring_setup, 425}, ENOSYS, {{0}}},
	{{NO_CALL, 102}, ENOSYS, {{0}}}, // socketcall
};

// ---------------------------------------------------------------- their program

enum { RULE_LENGTH = 9, PROGRAM_MAX = 8 + ARCHITECTURES * ARRAY_LENGTH(rules) * RULE_LENGTH };
_Static_assert(ARRAY_LENGTH(rules) * RULE_LENGTH <= UINT8_MAX, "a jump passes all rules");

#define LOAD(field)                                                                                \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define AND(bits)    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits)
#define ALLOW        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE(code) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)(code))

struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned short length;
};

static void add(struct program *program, struct sock_filter instruction)
{
	program->code[program->length++] = instruction;
}

// Goes on when what was loaded is `value`, else at the instruction `end`.
static void add_test(struct program *program, uint32_t value, unsigned end)
{
	unsigned distance = end - program->length - 1u;

	add(program,
	    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, (uint8_t)distance));
}

static void add_rule(struct program *program, const struct rule *rule, int number)
{
	unsigned end = program->length + (unsigned)RULE_LENGTH;

	add(program, (struct sock_filter)LOAD(nr));
	add_test(program, (uint32_t)number, end);
	for (size_t i = 0; i < ARRAY_LENGTH(rule->conditions); i++) {
		const struct condition *condition = &rule->conditions[i];

		add(program, (struct sock_filter)LOAD(args[condition->argument]));
		add(program, (struct sock_filter)AND(condition->bits));
		add_test(program, condition->value, end);
	}
	add(program, (struct sock_filter)REFUSE(rule->code));
}

static void add_rules(struct program *program, int architecture)
{
	unsigned begin = program->length + 2u, count = 0;

	for (size_t i = 0; i < ARRAY_LENGTH(rules); i++)
		count += rules[i].numbers[architecture] != NO_CALL;
	add(program, (struct sock_filter)LOAD(arch));
	add_test(program, architectures[architecture], begin + count * RULE_LENGTH);
	for (size_t i = 0; i < ARRAY_LENGTH(rules); i++)
		if (rules[i].numbers[architecture] != NO_CALL)
			add_rule(program, &rules[i], rules[i].numbers[architecture]);
}

static void write_program(struct program *program)
{
	program->length = 0;
	add(program, (struct sock_filter)LOAD(nr));
	add(program, (struct sock_filter)AND(X32_BIT));
	add_test(program, X32_BIT, program->length + 2u);
	add(program, (struct sock_filter)REFUSE(ENOSYS));
	for (int i = 0; i < ARCHITECTURES; i++)
		add_rules(program, i);
	add(program, (struct sock_filter)ALLOW);
}

// Without no_new_privs, which set-user-ID programs of a container would feel: needs CAP_SYS_ADMIN.
int init_filter_install(struct error *err)
{
	struct program program;
	struct sock_fprog filter = {.filter = program.code};

	write_program(&program);
	filter.len = program.length;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0)
		return error_errno(err, "seccomp filter");
	return 0;
}
