// SPDX-License-Identifier: Apache-2.0
// Security groups without a kernel: checks, compilation against evaluation.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/scope.h"
#include "sg/sg.h"

// --- Checks ---

static struct sg_rule good_rule(void)
{
	return (struct sg_rule){.id = "r", .protocol = 6, .from_port = 80, .to_port = 90};
}

struct check_case {
	struct sg_rule rule;
	const char *message; // NULL: good
};

static void test_rule_check(void **state)
{
	static char long_text[SG_DESCRIPTION_MAX + 2];
	const struct check_case cases[] = {
		{{.id = "r", .protocol = -1}, NULL},
		{{.id = "r", .protocol = 50, .from_port = 7, .to_port = 3}, NULL},
		{{.id = "r", .protocol = 6, .from_port = 0, .to_port = 65535}, NULL},
		{{.id = "r", .protocol = 1, .from_port = -1, .to_port = -1}, NULL},
		{{.id = "r", .protocol = 1, .from_port = 8, .to_port = -1}, NULL},
		{{.id = "r", .protocol = -1, .cidr = {0x0a000000, 8}}, NULL},
		{{.id = "r", .protocol = -1, .group_id = "sg-1"}, NULL},
		{{.id = "r", .protocol = -1, .description = "a-b_c (d) /#,@[]+=;{}!$*"}, NULL},
		{{.id = "", .protocol = -1}, "rule id"},
		{{.id = "r", .protocol = 256}, "256 is no protocol"},
		{{.id = "r", .protocol = -2}, "-2 is no protocol"},
		{{.id = "r", .protocol = 6, .from_port = -1, .to_port = -1}, "ports -1--1"},
		{{.id = "r", .protocol = 17, .from_port = 1, .to_port = 65536}, "0-65535"},
		{{.id = "r", .protocol = 6, .from_port = 9, .to_port = 8}, "greater than the last"},
		{{.id = "r", .protocol = 1, .from_port = 256, .to_port = 0}, "icmp type 256"},
		{{.id = "r", .protocol = 1, .from_port = 3, .to_port = 256}, "icmp code 256"},
		{{.id = "r", .protocol = 1, .from_port = -1, .to_port = 3}, "must be -1 too"},
		{{.id = "r", .protocol = -1, .cidr = {0x0a000001, 8}}, "10.0.0.0/8 would be right"},
		{{.id = "r", .protocol = -1, .cidr = {0, 33}}, "prefix length 33"},
		{{.id = "r", .protocol = -1, .group_id = "No"}, "no group id"},
		{{.id = "r", .protocol = -1, .description = "tab\t"}, "other characters"},
		{{.id = "r", .protocol = -1, .description = long_text}, "longer than 255"},
	};

	(void)state;
	memset(long_text, 'x', sizeof(long_text) - 1);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct error err = {0};
		int status = sg_rule_check(&cases[i].rule, &err);

		if (!cases[i].message) {
			assert_int_equal(status, 0);
			continue;
		}
		assert_int_equal(status, -EINVAL);
		if (!strstr(err.message, cases[i].message))
			fail_msg("case %zu: %s", i, err.message);
	}
}

static void test_group_check(void **state)
{
	struct sg_rule rules[SG_RULES_MAX + 1], same[2] = {good_rule(), good_rule()};
	char ids[SG_RULES_MAX + 1][8];
	struct sg_group group = {.id = "sg-1", .rules = {{rules, SG_RULES_MAX}, {NULL, 0}}};
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(rules); i++) {
		snprintf(ids[i], sizeof(ids[i]), "r%zu", i);
		rules[i] = good_rule();
		rules[i].id = ids[i];
	}
	assert_int_equal(sg_group_check(&group, &err), 0);
	group.rules[SG_INGRESS].count++;
	assert_int_equal(sg_group_check(&group, &err), -EINVAL);
	assert_non_null(strstr(err.message, "61 ingress rules"));
	group.rules[SG_INGRESS] = (struct sg_rule_list){NULL, 0};
	group.rules[SG_EGRESS] = (struct sg_rule_list){same, 2};
	assert_int_equal(sg_group_check(&group, &err), -EINVAL);
	assert_non_null(strstr(err.message, "egress rule 1: its id r is that of rule 0 too"));
	same[1].id = "other";
	same[1].to_port = 70;
	assert_int_equal(sg_group_check(&group, &err), -EINVAL);
	assert_non_null(strstr(err.message, "egress rule 1: ports 80-70"));
	group.id = "Not An Id";
	assert_int_equal(sg_group_check(&group, &err), -EINVAL);
}

