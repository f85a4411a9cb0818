// SPDX-License-Identifier: Apache-2.0
// Compiled objects as text, compared with tests/golden/sg_*.txt. After a wanted change:
//     REGENERATE_GOLDEN=1 ctest -R unit.sg_golden
// and read the difference.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "sg/internal.h"

enum { GOLDEN_SIZE_MAX = 1024 * 1024 };

static void compare_golden(const char *name, const struct buffer *text)
{
	char path[512];
	scoped_free char *golden = NULL;
	struct error err = {0};
	size_t length;

	snprintf(path, sizeof(path), PENSTOCK_GOLDEN "/sg_%s.txt", name);
	if (getenv("REGENERATE_GOLDEN")) {
		if (file_write_atomic(AT_FDCWD, path, buffer_text(text), text->length, 0644, &err) <
		    0)
			fail_msg("%s", err.message);
		return;
	}
	if (file_read(AT_FDCWD, path, GOLDEN_SIZE_MAX, &golden, &length, &err) < 0)
		fail_msg("%s", err.message);
	if (strcmp(golden, buffer_text(text)) != 0)
		fail_msg("%s differs; now it is:\n%s", path, buffer_text(text));
}

static void print_element(const struct sg_element *element, struct buffer *text)
{
	static const char *const kinds[] = {"ports", "icmp", "protocols"};
	char cidr[IPV4_CIDR_TEXT_SIZE];

	buffer_addf(text, "%s %s %u-%u %u-%u %s\n", kinds[element->kind],
		    ipv4_cidr_format(&element->peer, cidr), element->first[0], element->last[0],
		    element->first[1], element->last[1], element->rule_id);
}

// Rules as they were given, then the elements they make.
static void print_compiled(const char *title, const struct sg_rule *rules, size_t count,
			   struct buffer *text)
{
	scoped(arena_release) struct arena arena = {0};
	char line[SG_RULE_TEXT_SIZE];
	struct sg_compiled compiled;

	buffer_addf(text, "# %s\n", title);
	for (size_t i = 0; i < count; i++)
		buffer_addf(text, "rule %s: %s\n", rules[i].id, sg_rule_format(&rules[i], line));
	sg_compile(&(struct sg_rule_list){rules, count}, &arena, &compiled);
	for (size_t i = 0; i < compiled.elements.count; i++)
		print_element(&compiled.elements.elements[i], text);
	for (size_t i = 0; i < compiled.reference_count; i++)
		buffer_addf(text, "reference %s\n", compiled.references[i]->id);
	buffer_adds(text, "\n");
}

#define CIDR(a, b, c, d, length)                                                                   \
	{                                                                                          \
		(uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d), length                           \
	}

static const struct sg_rule overlapping[] = {
	{.id = "narrow",
	 .protocol = 6,
	 .from_port = 80,
	 .to_port = 90,
	 .cidr = CIDR(10, 1, 0, 0, 16)},
	{.id = "wide", .protocol = 6, .from_port = 85, .to_port = 86, .cidr = CIDR(10, 0, 0, 0, 8)},
	{.id = "same",
	 .protocol = 6,
	 .from_port = 70,
	 .to_port = 100,
	 .cidr = CIDR(10, 1, 0, 0, 16)},
	{.id = "covered",
	 .protocol = 6,
	 .from_port = 85,
	 .to_port = 85,
	 .cidr = CIDR(10, 1, 2, 3, 32)},
	{.id = "apart",
	 .protocol = 17,
	 .from_port = 80,
	 .to_port = 90,
	 .cidr = CIDR(10, 1, 0, 0, 16)},
	{.id = "anyone",
	 .protocol = 6,
	 .from_port = 0,
	 .to_port = 65535,
	 .cidr = CIDR(192, 168, 0, 0, 16)},
	{.id = "top",
	 .protocol = 17,
	 .from_port = 65535,
	 .to_port = 65535,
	 .cidr = CIDR(0, 0, 0, 0, 0)},
};

static const struct sg_rule icmp[] = {
	{.id = "ping", .protocol = 1, .from_port = 8, .to_port = 0, .cidr = CIDR(0, 0, 0, 0, 0)},
	{.id = "unreachable",
	 .protocol = 1,
	 .from_port = 3,
	 .to_port = 4,
	 .cidr = CIDR(0, 0, 0, 0, 0)},
	{.id = "types", .protocol = 1, .from_port = 3, .to_port = -1, .cidr = CIDR(10, 0, 0, 0, 8)},
	{.id = "all", .protocol = 1, .from_port = -1, .to_port = -1, .cidr = CIDR(10, 1, 0, 0, 16)},
};

static const struct sg_rule protocols[] = {
	{.id = "esp", .protocol = 50, .from_port = 5, .to_port = 4, .cidr = CIDR(0, 0, 0, 0, 0)},
	{.id = "all", .protocol = -1, .cidr = CIDR(10, 0, 0, 0, 8)},
	{.id = "again", .protocol = 132, .cidr = CIDR(10, 3, 0, 0, 16)},
	{.id = "group", .protocol = -1, .group_id = "sg-other"},
};

static void test_elements(void **state)
{
	scoped(buffer_release) struct buffer text = {0};

	(void)state;
	print_compiled("ports", overlapping, ARRAY_LENGTH(overlapping), &text);
	print_compiled("icmp", icmp, ARRAY_LENGTH(icmp), &text);
	print_compiled("protocols", protocols, ARRAY_LENGTH(protocols), &text);
	compare_golden("elements", &text);
}

