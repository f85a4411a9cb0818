// SPDX-License-Identifier: Apache-2.0
// Changes of rules and of memberships under load: what is allowed before and after a change is
// allowed in between. Every packet asks the rules, because a UDP connection stays new until it is
// answered. PENSTOCK_CHANGES sets how often each change is made there and back (a longer
// measurement than the suite's).
#include "tests/netns/sg_world.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "agent/base/clock.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

#define ANYTHING_FROM_STRANGER                                                                     \
	{                                                                                          \
		.id = "stranger", .protocol = -1, .cidr = { 0x01020304, 32 }                       \
	}
#define UDP_FROM_STRANGER                                                                          \
	{                                                                                          \
		.id = "stranger", .protocol = 17, .from_port = PORT, .to_port = PORT, .cidr = {    \
			0x01020304,                                                                \
			32                                                                         \
		}                                                                                  \
	}

// Ingress of the group sg-b of task b. Each lets datagrams of task a, a member of sg-a, in.
static struct change {
	const char *name;
	struct {
		struct sg_rule rules[2];
		size_t count;
	} sides[2];
} changes[] = {
	{"reference to wider CIDR",
	 {{{UDP_FROM_GROUP("sg-a"), UDP_FROM_STRANGER}, 2}, {{UDP_FROM(0, 0)}, 1}}},
	{"reference to wider CIDR of another set",
	 {{{UDP_FROM_GROUP("sg-a"), ANYTHING_FROM_STRANGER}, 2}, {{ANYTHING}, 1}}},
	{"CIDR to wider CIDR of another set",
	 {{{UDP_FROM(ADDRESS_A, 32), ANYTHING_FROM_STRANGER}, 2}, {{ANYTHING}, 1}}},
	{"CIDRs of two sets that change places",
	 {{{UDP_FROM(0, 0), ANYTHING_FROM_STRANGER}, 2}, {{UDP_FROM_STRANGER, ANYTHING}, 2}}},
	{"reference to another protocol's",
	 {{{UDP_FROM_GROUP("sg-a")}, 1}, {{ANYTHING_FROM("sg-a")}, 1}}},
};

enum { CHANGES = 30 };

static unsigned repetitions(void)
{
	const char *text = getenv("PENSTOCK_CHANGES");
	uint32_t number = CHANGES;

	if (text)
		assert_int_equal(parse_u32(text, 1000000, &number), 0);
	return number;
}

static void set_side(const struct change *change, int side)
{
	set_group("sg-b", change->sides[side].rules, change->sides[side].count, NULL, 0);
}

typedef void make_change(const void *context, int side);

static pid_t start_changes(make_change *make, const void *context)
{
	pid_t changer = fork();

	assert_true(changer >= 0);
	if (changer > 0)
		return changer;
	for (unsigned i = 0; i < 2 * repetitions(); i++)
		make(context, (i + 1) % 2);
	_exit(EXIT_SUCCESS);
}

// Sends from a to b until the changes are made. The first side is there already.
static void assert_no_gap(const char *name, make_change *make, const void *context)
{
	const uint64_t before = drops(SG_DROP_INGRESS_DENIED, NULL),
		       before_egress = drops(SG_DROP_EGRESS_DENIED, NULL);
	scoped_fd int sender = socket_inside(world.a_fd, SOCK_DGRAM);
	int64_t started_us = clock_monotonic_us(), taken_us;
	uint64_t sent = 0, lost;
	pid_t changer;
	int status = 0;

	assert_int_equal(connect_to(sender, ADDRESS_B, PORT), 0);
	changer = start_changes(make, context);
	while (waitpid(changer, &status, WNOHANG) == 0)
		for (int i = 0; i < 64; i++)
			sent += send(sender, "x", 1, 0) == 1;
	assert_int_equal(status, 0);
	taken_us = clock_monotonic_us() - started_us;
	lost = drops(SG_DROP_INGRESS_DENIED, NULL) - before;
	lost += drops(SG_DROP_EGRESS_DENIED, NULL) - before_egress;
	printf("%s: %u changes, %llu packets, %.0f/s, %llu lost\n", name, 2 * repetitions(),
	       (unsigned long long)sent, (double)sent * 1e6 / (double)taken_us,
	       (unsigned long long)lost);
	assert_int_equal(lost, 0);
}

static int setup(void **state)
{
	world_setup(state);
	set_group("sg-a", NO_RULES, RULES(ANYTHING));
	set_group("sg-b", NO_RULES, NO_RULES);
	set_member(&world.a, GROUPS("sg-a"));
	set_member(&world.b, GROUPS("sg-b"));
	return 0;
}

static void change_rules(const void *context, int side)
{
	set_side(context, side);
}

static void test_rules(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	(void)server; // a closed port would answer
	set_side(*state, 0);
	assert_no_gap(((const struct change *)*state)->name, change_rules, *state);
}

// The receiver moves between two groups that both let the sender in.
static void change_receiver(const void *context, int side)
{
	(void)context;
	if (side)
		set_member(&world.b, GROUPS("sg-c"));
	else
		set_member(&world.b, GROUPS("sg-b"));
}

// The sender moves between two groups that the receiver lets in, each by a reference of its own.
static void change_sender(const void *context, int side)
{
	(void)context;
	if (side)
		set_member(&world.a, GROUPS("sg-d"));
	else
		set_member(&world.a, GROUPS("sg-a"));
}

static void set_two_ways(void)
{
	set_group("sg-c", RULES(ANYTHING), NO_RULES);
	set_group("sg-d", NO_RULES, RULES(ANYTHING));
	set_group("sg-b", RULES(UDP_FROM_GROUP("sg-d"), ANYTHING_FROM("sg-a")), NO_RULES);
}

static void test_groups_of_the_receiver(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	(void)server;
	set_two_ways();
	assert_no_gap("groups of the receiver", change_receiver, NULL);
}

static void test_groups_of_the_sender(void **state)
{
	scoped_fd int server = server_inside(world.b_fd, SOCK_DGRAM, PORT);

	(void)state;
	(void)server;
	set_two_ways();
	assert_no_gap("groups of the sender", change_sender, NULL);
}

#define RULES_TEST(number)                                                                         \
	{                                                                                          \
		.name = changes[number].name, .test_func = test_rules, .setup_func = setup,        \
		.teardown_func = world_teardown, .initial_state = &changes[number]                 \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULES_TEST(0),
		RULES_TEST(1),
		RULES_TEST(2),
		RULES_TEST(3),
		RULES_TEST(4),
		cmocka_unit_test_setup_teardown(test_groups_of_the_receiver, setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_groups_of_the_sender, setup, world_teardown),
	};

	sandbox_enter();
	return cmocka_run_group_tests_name("change", tests, NULL, NULL);
}
