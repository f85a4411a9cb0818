// SPDX-License-Identifier: Apache-2.0
// What others take away from the table of a VPC, and how it is made whole again.
#include "tests/netns/sg_table.h"

#include <errno.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

// A mirror that could not be read again is no empty table: what it does not know stands.
static void test_unread_mirror_takes_nothing(void **state)
{
	struct named_member one;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	add_member(&one);
	assert_int_equal(commit(), 0);
	remove_member("eni-5");
	assert_true(sg_vpc_commit(vpc, batch, -1, &err) < 0);
	assert_true(sg_vpc_is_damaged(vpc));
	assert_true(sg_vpc_may_have(vpc, "eni-5"));
	assert_int_equal(sg_member_remove(vpc, batch, "eni-5", &err), -ESTALE);
	assert_int_equal(sg_member_set(vpc, batch, &one.member, &err), -ESTALE);
	assert_int_equal(sg_group_remove(vpc, batch, "sg-web", &err), -ESTALE);
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	assert_false(sg_vpc_is_damaged(vpc));
	assert_true(sg_member_stands(vpc, &one.member));
	assert_true(sg_vpc_may_have(vpc, "eni-5"));
	assert_true(sg_vpc_may_have(vpc, "sg-web"));
	assert_false(sg_vpc_may_have(vpc, "eni-6"));
}

static void test_incomplete_members_are_removed(void **state)
{
	struct named_member one, two;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	add_group("sg-db", NULL);
	name_member(&one, 5, web_only, 1);
	name_member(&two, 6, web_and_db, 2);
	add_member(&one);
	add_member(&two);
	assert_int_equal(commit(), 0);
	take_from_map(two.interface);
	remove_member("eni-6");
	assert_int_equal(commit(), 2); // not all of it is there; and its combination
	assert_true(sg_vpc_is_damaged(vpc));
	assert_false(sg_member_stands(vpc, &two.member));
	assert_int_equal(sg_member_remove(vpc, batch, "eni-6", &err), -EUCLEAN);
	assert_int_equal(sg_member_set(vpc, batch, &two.member, &err), -EUCLEAN);
	assert_string_equal(err.message, "eni eni-6 is incomplete until the vpc is restored");
	assert_int_equal(nft_batch_count(batch), 0);
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	assert_false(sg_vpc_is_damaged(vpc));
	assert_true(sg_member_stands(vpc, &one.member));
	assert_false(sg_member_stands(vpc, &two.member));
	add_member(&two);
	assert_int_equal(commit(), 0);
	assert_true(sg_member_stands(vpc, &two.member));
}

// `nft flush ruleset`, in the eyes of this table.
static void test_a_table_that_is_gone_is_made_again(void **state)
{
	struct named_member one;
	size_t chains[2], sets[2], rules[2];
	struct error err = {0};

	(void)state;
	count_objects(&chains[0], &sets[0], &rules[0]);
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	add_member(&one);
	assert_int_equal(commit(), 0);
	nft_table_delete(batch, "penstock");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	nft_batch_free(batch);
	batch = nft_batch_new();
	remove_member("eni-5");
	assert_true(sg_vpc_commit(vpc, batch, netfilter, &err) < 0);
	assert_true(sg_vpc_is_damaged(vpc));
	nft_batch_free(batch);
	batch = nft_batch_new();
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	count_objects(&chains[1], &sets[1], &rules[1]);
	assert_int_equal(chains[1], chains[0]);
	assert_int_equal(sets[1], sets[0]);
	assert_int_equal(rules[1], rules[0]);
	assert_ok(sg_member_remove(vpc, batch, "eni-5", &err), &err);
	add_group("sg-web", &web);
	add_member(&one);
	assert_int_equal(commit(), 0);
	assert_true(sg_member_stands(vpc, &one.member));
}

// Its members are as good as gone: they pass nothing.
static void test_a_combination_without_its_rules_is_removed(void **state)
{
	struct named_member one;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	add_member(&one);
	assert_int_equal(commit(), 0);
	nft_chain_flush(batch, "penstock", "combination_1_ingress");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	nft_batch_free(batch);
	batch = nft_batch_new();
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	assert_false(sg_member_stands(vpc, &one.member));
	add_member(&one);
	assert_int_equal(commit(), 0);
	assert_true(sg_member_stands(vpc, &one.member));
}

// Somebody else puts one rule that accepts everything in place of those that the chain has.
static void accept_all_in(const char *chain)
{
	struct nft_rule *rule = nft_rule_new("penstock", chain, NULL);
	struct error err = {0};

	nft_chain_flush(batch, "penstock", chain);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	assert_int_equal(nft_batch_failure_count(batch), 0);
	nft_batch_free(batch);
	batch = nft_batch_new();
}

static void test_a_combination_with_rules_of_others_is_removed(void **state)
{
	struct named_member one;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	add_member(&one);
	assert_int_equal(commit(), 0);
	accept_all_in("combination_1_ingress"); // as many as before
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	assert_false(sg_member_stands(vpc, &one.member));
	add_member(&one);
	assert_int_equal(commit(), 0);
	assert_true(sg_member_stands(vpc, &one.member));
}

// What stands looks the same: only a group that writes its rules again is sure of them.
static void test_rules_of_others_in_a_group_are_replaced(void **state)
{
	struct named_member one;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	add_member(&one);
	assert_int_equal(commit(), 0);
	accept_all_in("group_sg-web_ingress");
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	assert_true(sg_member_stands(vpc, &one.member));
	add_group("sg-web", &web);
	assert_true(nft_batch_count(batch) > 0);
	assert_int_equal(commit(), 0);
	add_group("sg-web", &web);
	assert_int_equal(nft_batch_count(batch), 0);
}