static void test_protocol_parse(void **state)
{
	static const struct {
		const char *text;
		int number;
	} cases[] = {{"-1", -1},  {"all", -1}, {"tcp", 6},  {"udp", 17},
		     {"icmp", 1}, {"0", 0},    {"255", 255}};
	static const char *const bad[] = {"", "256", "TCP", "6 ", "-2", "icmp6", "06"};
	struct error err = {0};
	int number;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(sg_protocol_parse(cases[i].text, &number, &err), 0);
		assert_int_equal(number, cases[i].number);
	}
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		assert_int_equal(sg_protocol_parse(bad[i], &number, &err), -EINVAL);
}

static void test_rule_format(void **state)
{
	char text[SG_RULE_TEXT_SIZE];
	struct sg_rule rule = {
		.protocol = 6, .from_port = 80, .to_port = 90, .cidr = {0x0a000000, 8}};

	(void)state;
	assert_string_equal(sg_rule_format(&rule, text), "tcp 80-90 10.0.0.0/8");
	rule.to_port = 80;
	rule.group_id = "sg-web";
	assert_string_equal(sg_rule_format(&rule, text), "tcp 80 sg-web");
	rule.protocol = 1;
	rule.from_port = 8;
	rule.to_port = -1;
	assert_string_equal(sg_rule_format(&rule, text), "icmp 8/-1 sg-web");
	rule.protocol = -1;
	assert_string_equal(sg_rule_format(&rule, text), "all sg-web");
	rule.protocol = 50;
	assert_string_equal(sg_rule_format(&rule, text), "50 sg-web");
}

// --- Compilation against evaluation: random rules, random packets ---

// xorshift: the same sequence on every machine, so a failure can be seen again.
static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16) % limit;
}

// Small worlds, so that rules overlap and packets hit their edges.
static int random_protocol(void)
{
	static const int protocols[] = {6, 6, 6, 17, 17, 1, 1, -1, 50, 132, 0, 255};

	return protocols[random_below(ARRAY_LENGTH(protocols))];
}

static uint32_t random_address(void)
{
	return 0x0a000000 | random_below(2) << 16 | random_below(2) << 8 | random_below(8);
}

static void random_range(struct sg_rule *rule)
{
	if (rule->protocol == 1) {
		rule->from_port = (int)random_below(5) - 1;
		rule->to_port = rule->from_port < 0 ? -1 : (int)random_below(5) - 1;
		if (random_below(8) == 0)
			rule->from_port = 255;
	} else if (rule->protocol == 6 || rule->protocol == 17) {
		rule->from_port = (int)random_below(12);
		rule->to_port = rule->from_port + (int)random_below(8);
		if (random_below(8) == 0)
			rule->to_port = 65535;
	}
}

static const char *const group_ids[] = {"sg-a", "sg-b", "sg-c"};

static struct sg_rule random_rule(size_t number, char id[8])
{
	static const unsigned prefixes[] = {0, 8, 16, 24, 29, 31, 32};
	struct sg_rule rule = {.protocol = random_protocol()};

	snprintf(id, 8, "r%zu", number);
	rule.id = id;
	random_range(&rule);
	if (random_below(5) == 0) {
		rule.group_id = group_ids[random_below(ARRAY_LENGTH(group_ids))];
		return rule;
	}
	rule.cidr.prefix = prefixes[random_below(ARRAY_LENGTH(prefixes))];
	rule.cidr.base = random_address() & ipv4_mask(rule.cidr.prefix);
	return rule;
}

