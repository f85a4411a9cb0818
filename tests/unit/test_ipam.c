// SPDX-License-Identifier: Apache-2.0
// IPv4 text and the leases of a subnet.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "netif/ipam.h"

#define ADDRESS(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static struct ipam *new_ipam(const char *block)
{
	struct ipv4_cidr cidr;
	struct ipam *ipam;
	struct error err = {0};

	assert_int_equal(ipv4_subnet_parse(block, &cidr, &err), 0);
	assert_int_equal(ipam_new("web-a", cidr, &ipam, &err), 0);
	return ipam;
}

static uint32_t lease(struct ipam *ipam, int64_t now_ms)
{
	struct error err = {0};
	uint32_t address = 0;

	assert_int_equal(ipam_lease(ipam, now_ms, &address, &err), 0);
	assert_true(ipam_is_leased(ipam, address));
	return address;
}

static void assert_counts(struct ipam *ipam, int64_t now_ms, uint32_t used, uint32_t cooling)
{
	struct ipam_counts counts = ipam_count(ipam, now_ms);

	assert_int_equal(counts.used, used);
	assert_int_equal(counts.cooling, cooling);
	assert_int_equal(counts.reserved, 5);
	assert_int_equal(counts.total,
			 counts.used + counts.cooling + counts.reserved + counts.free);
}

// --- IPv4 text ---

static void test_ipv4_text(void **state)
{
	static const char *const good[] = {"0.0.0.0", "10.0.1.5", "255.255.255.255", "1.20.255.0"};
	static const char *const bad[] = {"",          "10.0.1",      "10.0.1.256", "10.0.1.05",
					  "10.0.1.5 ", " 10.0.1.5",   "010.0.1.5",  "10.0.1.5.6",
					  "10.0.1.-5", "0x0a.0.1.5",  "167772421",  "10..1.5",
					  "a.b.c.d",   "10.0.1.5/24", "::1",        "+1.2.3.4"};
	char text[IPV4_TEXT_SIZE];
	struct error err = {0};
	uint32_t address = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
		assert_int_equal(ipv4_parse(good[i], &address, &err), 0);
		assert_string_equal(ipv4_format(address, text), good[i]);
	}
	assert_int_equal(ipv4_parse("10.0.1.5", &address, &err), 0);
	assert_int_equal(address, 0x0a000105);
	address = 77;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		assert_int_equal(ipv4_parse(bad[i], &address, &err), -EINVAL);
		assert_non_null(strstr(err.message, "write it like 10.0.1.5"));
		assert_int_equal(address, 77);
	}
}

static void test_cidr_good(void **state)
{
	static const char *const good[] = {"0.0.0.0/0",       "10.0.0.0/8",  "10.0.1.0/24",
					   "192.168.1.16/28", "10.1.2.3/32", "128.0.0.0/1"};
	char text[IPV4_CIDR_TEXT_SIZE];
	struct error err = {0};
	struct ipv4_cidr cidr;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
		assert_int_equal(ipv4_cidr_parse(good[i], &cidr, &err), 0);
		assert_string_equal(ipv4_cidr_format(&cidr, text), good[i]);
	}
}

static void test_cidr_bad(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"10.0.1.7/24", "10.0.1.7/24 has host bits set: 10.0.1.0/24 would be right"},
		{"10.0.1.0/23", "10.0.1.0/23 has host bits set: 10.0.0.0/23 would be right"},
		{"10.0.0.1/0", "10.0.0.1/0 has host bits set: 0.0.0.0/0 would be right"},
		{"10.0.1.0", "write it like 10.0.1.0/24"},
		{"10.0.1.0/", "write it like"},
		{"10.0.1.0/33", "write it like"},
		{"10.0.1.0/024", "write it like"},
		{"10.0.1.0/-1", "write it like"},
		{"10.0.1.0/+8", "write it like"},
		{"10.0.1.0/24 ", "write it like"},
		{"10.0.1.0/2 4", "write it like"},
		{"10.0.1/24", "write it like"},
		{"10.00.1.0/24", "write it like"},
		{"/24", "write it like"},
		{"", "write it like"},
		{"2001:db8::/32", "write it like"},
		{"255.255.255.255.255.255/24", "write it like"},
		{"10.0.1.0/99999999999999999999", "write it like"},
	};
	struct ipv4_cidr cidr;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		struct error err = {0};

		assert_int_equal(ipv4_cidr_parse(bad[i].text, &cidr, &err), -EINVAL);
		assert_non_null(strstr(err.message, bad[i].message));
	}
}