static void test_damaged_group_is_made_again(void **state)
{
	struct named_member one;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	add_member(&one);
	assert_int_equal(commit(), 0);
	nft_chain_flush(batch, "penstock", "group_sg-web_ingress");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	nft_batch_free(batch);
	batch = nft_batch_new();
	open_vpc();
	add_group("sg-web", &web);
	assert_true(nft_batch_count(batch) > 0);
	assert_int_equal(commit(), 0);
	add_group("sg-web", &web);
	assert_int_equal(nft_batch_count(batch), 0);
	assert_true(sg_member_stands(vpc, &one.member));
	open_vpc();
	add_group("sg-web", &web);
	assert_int_equal(nft_batch_count(batch), 0);
}

static void test_constant_chains_are_written_anew(void **state)
{
	size_t chains[2], sets[2], rules[2];
	struct error err = {0};

	(void)state;
	count_objects(&chains[0], &sets[0], &rules[0]);
	nft_chain_flush(batch, "penstock", "prerouting_source");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	open_vpc();
	count_objects(&chains[1], &sets[1], &rules[1]);
	assert_int_equal(rules[1], rules[0]);
	assert_int_equal(chains[1], chains[0]);
	assert_int_equal(sets[1], sets[0]);
}

// A change of rules that ended in the middle, as group.c describes it: the interim set is there.
static void add_interim_set(void)
{
	char name[NFT_NAME_SIZE];
	struct nft_set set =
		sg_group_set_of("sg-web", SG_INGRESS, SG_KIND_PORTS, SG_SET_INTERIM, name);

	nft_set_add(batch, &set);
	sg_group_add_kind(batch, "sg-web", SG_VARIANT_INGRESS, SG_KIND_PORTS, SG_SET_INTERIM);
	sg_group_add_kind(batch, "sg-web", SG_VARIANT_BALANCED, SG_KIND_PORTS, SG_SET_INTERIM);
	assert_int_equal(commit(), 0);
	open_vpc();
}

static void test_a_change_that_did_not_end(void **state)
{
	struct sg_rule wider = web;
	size_t chains[3], sets[3], rules[3];
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	assert_int_equal(commit(), 0);
	count_objects(&chains[0], &sets[0], &rules[0]);
	// Begun again as it was, or with another change that needs such a set.
	wider.cidr = (struct ipv4_cidr){0, 0};
	for (int i = 0; i < 2; i++) {
		add_interim_set();
		add_group("sg-web", i == 0 ? &web : &wider);
		assert_int_equal(commit(), 0);
		open_vpc();
		add_group("sg-web", i == 0 ? &web : &wider);
		assert_int_equal(nft_batch_count(batch), 0);
		count_objects(&chains[1], &sets[1], &rules[1]);
		assert_int_equal(sets[1], sets[0]);
		assert_int_equal(rules[1], rules[0]);
	}
	add_interim_set();
	assert_ok(sg_group_remove(vpc, batch, "sg-web", &err), &err);
	assert_int_equal(commit(), 0);
	count_objects(&chains[2], &sets[2], &rules[2]);
	assert_int_equal(sets[2] + 3, sets[0]); // members, ingress_ports, egress_protocols
	assert_int_equal(chains[2] + SG_VARIANT_COUNT, chains[0]);
}

static void add_chain_of_an_earlier_version(const char *table, const char *name)
{
	const struct nft_chain chain = {.table = table,
					.name = name,
					.base = true,
					.hook = NF_INET_PRE_ROUTING,
					.priority = -300,
					.policy = NF_ACCEPT};
	struct nft_rule *rule = nft_rule_new(table, name, NULL);

	nft_chain_add(batch, &chain);
	nft_verdict(rule, NF_DROP, NULL);
	nft_rule_add(batch, rule);
}

static void test_a_table_of_an_earlier_version(void **state)
{
	scoped_free struct nft_object *host_chains = NULL;
	size_t chains[2], sets[2], rules[2];
	struct error err = {0};
	size_t count;

	(void)state;
	count_objects(&chains[0], &sets[0], &rules[0]);
	nft_chain_flush(batch, "penstock", "prerouting_source");
	nft_chain_delete(batch, "penstock", "prerouting_source");
	add_chain_of_an_earlier_version("penstock", "prerouting_antispoof");
	nft_table_add(batch, "penstock-blue", "penstock blue");
	add_chain_of_an_earlier_version("penstock-blue", "prerouting");
	assert_int_equal(commit(), 0);
	open_vpc();
	assert_ok(sg_host_ensure("blue", netfilter, &err), &err);
	count_objects(&chains[1], &sets[1], &rules[1]);
	assert_int_equal(rules[1], rules[0]);
	assert_int_equal(chains[1], chains[0]);
	assert_ok(nft_chains_dump(netfilter, "penstock-blue", &host_chains, &count, &err), &err);
	assert_int_equal(count, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unread_mirror_takes_nothing, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_incomplete_members_are_removed, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_a_table_that_is_gone_is_made_again,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_a_combination_without_its_rules_is_removed,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_a_combination_with_rules_of_others_is_removed,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_rules_of_others_in_a_group_are_replaced,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_group_is_made_again, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_constant_chains_are_written_anew, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_a_change_that_did_not_end, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_a_table_of_an_earlier_version, table_setup,
						table_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
