// SPDX-License-Identifier: Apache-2.0
// From plans to nft operations: how many, for which change.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/provider_nft.h"

static const struct lb_endpoint one[] = {{0x0a000105, 80}},
				two[] = {{0x0a000105, 80}, {0x0a000106, 80}};
static const struct lb_plan_service services[] = {{0x0a000109, 80, "a", "front"},
						  {0x0a000109, 81, "b", "front"}};

// Applies the plan to `served` and returns the operations as text.
static char *operations(struct lb_nft_served *served, const struct lb_plan *plan)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct lb_nft_served after;
	struct buffer text = {0};

	lb_nft_served_after(served, plan, &after);
	lb_nft_plan_batch(served, &after, plan->resync ? "penstock blue" : NULL, batch);
	nft_batch_print(batch, &text);
	lb_nft_served_release(served);
	*served = after;
	return buffer_take(&text);
}

static void everything(struct lb_nft_served *served)
{
	const struct lb_plan_group groups[] = {{"a", one, 1}, {"b", two, 2}};
	const struct lb_plan plan = {.resync = true,
				     .groups = groups,
				     .group_count = 2,
				     .services = services,
				     .service_count = 2};
	scoped_free char *text = operations(served, &plan);

	assert_non_null(strstr(text, "penstock_lb"));
	assert_non_null(strstr(text, "group-a"));
	assert_non_null(strstr(text, "group-b"));
}

static void test_nothing_changes(void **state)
{
	const struct lb_plan_group groups[] = {{"b", two, 2}};
	const struct lb_plan plan = {.groups = groups,
				     .group_count = 1,
				     .services_changed = true,
				     .services = services,
				     .service_count = 2};
	struct lb_nft_served served = {0};
	scoped_free char *text = NULL;

	(void)state;
	everything(&served);
	text = operations(&served, &plan);
	assert_string_equal(text, "");
	lb_nft_served_release(&served);
}

static void test_one_group_changes(void **state)
{
	const struct lb_plan_group groups[] = {{"b", one, 1}};
	const struct lb_plan plan = {.groups = groups, .group_count = 1};
	struct lb_nft_served served = {0};
	scoped_free char *text = NULL;

	(void)state;
	everything(&served);
	text = operations(&served, &plan);
	assert_non_null(strstr(text, "group-b"));
	assert_null(strstr(text, "group-a"));
	assert_null(strstr(text, "services"));
	// 10.0.1.6 leaves the hairpin set, 10.0.1.5 is still served by the other group.
	assert_non_null(strstr(text, "delete elements: penstock_lb hairpin\n"
				     "  element 0601000a 0601000a"));
	assert_null(strstr(text, "element 0501000a 0501000a"));
	assert_int_equal(lb_nft_served_group_find(&served, "b")->count, 1);
	// The rule before drew 0 and 1: both numbers lead to the target that is left.
	assert_non_null(strstr(text, "add elements: penstock_lb group-b\n"
				     "  element 00000000  : 0501000a 00005000 0 [end]\n"
				     "  element 00000001  : 0501000a 00005000 0 [end]"));
	lb_nft_served_release(&served);
}

// The map has the second target before a rule draws it, also where a shrink left an element there.
static void test_a_group_grows(void **state)
{
	const struct lb_plan_group small[] = {{"b", one, 1}}, large[] = {{"b", two, 2}};
	const struct lb_plan shrink = {.groups = small, .group_count = 1};
	const struct lb_plan grow = {.groups = large, .group_count = 1};
	struct lb_nft_served served = {0};
	scoped_free char *shrunk = NULL, *grown = NULL;
	const char *map, *barrier, *rule;

	(void)state;
	everything(&served);
	shrunk = operations(&served, &shrink);
	assert_null(strstr(shrunk, "barrier\n"));
	grown = operations(&served, &grow);
	map = strstr(grown, "add elements: penstock_lb group-b\n");
	barrier = strstr(grown, "barrier\n");
	rule = strstr(grown, "add rule: inet penstock_lb group-b\n");
	assert_non_null(map);
	assert_non_null(barrier);
	assert_non_null(rule);
	assert_true(strstr(grown, "delete elements: penstock_lb group-b") < map);
	assert_true(map < barrier && barrier < rule);
	lb_nft_served_release(&served);
}

static void test_a_group_goes(void **state)
{
	const char *const removed[] = {"a"};
	const struct lb_plan plan = {.removed = removed,
				     .removed_count = 1,
				     .services_changed = true,
				     .services = services + 1,
				     .service_count = 1};
	struct lb_nft_served served = {0};
	scoped_free char *text = NULL;

	(void)state;
	everything(&served);
	text = operations(&served, &plan);
	assert_null(strstr(text, "group-b"));
	assert_null(strstr(text, "hairpin")); // both addresses and the VIP are still in use
	assert_true(strstr(text, "services") < strstr(text, "barrier\n"));
	assert_true(strstr(text, "barrier\n") <
		    strstr(text, "delete chain: inet penstock_lb group-a"));
	assert_null(lb_nft_served_group_find(&served, "a"));
	assert_int_equal(served.service_count, 1);
	lb_nft_served_release(&served);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_changes),
		cmocka_unit_test(test_one_group_changes),
		cmocka_unit_test(test_a_group_grows),
		cmocka_unit_test(test_a_group_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
