// SPDX-License-Identifier: Apache-2.0
// Many rules and many members: nothing is refused, and a member takes no longer among 1,000.
#include "tests/netns/sg_table.h"

#include <stdio.h>

#include "agent/base/clock.h"

enum { MEMBERS_MAX = 1100, MEASURED = 200 };

static void test_sixty_rules(void **state)
{
	struct sg_rule rules[SG_RULES_MAX];
	char ids[SG_RULES_MAX][16];
	struct sg_group group = {.id = "sg-web", .rules = {{rules, 0}, {rules, 0}}};
	struct error err = {0};
	uint32_t seed = 1;

	(void)state;
	// Overlaps of all kinds: none may be refused, whatever stood before.
	for (int round = 0; round < 50; round++) {
		for (size_t i = 0; i < SG_RULES_MAX; i++) {
			seed = seed * 1664525 + 1013904223;
			snprintf(ids[i], sizeof(ids[i]), "r%zu", i);
			rules[i] = (struct sg_rule){.id = ids[i],
						    .protocol = seed >> 30 ? 6 : 1,
						    .cidr.prefix = (seed >> 8 & 3) * 8};
			rules[i].cidr.base = 0x0a010100 & ipv4_mask(rules[i].cidr.prefix);
			rules[i].from_port = (int)(seed >> 12 & 15);
			rules[i].to_port = rules[i].from_port + (int)(seed >> 16 & 15);
		}
		group.rules[SG_INGRESS].count = group.rules[SG_EGRESS].count = seed % 61;
		assert_ok(sg_group_set(vpc, batch, &group, &err), &err);
		assert_int_equal(commit(), 0);
	}
	open_vpc();
	assert_ok(sg_group_set(vpc, batch, &group, &err), &err);
	assert_int_equal(nft_batch_count(batch), 0);
}

static int compare_durations(const void *left, const void *right)
{
	int64_t one = *(const int64_t *)left, other = *(const int64_t *)right;

	return one < other ? -1 : one > other;
}

// Adds and removes one member MEASURED times; prints the medians.
static void measure(unsigned existing)
{
	int64_t added[MEASURED], removed[MEASURED];
	struct named_member one;

	name_member(&one, 0xffff, web_only, 1);
	for (int i = 0; i < MEASURED; i++) {
		int64_t start = clock_monotonic_us();

		add_member(&one);
		assert_int_equal(commit(), 0);
		added[i] = clock_monotonic_us() - start;
		start = clock_monotonic_us();
		remove_member(one.id);
		assert_int_equal(commit(), 0);
		removed[i] = clock_monotonic_us() - start;
	}
	qsort(added, MEASURED, sizeof(*added), compare_durations);
	qsort(removed, MEASURED, sizeof(*removed), compare_durations);
	printf("figure sg_member_add_p50_at_%u %.3f ms\n", existing,
	       (double)added[MEASURED / 2] / 1000);
	printf("figure sg_member_add_p99_at_%u %.3f ms\n", existing,
	       (double)added[MEASURED * 99 / 100] / 1000);
	printf("figure sg_member_remove_p50_at_%u %.3f ms\n", existing,
	       (double)removed[MEASURED / 2] / 1000);
}

static void test_members_take_no_longer_among_many(void **state)
{
	static struct named_member members[MEMBERS_MAX];
	int64_t start;

	(void)state;
	add_group("sg-web", &web);
	name_member(&members[0], 2, web_only, 1); // so that the combination stands
	add_member(&members[0]);
	assert_int_equal(commit(), 0);
	measure(1);
	for (unsigned i = 1; i <= 1000; i++) {
		name_member(&members[i], i + 2, web_only, 1);
		add_member(&members[i]);
	}
	start = clock_monotonic_us();
	assert_int_equal(commit(), 0); // 1,000 in one batch
	printf("figure sg_member_add_1000_in_one_batch %.3f ms\n",
	       (double)(clock_monotonic_us() - start) / 1000);
	measure(1000);
	start = clock_monotonic_us();
	open_vpc();
	printf("figure sg_vpc_open_at_1000 %.3f ms\n",
	       (double)(clock_monotonic_us() - start) / 1000);
	for (unsigned i = 0; i <= 1000; i++)
		assert_true(sg_member_stands(vpc, &members[i].member));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sixty_rules, table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_members_take_no_longer_among_many, table_setup,
						table_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