// --- Batches: a mirror without a kernel behind it is enough to see what would be sent ---

static void mirror_close(struct sg_vpc *vpc)
{
	sg_vpc_clear(vpc);
}

static const struct sg_rule reference = {
	.id = "in/0", .protocol = 6, .from_port = 8080, .to_port = 8081, .group_id = "sg-lb"};
static const struct sg_rule from_client = {
	.id = "in/0", .protocol = 6, .from_port = 80, .to_port = 80, .cidr = CIDR(10, 9, 0, 0, 16)};
static const struct sg_rule ping = {
	.id = "in/1", .protocol = 1, .from_port = 8, .to_port = -1, .group_id = "sg-web"};
static const struct sg_rule everything = {
	.id = "out/0", .protocol = -1, .cidr = CIDR(0, 0, 0, 0, 0)};

static struct sg_member web_member(const char *const *groups, size_t count)
{
	return (struct sg_member){.eni_id = "eni-1",
				  .interface = "ps0123456789abc",
				  .mac = {{0x02, 0, 0, 0, 0, 1}},
				  .address = 0x0a000105,
				  .router = 0x0a000101,
				  .groups = groups,
				  .group_count = count};
}

static void add_step(struct buffer *text, const char *title, struct nft_batch **batch)
{
	buffer_addf(text, "# %s\n", title);
	nft_batch_print(*batch, text);
	buffer_adds(text, "\n");
	nft_batch_free(*batch);
	*batch = nft_batch_new();
}

static void test_table(void **state)
{
	char install[] = "blue", id[] = "prod";
	const struct sg_vpc vpc = {.install = install, .id = id, .connection_limit = 1000};
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	scoped(buffer_release) struct buffer text = {0};

	(void)state;
	sg_table_build(batch, &vpc);
	add_step(&text, "the constant table of a VPC", &batch);
	compare_golden("table", &text);
}

static void test_life_of_groups(void **state)
{
	static const char *const groups[] = {"sg-web", "sg-lb"};
	char install[] = "blue", id[] = "prod";
	scoped(mirror_close) struct sg_vpc vpc = {.install = install, .id = id};
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	scoped(buffer_release) struct buffer text = {0};
	struct error err = {0};
	struct sg_rule web_rules[] = {reference, ping};
	struct sg_group web = {.id = "sg-web", .rules = {{web_rules, 2}, {&everything, 1}}};
	struct sg_group balancer = {.id = "sg-lb", .rules = {{&from_client, 1}, {&everything, 1}}};
	struct sg_balancer lb = {"lb-1", 0x0a000120, groups + 1, 1};
	struct sg_member member = web_member(groups, 1);

	(void)state;
	assert_int_equal(sg_group_set(&vpc, batch, &web, &err), 0);
	add_step(&text, "a new group, which references one that is not set yet", &batch);
	assert_int_equal(sg_group_set(&vpc, batch, &balancer, &err), 0);
	add_step(&text, "the referenced group", &batch);
	assert_int_equal(sg_balancer_set(&vpc, batch, &lb, &err), 0);
	add_step(&text, "a balancer, first of its combination", &batch);
	assert_int_equal(sg_member_set(&vpc, batch, &member, &err), 0);
	add_step(&text, "a member, first of its combination", &batch);
	member.eni_id = "eni-2";
	member.interface = "psba9876543210f";
	member.address++;
	assert_int_equal(sg_member_set(&vpc, batch, &member, &err), 0);
	add_step(&text, "a second member: data elements only", &batch);
	assert_int_equal(sg_member_set(&vpc, batch, &member, &err), 0);
	assert_int_equal(sg_group_set(&vpc, batch, &web, &err), 0);
	add_step(&text, "both again: nothing", &batch);
	member.group_count = 2;
	assert_int_equal(sg_member_set(&vpc, batch, &member, &err), 0);
	add_step(&text, "the second member gets another group", &batch);
	web_rules[0] = from_client;
	web_rules[0].to_port = 81;
	assert_int_equal(sg_group_set(&vpc, batch, &web, &err), 0);
	add_step(&text, "a reference becomes a CIDR", &batch);
	web_rules[0].to_port = 82;
	assert_int_equal(sg_group_set(&vpc, batch, &web, &err), 0);
	add_step(&text, "a wider range, by way of an interim set", &batch);
	assert_int_equal(sg_group_remove(&vpc, batch, "sg-web", &err), -EBUSY);
	assert_int_equal(sg_member_remove(&vpc, batch, "eni-2", &err), 0);
	assert_int_equal(sg_member_remove(&vpc, batch, "eni-2", &err), 0);
	add_step(&text, "the second member goes, with its combination", &batch);
	assert_int_equal(sg_member_remove(&vpc, batch, "eni-1", &err), 0);
	assert_int_equal(sg_balancer_remove(&vpc, batch, "lb-1", &err), 0);
	assert_int_equal(sg_group_remove(&vpc, batch, "sg-web", &err), 0);
	assert_int_equal(sg_group_remove(&vpc, batch, "sg-lb", &err), 0);
	assert_int_equal(sg_group_remove(&vpc, batch, "sg-lb", &err), 0);
	add_step(&text, "everything goes", &batch);
	compare_golden("groups", &text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_life_of_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