static void test_subnet_sizes(void **state)
{
	static const char *const bad[] = {"10.0.0.0/15", "10.0.1.0/29", "0.0.0.0/0", "10.0.1.1/32"};
	struct error err = {0};
	struct ipv4_cidr cidr;

	(void)state;
	assert_int_equal(ipv4_subnet_parse("10.0.0.0/16", &cidr, &err), 0);
	assert_int_equal(ipv4_subnet_parse("10.0.0.240/28", &cidr, &err), 0);
	assert_int_equal(ipv4_subnet_router(&cidr), ADDRESS(10, 0, 0, 241));
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		assert_int_equal(ipv4_subnet_parse(bad[i], &cidr, &err), -EINVAL);
		assert_non_null(strstr(err.message, "from /16 to /28"));
	}
}

static void test_cidr_relations(void **state)
{
	const struct ipv4_cidr all = {0, 0}, wide = {ADDRESS(10, 0, 0, 0), 16},
			       narrow = {ADDRESS(10, 0, 1, 0), 24},
			       other = {ADDRESS(10, 0, 2, 0), 24},
			       host = {ADDRESS(10, 0, 1, 255), 32};

	(void)state;
	assert_true(ipv4_cidr_contains(&all, UINT32_MAX));
	assert_true(ipv4_cidr_contains(&narrow, ADDRESS(10, 0, 1, 255)));
	assert_false(ipv4_cidr_contains(&narrow, ADDRESS(10, 0, 2, 0)));
	assert_true(ipv4_cidr_covers(&wide, &narrow));
	assert_false(ipv4_cidr_covers(&narrow, &wide));
	assert_true(ipv4_cidr_covers(&narrow, &host));
	assert_true(ipv4_cidr_overlaps(&narrow, &wide));
	assert_false(ipv4_cidr_overlaps(&narrow, &other));
	assert_int_equal(ipv4_mask(0), 0);
	assert_int_equal(ipv4_mask(1), 0x80000000);
	assert_int_equal(ipv4_mask(32), UINT32_MAX);
}

static void test_interface_address(void **state)
{
	struct error err = {0};
	uint32_t address;
	unsigned prefix;

	(void)state;
	assert_int_equal(ipv4_interface_parse("10.0.1.7/24", &address, &prefix, &err), 0);
	assert_int_equal(address, ADDRESS(10, 0, 1, 7));
	assert_int_equal(prefix, 24);
	assert_int_equal(ipv4_interface_parse("10.0.1.7", &address, &prefix, &err), -EINVAL);
}

// --- Leases ---

static void test_lease_never_reserved(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.16/28");
	struct error err = {0};
	uint32_t address;

	(void)state;
	assert_counts(ipam, 0, 0, 0);
	for (uint32_t i = 0; i < 11; i++)
		assert_int_equal(lease(ipam, 0), ADDRESS(10, 0, 1, 20 + i)); // .20 to .30
	assert_counts(ipam, 0, 11, 0);
	address = 77;
	assert_int_equal(ipam_lease(ipam, 0, &address, &err), -ENOSPC);
	assert_int_equal(address, 77);
	assert_string_equal(err.message,
			    "subnet web-a: no free address: 11 used, 5 reserved, 0 cooling");
	ipam_free(ipam);
}