static struct sg_packet random_packet(void)
{
	static const uint8_t protocols[] = {6, 6, 17, 1, 1, 50, 132, 0, 255, 47};
	static const uint16_t ports[] = {0, 65535, 65534, 1024};
	struct sg_packet packet = {.peer = random_address(),
				   .protocol = protocols[random_below(ARRAY_LENGTH(protocols))]};

	packet.port = random_below(6) ? (uint16_t)random_below(20) : ports[random_below(4)];
	packet.icmp_type = random_below(6) ? (uint8_t)random_below(5) : 255;
	packet.icmp_code = random_below(6) ? (uint8_t)random_below(5) : 255;
	return packet;
}

static bool number_within(const struct sg_element *element, int i, unsigned number)
{
	return element->first[i] <= number && number <= element->last[i];
}

// What the kernel's three lookups do.
static bool element_matches(const struct sg_element *element, const struct sg_packet *packet)
{
	if (!ipv4_cidr_contains(&element->peer, packet->peer))
		return false;
	switch (element->kind) {
	case SG_KIND_PORTS:
		return number_within(element, 0, packet->protocol) &&
		       number_within(element, 1, packet->port);
	case SG_KIND_ICMP:
		return packet->protocol == 1 && number_within(element, 0, packet->icmp_type) &&
		       number_within(element, 1, packet->icmp_code);
	default:
		return number_within(element, 0, packet->protocol);
	}
}

static const char *look_up(const struct sg_compiled *compiled, enum sg_kind kind,
			   const struct sg_packet *packet)
{
	const char *found = NULL;

	for (size_t i = 0; i < compiled->elements.count; i++) {
		const struct sg_element *element = &compiled->elements.elements[i];

		if (element->kind != kind || !element_matches(element, packet))
			continue;
		assert_null(found); // no two elements overlap
		found = element->rule_id;
	}
	return found;
}

static bool reference_matches(const struct sg_rule *rule, const struct sg_membership *members,
			      size_t count, const struct sg_packet *packet)
{
	// One rule alone: its own evaluation is the match.
	const struct sg_group group = {.id = "x", .rules = {{rule, 1}}};
	const struct sg_group *groups[] = {&group};

	return sg_evaluate(groups, 1, members, count, SG_INGRESS, packet).allowed;
}

static const char *decide_compiled(const struct sg_compiled *compiled,
				   const struct sg_membership *members, size_t count,
				   const struct sg_packet *packet)
{
	for (int kind = 0; kind < SG_KIND_COUNT; kind++) {
		const char *found = look_up(compiled, (enum sg_kind)kind, packet);

		if (found)
			return found;
	}
	for (size_t i = 0; i < compiled->reference_count; i++)
		if (reference_matches(compiled->references[i], members, count, packet))
			return compiled->references[i]->id;
	return NULL;
}

static void check_world(uint64_t seed)
{
	scoped(arena_release) struct arena arena = {0};
	struct sg_rule rules[SG_RULES_MAX];
	struct sg_membership members[6];
	char ids[SG_RULES_MAX][8];
	struct sg_group group = {.id = "sg-x", .rules = {{rules, 0}}};
	const struct sg_group *groups[] = {&group};
	struct sg_compiled compiled;

	random_state = seed * 0x9e3779b97f4a7c15 + 1;
	group.rules[SG_INGRESS].count = random_below(SG_RULES_MAX + 1);
	for (size_t i = 0; i < group.rules[SG_INGRESS].count; i++)
		rules[i] = random_rule(i, ids[i]);
	for (size_t i = 0; i < ARRAY_LENGTH(members); i++)
		members[i] = (struct sg_membership){group_ids[random_below(3)], random_address()};
	sg_compile(&group.rules[SG_INGRESS], &arena, &compiled);
	for (int i = 0; i < 200; i++) {
		struct sg_packet packet = random_packet();
		struct sg_decision decision =
			sg_evaluate(groups, 1, members, ARRAY_LENGTH(members), SG_INGRESS, &packet);
		const char *rule_id =
			decide_compiled(&compiled, members, ARRAY_LENGTH(members), &packet);

		if (decision.allowed != (rule_id != NULL) ||
		    (rule_id && strcmp(rule_id, decision.rule_id) != 0))
			fail_msg("seed %llu packet %d: evaluated %s, compiled %s",
				 (unsigned long long)seed, i, decision.rule_id ?: "denied",
				 rule_id ?: "denied");
	}
}

