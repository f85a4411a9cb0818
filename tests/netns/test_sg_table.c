// SPDX-License-Identifier: Apache-2.0
// The table of a VPC over time: adoption after a crash, refused batches, damage. No interface is
// needed: the kernel takes names as they come.
#include "tests/netns/sg_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/scope.h"

// Chains, sets and elements of all that groups and members have.
static void count_objects(size_t *ret_chains, size_t *ret_sets, size_t *ret_rules)
{
	scoped_free struct nft_object *chains = NULL, *sets = NULL;
	scoped_free struct nft_rule_info *rules = NULL;
	struct error err = {0};

	assert_ok(nft_chains_dump(netfilter, "penstock", &chains, ret_chains, &err), &err);
	assert_ok(nft_sets_dump(netfilter, "penstock", &sets, ret_sets, &err), &err);
	assert_ok(nft_rules_dump(netfilter, "penstock", NULL, &rules, ret_rules, &err), &err);
}

static void test_nothing_is_left(void **state)
{
	struct named_member one, two;
	size_t chains[3], sets[3], rules[3];
	struct error err = {0};

	(void)state;
	count_objects(&chains[0], &sets[0], &rules[0]);
	add_group("sg-web", &web);
	add_group("sg-db", &from_web);
	name_member(&one, 5, web_only, 1);
	name_member(&two, 6, web_and_db, 2);
	add_member(&one);
	add_member(&two);
	assert_int_equal(commit(), 0);
	count_objects(&chains[1], &sets[1], &rules[1]);
	assert_true(chains[1] > chains[0] && sets[1] > sets[0] && rules[1] > rules[0]);
	assert_int_equal(sg_group_remove(vpc, batch, "sg-web", &err), -EBUSY);
	remove_member("eni-5");
	remove_member("eni-6");
	assert_int_equal(sg_group_remove(vpc, batch, "sg-web", &err), -EBUSY); // referenced
	assert_ok(sg_group_remove(vpc, batch, "sg-db", &err), &err);
	assert_ok(sg_group_remove(vpc, batch, "sg-web", &err), &err);
	assert_int_equal(commit(), 0);
	count_objects(&chains[2], &sets[2], &rules[2]);
	assert_int_equal(chains[2], chains[0]);
	assert_int_equal(sets[2], sets[0]);
	assert_int_equal(rules[2], rules[0]);
}

static size_t count_sets(void)
{
	size_t chains, sets, rules;

	count_objects(&chains, &sets, &rules);
	return sets;
}

static void test_sets_come_when_needed_and_stay(void **state)
{
	static const struct sg_rule ping = {
		.id = "in/0", .protocol = 1, .from_port = -1, .to_port = -1};
	size_t before = count_sets();
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	assert_int_equal(commit(), 0);
	assert_int_equal(count_sets(), before + 3); // members, ingress_ports, egress_protocols
	add_group("sg-web", &ping);
	assert_int_equal(commit(), 0);
	assert_int_equal(count_sets(), before + 4);
	open_vpc();
	add_group("sg-web", &ping);
	assert_int_equal(nft_batch_count(batch), 0);
	add_group("sg-web", &web);
	assert_int_equal(commit(), 0);
	assert_int_equal(count_sets(), before + 4);
	add_group("sg-web", NULL);
	assert_int_equal(commit(), 0);
	open_vpc();
	add_group("sg-web", NULL);
	assert_int_equal(nft_batch_count(batch), 0);
	assert_ok(sg_group_remove(vpc, batch, "sg-web", &err), &err);
	assert_int_equal(commit(), 0);
	assert_int_equal(count_sets(), before);
}

