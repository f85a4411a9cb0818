// SPDX-License-Identifier: Apache-2.0
// What is derived from ids: MAC addresses, interface names, marks.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "netif/ipam.h"
#include "netif/mark.h"

static void test_mac(void **state)
{
	static const char *const bad[] = {"",
					  "02:70:73:00:00",
					  "02:70:73:00:00:01:02",
					  "02-70-73-00-00-01",
					  "02:70:73:00:00:0g",
					  "02:70:73:00:00:1",
					  "2:70:73:00:00:001",
					  "02:70:73:00:00:01 "};
	struct mac_address one = mac_from_eni("eni-1"), again = mac_from_eni("eni-1"),
			   other = mac_from_eni("eni-2"), parsed;
	char text[MAC_TEXT_SIZE];
	struct error err = {0};

	(void)state;
	assert_memory_equal(&one, &again, sizeof(one));
	assert_memory_not_equal(&one, &other, sizeof(one));
	for (int i = 0; i < 1000; i++) {
		char id[32];

		snprintf(id, sizeof(id), "eni-%d", i);
		one = mac_from_eni(id);
		assert_int_equal(one.bytes[0] & 3, 2); // local, unicast
		assert_int_equal(mac_parse(mac_format(&one, text), &parsed, &err), 0);
		assert_memory_equal(&parsed, &one, sizeof(one));
	}
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		assert_int_equal(mac_parse(bad[i], &parsed, &err), -EINVAL);
}

static void test_interface_name(void **state)
{
	char one[IFNAMSIZ], other[IFNAMSIZ];

	(void)state;
	eni_interface_name("blue", "eni-1", one);
	assert_int_equal(strlen(one), 15);
	assert_memory_equal(one, "ps", 2);
	assert_int_equal(strspn(one + 2, "0123456789abcdef"), 13);
	assert_string_equal(eni_interface_name("blue", "eni-1", other), one);
	assert_string_not_equal(eni_interface_name("green", "eni-1", other), one);
	assert_string_not_equal(eni_interface_name("blue", "eni-2", other), one);
}

static void test_mark_forms(void **state)
{
	const struct netif_attachment attachment = {.vpc = "prod", .interface = "eth1.7"};
	char alias[LINK_ALIAS_SIZE];
	struct error err = {0};
	struct mark mark;

	(void)state;
	mark = mark_parse(mark_format_eni("blue", "eni-1", alias));
	assert_string_equal(alias, "penstock blue eni-1");
	assert_true(mark_matches(&mark, MARK_ENI, "blue", "eni-1"));
	assert_false(mark_matches(&mark, MARK_ENI, "blue", "eni-2"));
	assert_false(mark_matches(&mark, MARK_ENI, "green", "eni-1"));
	mark = mark_parse(mark_format_eni("blue", "vpc", alias)); // an ENI of that name
	assert_true(mark_matches(&mark, MARK_ENI, "blue", "vpc"));
	mark = mark_parse(mark_format_vpc("blue", "prod", alias));
	assert_true(mark_matches(&mark, MARK_VPC, "blue", "prod"));
	assert_int_equal(mark_format_attachment("blue", &attachment, "", alias, &err), 0);
	assert_string_equal(alias, "penstock blue attachment prod eth1.7");
	mark = mark_parse(alias);
	assert_true(mark_matches(&mark, MARK_ATTACHMENT, "blue", "prod"));
	assert_string_equal(mark.interface, "eth1.7");
	assert_string_equal(mark.alias_before, "");
	assert_int_equal(
		mark_format_attachment("blue", &attachment, "up link was here", alias, &err), 0);
	mark = mark_parse(alias);
	assert_true(mark_matches(&mark, MARK_ATTACHMENT, "blue", "prod"));
	assert_string_equal(mark.alias_before, "up link was here");
}

static void test_mark_foreign(void **state)
{
	static const char *const foreign[] = {
		"",
		"uplink",
		"penstock",
		"penstock blue",
		"penstock  blue eni-1",
		"penstock blue eni-1 ",
		" penstock blue eni-1",
		"penstock Blue eni-1",
		"penstock blue ENI",
		"Penstock blue eni-1",
		"penstocks blue eni-1",
		"penstock blue subnet a",
		"penstock blue attachment prod",
		"penstock blue attachment prod a-name-that-is-too-long",
		"penstock blue attachment prod eth0 more",
		"penstock blue eni-1 was eth0",
		"penstock blue vpc prod was eth0"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(foreign); i++)
		assert_int_equal(mark_parse(foreign[i]).kind, MARK_NONE);
}

static void test_mark_too_long(void **state)
{
	const struct netif_attachment attachment = {.vpc = "prod", .interface = "eth1"};
	char before[LINK_ALIAS_SIZE], alias[LINK_ALIAS_SIZE];
	struct error err = {0};

	(void)state;
	memset(before, 'x', sizeof(before) - 1);
	before[sizeof(before) - 1] = '\0';
	assert_int_equal(mark_format_attachment("blue", &attachment, before, alias, &err),
			 -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mac),           cmocka_unit_test(test_interface_name),
		cmocka_unit_test(test_mark_forms),    cmocka_unit_test(test_mark_foreign),
		cmocka_unit_test(test_mark_too_long),
	};

	return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