static void test_exhausted_while_cooling(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	struct error err = {0};
	uint32_t address;

	(void)state;
	for (int i = 0; i < 11; i++)
		lease(ipam, 1000);
	for (unsigned i = 0; i < 3; i++)
		assert_true(ipam_release(ipam, ADDRESS(10, 0, 1, 6 + i), 61000 + i));
	assert_int_equal(ipam_lease(ipam, 60999, &address, &err), -ENOSPC);
	assert_string_equal(err.message,
			    "subnet web-a: no free address: 8 used, 5 reserved, 3 cooling");
	// Each comes back at its own time, and not before.
	assert_int_equal(lease(ipam, 61000), ADDRESS(10, 0, 1, 6));
	assert_int_equal(ipam_lease(ipam, 61000, &address, &err), -ENOSPC);
	assert_counts(ipam, 61002, 9, 0);
	assert_int_equal(lease(ipam, 61002), ADDRESS(10, 0, 1, 7));
	assert_int_equal(lease(ipam, 61002), ADDRESS(10, 0, 1, 8));
	ipam_free(ipam);
}

static void test_recently_released_comes_last(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	uint32_t first = lease(ipam, 0);

	(void)state;
	assert_true(ipam_release(ipam, first, 0)); // no cool-down at all
	for (int i = 0; i < 10; i++)
		assert_int_not_equal(lease(ipam, 1), first);
	assert_int_equal(lease(ipam, 1), first);
	ipam_free(ipam);
}

static void test_cooling_order(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/24");
	uint32_t leased[200];

	(void)state;
	for (size_t i = 0; i < 200; i++)
		leased[i] = lease(ipam, 0);
	// Released with times in a scattered order: the heap must sort them.
	for (size_t i = 0; i < 200; i++)
		assert_true(ipam_release(ipam, leased[i], 1000 + (int64_t)(i * 77 % 200)));
	for (uint32_t ended = 0; ended <= 200; ended++)
		assert_counts(ipam, 999 + ended, 0, 200 - ended);
	ipam_free(ipam);
}

static void test_a_returned_lease_may_be_the_next(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");

	(void)state;
	for (int i = 0; i < 20; i++) {
		uint32_t first = lease(ipam, i);

		ipam_return(ipam, first);
		assert_int_equal(lease(ipam, i), first);
		assert_true(ipam_release(ipam, first, 0)); // really had: others come first
	}
	ipam_free(ipam);
}

static void test_release_is_strict(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	uint32_t address = lease(ipam, 0);

	(void)state;
	assert_false(ipam_release(ipam, address + 1, 10));           // free
	assert_false(ipam_release(ipam, ADDRESS(10, 0, 1, 0), 10));  // reserved
	assert_false(ipam_release(ipam, ADDRESS(10, 0, 1, 15), 10)); // reserved
	assert_false(ipam_release(ipam, ADDRESS(10, 0, 1, 16), 10)); // foreign
	assert_false(ipam_release(ipam, ADDRESS(10, 0, 0, 255), 10));
	assert_true(ipam_release(ipam, address, 10));
	assert_false(ipam_release(ipam, address, 10)); // twice
	assert_false(ipam_is_leased(ipam, address));
	assert_counts(ipam, 0, 0, 1);
	ipam_free(ipam);
}

static void test_adopt(void **state)
{
	static const struct {
		uint32_t address;
		int code;
		const char *message;
	} bad[] = {
		{ADDRESS(10, 0, 1, 16), ERANGE, "subnet web-a: 10.0.1.16 is not in 10.0.1.0/28"},
		{ADDRESS(10, 0, 0, 255), ERANGE, "is not in"},
		{ADDRESS(10, 0, 1, 0), EPERM, "10.0.1.0 is reserved"},
		{ADDRESS(10, 0, 1, 3), EPERM, "is reserved"},
		{ADDRESS(10, 0, 1, 15), EPERM, "is reserved"},
		{ADDRESS(10, 0, 1, 9), EADDRINUSE, "subnet web-a: 10.0.1.9 is in use"},
	};
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	struct error err = {0};

	(void)state;
	assert_int_equal(ipam_adopt(ipam, ADDRESS(10, 0, 1, 9), &err), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		assert_int_equal(ipam_adopt(ipam, bad[i].address, &err), -bad[i].code);
		assert_non_null(strstr(err.message, bad[i].message));
	}
	assert_counts(ipam, 0, 1, 0);
	for (int i = 0; i < 10; i++)
		assert_int_not_equal(lease(ipam, 0), ADDRESS(10, 0, 1, 9));
	assert_counts(ipam, 0, 11, 0);
	ipam_free(ipam);
}

