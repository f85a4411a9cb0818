// SPDX-License-Identifier: Apache-2.0
// The table of a VPC over time: adoption after a crash, refused batches. No interface is needed:
// the kernel takes names as they come.
#include "tests/netns/sg_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/scope.h"

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

// More errors than the socket has room for.
static void test_many_refusals_have_one_culprit(void **state)
{
	struct error err = {0};

	(void)state;
	nft_batch_set_owner(batch, "good");
	nft_counter_add(batch, "penstock", "good");
	nft_batch_set_owner(batch, "culprit");
	for (int i = 0; i < 4000; i++)
		nft_chain_delete(batch, "penstock", "nowhere");
	assert_ok(nft_batch_send(batch, netfilter, &err), &err);
	assert_int_equal(nft_batch_failure_count(batch), 1);
	assert_int_equal(nft_batch_failure(batch, "culprit")->code, ENOENT);
}

static void test_who_cannot_leave_keeps_nobody_from_joining(void **state)
{
	struct named_member members[3];
	struct error err = {0};

	(void)state;
	add_group("sg-web", &web);
	for (unsigned i = 0; i < 3; i++)
		name_member(&members[i], 5 + i, web_only, 1);
	add_member(&members[0]);
	add_member(&members[1]);
	assert_int_equal(commit(), 0);
	take_from_map(members[0].interface);
	remove_member("eni-5");
	add_member(&members[2]);
	assert_ok(sg_vpc_commit(vpc, batch, netfilter, &err), &err);
	assert_non_null(nft_batch_failure(batch, "eni eni-5"));
	assert_null(nft_batch_failure(batch, "eni eni-7"));
	assert_true(sg_member_stands(vpc, &members[1].member));
	assert_true(sg_member_stands(vpc, &members[2].member));
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
		cmocka_unit_test_setup_teardown(test_many_refusals_have_one_culprit, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_who_cannot_leave_keeps_nobody_from_joining,
						table_setup, table_teardown),
		cmocka_unit_test_setup_teardown(test_errors_name_what_is_wrong, table_setup,
						table_teardown),
		cmocka_unit_test_setup_teardown(test_host_table, table_setup, table_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
