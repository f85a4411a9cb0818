// SPDX-License-Identifier: Apache-2.0
// Dumps of nf_tables that are disturbed by a change, against a kernel that is played by a child.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

#include "agent/base/scope.h"
#include "netif/nft.h"

enum { BUFFER_SIZE = 4096 };

// Waits for a request; returns its sequence number.
static uint32_t take_request(int fd)
{
	char bytes[BUFFER_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *request = (void *)bytes;

	if (recv(fd, bytes, sizeof(bytes), 0) < (ssize_t)sizeof(*request))
		_exit(EXIT_FAILURE);
	return request->nlmsg_seq;
}

static void send_message(int fd, const struct nlmsghdr *message)
{
	if (send(fd, message, message->nlmsg_len, 0) < 0)
		_exit(EXIT_FAILURE);
}

static void send_table(int fd, uint32_t sequence, const char *name, uint16_t flags)
{
	char bytes[BUFFER_SIZE] = {0};
	struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);

	message->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE;
	message->nlmsg_flags = NLM_F_MULTI | flags;
	message->nlmsg_seq = sequence;
	mnl_nlmsg_put_extra_header(message, sizeof(struct nfgenmsg));
	mnl_attr_put_strz(message, NFTA_TABLE_NAME, name);
	send_message(fd, message);
}

static void send_done(int fd, uint32_t sequence, int code)
{
	char bytes[BUFFER_SIZE] = {0};
	struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);

	message->nlmsg_type = NLMSG_DONE;
	message->nlmsg_seq = sequence;
	*(int *)mnl_nlmsg_put_extra_header(message, sizeof(code)) = code;
	send_message(fd, message);
}

// The first dump is noticed to be disturbed in its middle, the second is not.
static void play_disturbed(int fd)
{
	uint32_t sequence = take_request(fd);

	send_table(fd, sequence, "early", 0);
	send_table(fd, sequence, "late", NLM_F_DUMP_INTR);
	send_table(fd, sequence, "later", NLM_F_DUMP_INTR);
	send_done(fd, sequence, 0);
	sequence = take_request(fd);
	send_table(fd, sequence - 1, "of another request", 0);
	send_table(fd, sequence, "whole", 0);
	send_done(fd, sequence, 0);
}

static void play_failing(int fd)
{
	uint32_t sequence = take_request(fd);

	send_table(fd, sequence, "early", 0);
	send_done(fd, sequence, -ENOMEM);
}

static void play_restless(int fd)
{
	for (;;) {
		uint32_t sequence = take_request(fd);

		send_table(fd, sequence, "late", NLM_F_DUMP_INTR);
		send_done(fd, sequence, 0);
	}
}

static int dump_tables(void (*play)(int fd), struct nft_object **ret_tables, size_t *ret_count,
		       struct error *err)
{
	int pair[2], result, status;
	pid_t kernel;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	kernel = fork();
	assert_true(kernel >= 0);
	if (kernel == 0) {
		close(pair[0]);
		play(pair[1]);
		_exit(EXIT_SUCCESS);
	}
	close(pair[1]);
	result = nft_tables_dump(pair[0], ret_tables, ret_count, err);
	close(pair[0]);
	assert_int_equal(waitpid(kernel, &status, 0), kernel);
	return result;
}

static void test_disturbed_is_taken_again(void **state)
{
	scoped_free struct nft_object *tables = NULL;
	struct error err = {0};
	size_t count = 0;

	(void)state;
	assert_int_equal(dump_tables(play_disturbed, &tables, &count, &err), 0);
	assert_int_equal(count, 1);
	assert_string_equal(tables[0].name, "whole");
}

static void test_failure_at_the_end(void **state)
{
	struct nft_object *tables = NULL;
	struct error err = {0};
	size_t count = 0;

	(void)state;
	assert_int_equal(dump_tables(play_failing, &tables, &count, &err), -ENOMEM);
}

static void test_gives_up(void **state)
{
	struct nft_object *tables = NULL;
	struct error err = {0};
	size_t count = 0;

	(void)state;
	assert_int_equal(dump_tables(play_restless, &tables, &count, &err), -EAGAIN);
	assert_string_equal(err.message, "list tables: Resource temporarily unavailable");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disturbed_is_taken_again),
		cmocka_unit_test(test_failure_at_the_end),
		cmocka_unit_test(test_gives_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