static void test_adopt_ends_cooling(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	struct error err = {0};

	(void)state;
	for (unsigned i = 4; i < 9; i++)
		assert_true(ipam_cool(ipam, ADDRESS(10, 0, 1, i), 100 + i));
	assert_int_equal(ipam_adopt(ipam, ADDRESS(10, 0, 1, 6), &err), 0);
	assert_counts(ipam, 0, 1, 4);
	// Its old cool-down does not end the new lease, nor shorten the next cool-down.
	assert_counts(ipam, 1000, 1, 0);
	assert_true(ipam_is_leased(ipam, ADDRESS(10, 0, 1, 6)));
	assert_true(ipam_release(ipam, ADDRESS(10, 0, 1, 6), 2000));
	assert_counts(ipam, 1999, 0, 1);
	assert_counts(ipam, 2000, 0, 0);
	ipam_free(ipam);
}

static void test_the_longest_rested_comes_before_none(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	struct error err = {0};
	uint32_t address = 77;

	(void)state;
	for (int i = 0; i < 11; i++)
		lease(ipam, 0);
	assert_true(ipam_release(ipam, ADDRESS(10, 0, 1, 9), 300));
	assert_true(ipam_release(ipam, ADDRESS(10, 0, 1, 5), 200));
	assert_int_equal(ipam_lease_resting(ipam, 199, &address, &err), -ENOSPC);
	assert_int_equal(address, 77);
	assert_string_equal(err.message,
			    "subnet web-a: no free address: 9 used, 5 reserved, 2 cooling");
	assert_int_equal(ipam_lease_resting(ipam, 200, &address, &err), 0);
	assert_int_equal(address, ADDRESS(10, 0, 1, 5));
	assert_int_equal(ipam_lease_resting(ipam, 200, &address, &err), -ENOSPC);
	assert_counts(ipam, 0, 10, 1);
	ipam_free(ipam);
}

// Who counts may be ahead of who leases.
static void test_counting_frees_nothing(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	struct error err = {0};
	uint32_t address = 0;

	(void)state;
	for (int i = 0; i < 11; i++)
		address = lease(ipam, 0);
	assert_true(ipam_release(ipam, address, 100));
	assert_counts(ipam, 100, 10, 0);
	assert_counts(ipam, 99, 10, 1);
	assert_int_equal(ipam_lease(ipam, 99, &address, &err), -ENOSPC);
	ipam_free(ipam);
}

static void test_cool(void **state)
{
	struct ipam *ipam = new_ipam("10.0.1.0/28");
	struct error err = {0};

	(void)state;
	assert_false(ipam_cool(ipam, ADDRESS(10, 0, 1, 3), 100));
	assert_false(ipam_cool(ipam, ADDRESS(10, 0, 1, 15), 100));
	assert_false(ipam_cool(ipam, ADDRESS(10, 0, 2, 5), 100));
	assert_int_equal(ipam_adopt(ipam, ADDRESS(10, 0, 1, 5), &err), 0);
	assert_false(ipam_cool(ipam, ADDRESS(10, 0, 1, 5), 100));
	assert_true(ipam_cool(ipam, ADDRESS(10, 0, 1, 6), 100));
	assert_true(ipam_cool(ipam, ADDRESS(10, 0, 1, 6), 200)); // the later word counts
	assert_counts(ipam, 150, 1, 1);
	assert_counts(ipam, 200, 1, 0);
	ipam_free(ipam);
}