static void test_adoption(void **state)
{
	static const char *const db_only[] = {"sg-db"};
	const struct sg_balancer balancer = {"lb-1", 0x0a000099, db_only, 1};
	scoped_free struct sg_object *objects = NULL;
	struct named_member one, two;
	struct error err = {0};
	size_t count;

	(void)state;
	add_group("sg-db", &from_web); // before the group that it names
	add_group("sg-web", &web);
	name_member(&one, 5, web_only, 1);
	name_member(&two, 6, web_and_db, 2);
	add_member(&one);
	add_member(&two);
	assert_ok(sg_balancer_set(vpc, batch, &balancer, &err), &err);
	assert_int_equal(commit(), 0);
	open_vpc(); // as another process would
	assert_true(sg_member_stands(vpc, &one.member));
	assert_true(sg_member_stands(vpc, &two.member));
	add_group("sg-web", &web);
	add_group("sg-db", &from_web);
	add_member(&one);
	add_member(&two);
	assert_ok(sg_balancer_set(vpc, batch, &balancer, &err), &err);
	assert_int_equal(nft_batch_count(batch), 0);
	sg_vpc_inventory(vpc, &objects, &count);
	assert_int_equal(count, 5);
	assert_string_equal(objects[2].owner, "eni-5");
	assert_string_equal(objects[2].name, one.interface);
	assert_string_equal(objects[4].owner, "lb-1");
	assert_string_equal(objects[4].name, "10.0.0.153");
	remove_member("eni-5");
	remove_member("eni-6");
	assert_ok(sg_balancer_remove(vpc, batch, "lb-1", &err), &err);
	assert_ok(sg_group_remove(vpc, batch, "sg-db", &err), &err);
	assert_ok(sg_group_remove(vpc, batch, "sg-web", &err), &err);
	assert_int_equal(commit(), 0);
}

static void test_find_changes_nothing(void **state)
{
	struct sg_vpc *found = NULL;
	struct error err = {0};

	(void)state;
	assert_ok(sg_vpc_find("blue", "prod", netfilter, &found, &err), &err);
	sg_vpc_close(found);
	nft_table_delete(batch, "penstock");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	assert_int_equal(sg_vpc_find("blue", "prod", netfilter, &found, &err), -ENOENT);
}

// --- Refused operations ---

static void test_culprit_fails_alone(void **state)
{
	struct named_member members[5];
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	add_group("sg-db", NULL);
	for (unsigned i = 0; i < 5; i++)
		name_member(&members[i], 10 + i, web_only, 1);
	members[1].member.address = members[0].member.address; // twice in one set of members
	members[3].member.groups = web_and_db;                 // first of a combination
	members[3].member.group_count = 2;
	members[3].member.address = members[0].member.address;
	members[4].member.groups = web_and_db;
	members[4].member.group_count = 2;
	for (unsigned i = 0; i < 5; i++)
		add_member(&members[i]);
	assert_ok(sg_vpc_commit(vpc, batch, netfilter, &err), &err);
	assert_int_equal(nft_batch_failure_count(batch), 2);
	assert_null(nft_batch_failure(batch, "eni eni-10"));
	assert_int_equal(nft_batch_failure(batch, "eni eni-11")->code, EEXIST);
	assert_non_null(strstr(nft_batch_failure(batch, "eni eni-11")->message,
			       "add element to set group_sg-web_members"));
	assert_non_null(nft_batch_failure(batch, "eni eni-13"));
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(sg_member_stands(vpc, &members[i].member), i != 1 && i != 3);
	// The mirror was read again: what stands is known, the rest can be tried again.
	members[1].member.address += 0x100;
	nft_batch_free(batch);
	batch = nft_batch_new();
	add_member(&members[1]);
	assert_int_equal(commit(), 0);
	assert_true(sg_member_stands(vpc, &members[1].member));
}