static void test_compiler_agrees_with_evaluator(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2000; seed++)
		check_world(seed);
}

static void test_evaluate_unites_groups(void **state)
{
	const struct sg_rule web = {.id = "w", .protocol = 6, .from_port = 80, .to_port = 80};
	const struct sg_rule all = {.id = "a", .protocol = -1, .group_id = "sg-one"};
	const struct sg_group one = {.id = "sg-one", .rules = {{&web, 1}, {NULL, 0}}};
	const struct sg_group two = {.id = "sg-two", .rules = {{&all, 1}, {NULL, 0}}};
	const struct sg_group *groups[] = {&one, &two};
	const struct sg_membership member = {"sg-one", 0x0a000005};
	struct sg_packet packet = {.peer = 0x0a000005, .protocol = 6, .port = 80};
	struct sg_decision decision = sg_evaluate(groups, 2, &member, 1, SG_INGRESS, &packet);

	(void)state;
	assert_true(decision.allowed);
	assert_string_equal(decision.group_id, "sg-one");
	packet.port = 81;
	decision = sg_evaluate(groups, 2, &member, 1, SG_INGRESS, &packet);
	assert_true(decision.allowed);
	assert_string_equal(decision.group_id, "sg-two");
	packet.peer++;
	assert_false(sg_evaluate(groups, 2, &member, 1, SG_INGRESS, &packet).allowed);
	packet.peer--;
	assert_false(sg_evaluate(groups, 2, &member, 1, SG_EGRESS, &packet).allowed);
	assert_false(sg_evaluate(groups, 0, &member, 1, SG_INGRESS, &packet).allowed);
}

// --- Differences ---

static bool element_is_in(const struct sg_element *element, const struct sg_element_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct sg_element *other = &list->elements[i];

		if (element->kind == other->kind && element->peer.base == other->peer.base &&
		    element->peer.prefix == other->peer.prefix &&
		    memcmp(element->first, other->first, sizeof(element->first)) == 0 &&
		    memcmp(element->last, other->last, sizeof(element->last)) == 0 &&
		    strcmp(element->rule_id, other->rule_id) == 0)
			return true;
	}
	return false;
}

static void test_difference(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		scoped(arena_release) struct arena arena = {0};
		struct sg_rule rules[40];
		char ids[40][8];
		struct sg_compiled from, to;
		struct sg_element_list removed, added;

		random_state = seed;
		for (size_t i = 0; i < ARRAY_LENGTH(rules); i++)
			rules[i] = random_rule(i, ids[i]);
		sg_compile(&(struct sg_rule_list){rules, 30}, &arena, &from);
		sg_compile(&(struct sg_rule_list){rules + 10, 30}, &arena, &to);
		sg_element_difference(&from.elements, &to.elements, &arena, &removed, &added);
		assert_int_equal(from.elements.count - removed.count + added.count,
				 to.elements.count);
		for (size_t i = 0; i < removed.count; i++) {
			assert_true(element_is_in(&removed.elements[i], &from.elements));
			assert_false(element_is_in(&removed.elements[i], &to.elements));
		}
		for (size_t i = 0; i < added.count; i++) {
			assert_true(element_is_in(&added.elements[i], &to.elements));
			assert_false(element_is_in(&added.elements[i], &from.elements));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_check),
		cmocka_unit_test(test_group_check),
		cmocka_unit_test(test_protocol_parse),
		cmocka_unit_test(test_rule_format),
		cmocka_unit_test(test_compiler_agrees_with_evaluator),
		cmocka_unit_test(test_evaluate_unites_groups),
		cmocka_unit_test(test_difference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