static void test_largest_subnet(void **state)
{
	struct ipam *ipam = new_ipam("10.7.0.0/16");
	struct error err = {0};
	uint32_t address;

	(void)state;
	for (uint32_t i = 0; i < 65536 - 5; i++)
		assert_int_equal(lease(ipam, 0), ADDRESS(10, 7, 0, 4) + i);
	assert_int_equal(ipam_lease(ipam, 0, &address, &err), -ENOSPC);
	assert_true(ipam_release(ipam, ADDRESS(10, 7, 200, 1), 5));
	assert_int_equal(lease(ipam, 5), ADDRESS(10, 7, 200, 1));
	ipam_free(ipam);
}

// Many random operations against an obvious model.
static void test_against_model(void **state)
{
	enum { SIZE = 32, STEPS = 20000 };
	struct ipam *ipam = new_ipam("10.0.1.32/27");
	int64_t until[SIZE] = {0}; // -1: leased; else free from then on
	uint32_t seed = 1;

	(void)state;
	for (int64_t now = 1; now < STEPS; now++) {
		uint32_t used = 0, cooling = 0, address, offset;
		struct error err = {0};

		seed = seed * 1664525 + 1013904223;
		offset = seed >> 8 & (SIZE - 1);
		switch (seed >> 24 & 3) {
		case 0:
		case 1:
			if (ipam_lease(ipam, now, &address, &err) == 0) {
				assert_in_range(address - ADDRESS(10, 0, 1, 32), 4, 30);
				assert_in_range(until[address - ADDRESS(10, 0, 1, 32)], 0, now);
				until[address - ADDRESS(10, 0, 1, 32)] = -1;
			}
			break;
		case 2:
			if (ipam_release(ipam, ADDRESS(10, 0, 1, 32) + offset, now + seed % 40)) {
				assert_int_equal(until[offset], -1);
				until[offset] = now + seed % 40;
			}
			break;
		default:
			if (ipam_adopt(ipam, ADDRESS(10, 0, 1, 32) + offset, &err) == 0)
				until[offset] = -1;
		}
		for (offset = 0; offset < SIZE; offset++) {
			used += until[offset] == -1;
			cooling += until[offset] > now;
		}
		assert_counts(ipam, now, used, cooling);
	}
	ipam_free(ipam);
}

static void test_wrong_block(void **state)
{
	const struct ipv4_cidr bits = {ADDRESS(10, 0, 1, 1), 24}, tiny = {ADDRESS(10, 0, 1, 0), 29};
	struct error err = {0};
	struct ipam *ipam;

	(void)state;
	assert_int_equal(ipam_new("web-a", bits, &ipam, &err), -EINVAL);
	assert_non_null(strstr(err.message, "subnet web-a: 10.0.1.1/24 has host bits set"));
	assert_int_equal(ipam_new("web-a", tiny, &ipam, &err), -EINVAL);
	ipam_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4_text),
		cmocka_unit_test(test_cidr_good),
		cmocka_unit_test(test_cidr_bad),
		cmocka_unit_test(test_subnet_sizes),
		cmocka_unit_test(test_cidr_relations),
		cmocka_unit_test(test_interface_address),
		cmocka_unit_test(test_lease_never_reserved),
		cmocka_unit_test(test_exhausted_while_cooling),
		cmocka_unit_test(test_recently_released_comes_last),
		cmocka_unit_test(test_a_returned_lease_may_be_the_next),
		cmocka_unit_test(test_cooling_order),
		cmocka_unit_test(test_release_is_strict),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_adopt_ends_cooling),
		cmocka_unit_test(test_the_longest_rested_comes_before_none),
		cmocka_unit_test(test_counting_frees_nothing),
		cmocka_unit_test(test_cool),
		cmocka_unit_test(test_largest_subnet),
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_wrong_block),
	};

	return cmocka_run_group_tests_name("ipam", tests, NULL, NULL);
}