static void test_dependents_fail_too(void **state)
{
	struct named_member one, two;
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	add_group("sg-db", NULL);
	name_member(&one, 5, web_only, 1);
	name_member(&two, 6, web_and_db, 2);
	add_member(&one);
	assert_int_equal(commit(), 0);
	// Somebody else has a chain where the second combination's verdict should be new.
	nft_chain_add(batch, &(struct nft_chain){.table = "penstock", .name = "foreign"});
	nft_set_delete(batch, "penstock", "group_sg-db_members");
	nft_set_add(batch, &(struct nft_set){.table = "penstock",
					     .name = "group_sg-db_members",
					     .key = NFT_TYPES(NFT_TYPE_IPV4, NFT_TYPE_IPV4)});
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	assert_int_equal(nft_batch_failure_count(batch), 0);
	nft_batch_free(batch);
	batch = nft_batch_new();
	add_member(&two);
	remove_member("eni-5");
	assert_ok(sg_vpc_commit(vpc, batch, netfilter, &err), &err);
	assert_non_null(nft_batch_failure(batch, "eni eni-6"));
	assert_null(nft_batch_failure(batch, "eni eni-5"));
	assert_false(sg_member_stands(vpc, &one.member));
	assert_false(sg_member_stands(vpc, &two.member));
}

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
	assert_int_equal(sg_member_remove(vpc, batch, "eni-5", &err), -ESTALE);
	assert_int_equal(sg_member_set(vpc, batch, &one.member, &err), -ESTALE);
	assert_int_equal(sg_group_remove(vpc, batch, "sg-web", &err), -ESTALE);
	assert_ok(sg_vpc_restore(vpc, netfilter, &err), &err);
	assert_false(sg_vpc_is_damaged(vpc));
	assert_true(sg_member_stands(vpc, &one.member));
}

static void test_errors_name_what_is_wrong(void **state)
{
	static const char *const unknown[] = {"sg-nobody"};
	struct named_member one;
	struct error err = {0};

	(void)state;
	name_member(&one, 5, unknown, 1);
	assert_int_equal(sg_member_set(vpc, batch, &one.member, &err), -ENOENT);
	assert_string_equal(err.message, "eni eni-5: there is no group sg-nobody in vpc prod");
	name_member(&one, 5, web_only, 6);
	assert_int_equal(sg_member_set(vpc, batch, &one.member, &err), -EINVAL);
	name_member(&one, 5, web_only, 0);
	one.member.interface = "eth0";
	assert_int_equal(sg_member_set(vpc, batch, &one.member, &err), -EINVAL);
	assert_int_equal(nft_batch_count(batch), 0);
}

// --- Damage by others ---

static void test_incomplete_members_are_removed(void **state)
{
	static const struct nft_set map = {.table = "penstock",
					   .name = "eni_combination",
					   .key = {{NFT_TYPE_IFNAME}},
					   .data = {{NFT_TYPE_MARK}}};
	struct nft_element element = {0};
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
	nft_value_add_ifname(&element.key, two.interface);
	nft_elements_delete(batch, &map, &element, 1);
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	nft_batch_free(batch);
	batch = nft_batch_new();
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
	nft_chain_flush(batch, "penstock", "prerouting_antispoof");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	open_vpc();
	count_objects(&chains[1], &sets[1], &rules[1]);
	assert_int_equal(rules[1], rules[0]);
	assert_int_equal(chains[1], chains[0]);
	assert_int_equal(sets[1], sets[0]);
}

static void test_host_table(void **state)
{
	struct sg_object *objects;
	struct error err = {0};
	size_t count;

	(void)state;
	for (int again = 0; again < 2; again++)
		assert_ok(sg_host_ensure("blue", netfilter, &err), &err);
	assert_ok(sg_host_ensure("green", netfilter, &err), &err);
	assert_ok(sg_host_inventory("blue", netfilter, &objects, &count, &err), &err);
	assert_int_equal(count, 1);
	assert_string_equal(objects[0].name, "penstock-blue");
	assert_string_equal(objects[0].owner, "blue");
	free(objects);
	for (int again = 0; again < 2; again++)
		assert_ok(sg_host_delete("blue", netfilter, &err), &err);
	assert_ok(sg_host_inventory("blue", netfilter, &objects, &count, &err), &err);
	assert_int_equal(count, 0);
	free(objects);
	assert_ok(sg_host_inventory("green", netfilter, &objects, &count, &err), &err);
	assert_int_equal(count, 1);
	free(objects);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_is_left, table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_sets_come_when_needed_and_stay, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_adoption, table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_find_changes_nothing, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_culprit_fails_alone, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_dependents_fail_too, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_unread_mirror_takes_nothing, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_errors_name_what_is_wrong, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_incomplete_members_are_removed, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_a_table_that_is_gone_is_made_again,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_a_combination_without_its_rules_is_removed,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_group_is_made_again, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_constant_chains_are_written_anew, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_host_table, table_setup, table_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
