// SPDX-License-Identifier: Apache-2.0
// Compilation of rules to disjoint elements. Pure.
//
// The kernel refuses some overlapping ranges, depending on the order they come in, and where it
// takes two the first counts. So each packet shall be of one element, and each element of one rule.
//
// In each kind of set the two numbers of a packet are one number of a line ("point"): protocol and
// port, type and code, protocol alone. A rule is then a CIDR and an interval of that line. CIDRs
// are nested or disjoint, hence two rules overlap only where one CIDR covers the other. Of a rule
// is left what wider CIDRs, and earlier rules with the same CIDR, do not have: an interval minus
// intervals. The same packets are let in as by the rules; who allowed them is the widest rule.
//
// An interval of types and codes need not be a rectangle: it is cut at the ends of a type.
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "sg/internal.h"

struct interval {
	uint32_t first, last;
};

struct candidate {
	const struct sg_rule *rule;
	enum sg_kind kind;
	struct interval interval;
};

// A growing list of elements in an arena; a rule leaves at most a few pieces.
struct output {
	struct arena *arena;
	struct sg_element_list list;
	size_t capacity;
};

enum sg_kind sg_rule_kind(const struct sg_rule *rule)
{
	if (rule->protocol == IPPROTO_TCP || rule->protocol == IPPROTO_UDP)
		return SG_KIND_PORTS;
	return rule->protocol == IPPROTO_ICMP ? SG_KIND_ICMP : SG_KIND_PROTOCOLS;
}

// Numbers of a line have 8 bits (protocol, type) in front and `low` bits behind.
static uint32_t low_bits(enum sg_kind kind)
{
	static const uint32_t bits[SG_KIND_COUNT] = {
		[SG_KIND_PORTS] = 16, [SG_KIND_ICMP] = 8, [SG_KIND_PROTOCOLS] = 0};

	return bits[kind];
}

static struct interval rule_interval(const struct sg_rule *rule)
{
	uint32_t protocol = (uint32_t)rule->protocol;
	uint32_t type = (uint32_t)rule->from_port << 8;

	switch (sg_rule_kind(rule)) {
	case SG_KIND_PORTS:
		return (struct interval){protocol << 16 | (uint32_t)rule->from_port,
					 protocol << 16 | (uint32_t)rule->to_port};
	case SG_KIND_ICMP:
		if (rule->from_port < 0)
			return (struct interval){0, 0xffff};
		if (rule->to_port < 0)
			return (struct interval){type, type | 0xff};
		return (struct interval){type | (uint32_t)rule->to_port,
					 type | (uint32_t)rule->to_port};
	default:
		if (rule->protocol == SG_PROTOCOL_ALL)
			return (struct interval){0, 255};
		return (struct interval){protocol, protocol};
	}
}

static void output_add(struct output *output, const struct candidate *candidate,
		       struct interval rectangle)
{
	uint32_t low = low_bits(candidate->kind), mask = (1U << low) - 1;
	struct sg_element *grown;

	if (output->list.count == output->capacity) {
		output->capacity = output->capacity ? output->capacity * 2 : 16;
		grown = arena_array(output->arena, struct sg_element, output->capacity);
		if (output->list.count)
			memcpy(grown, output->list.elements, output->list.count * sizeof(*grown));
		output->list.elements = grown;
	}
	output->list.elements[output->list.count++] = (struct sg_element){
		.kind = candidate->kind,
		.peer = candidate->rule->cidr,
		.first = {(uint16_t)(rectangle.first >> low), (uint16_t)(rectangle.first & mask)},
		.last = {(uint16_t)(rectangle.last >> low), (uint16_t)(rectangle.last & mask)},
		.rule_id = candidate->rule->id};
}

// Cuts an interval into rectangles: the rest of the first row, whole rows, the start of the last.
static void output_add_interval(struct output *output, const struct candidate *candidate,
				struct interval piece)
{
	uint32_t mask = (1U << low_bits(candidate->kind)) - 1;
	uint32_t row_end = piece.first | mask, row_start = piece.last & ~mask;

	if (piece.last <= row_end || (!(piece.first & mask) && (piece.last & mask) == mask)) {
		output_add(output, candidate, piece);
		return;
	}
	if (piece.first & mask) {
		output_add(output, candidate, (struct interval){piece.first, row_end});
		output_add_interval(output, candidate, (struct interval){row_end + 1, piece.last});
		return;
	}
	output_add(output, candidate, (struct interval){piece.first, row_start - 1});
	output_add(output, candidate, (struct interval){row_start, piece.last});
}

// Whether `other` takes its packets before `rule`. Both have a CIDR and the same kind.
static bool precedes(const struct sg_rule *other, const struct sg_rule *rule)
{
	if (!ipv4_cidr_covers(&other->cidr, &rule->cidr))
		return false;
	return other->cidr.prefix < rule->cidr.prefix || other < rule;
}

static int interval_compare(const void *left, const void *right)
{
	const struct interval *one = left, *other = right;

	return one->first < other->first ? -1 : one->first > other->first;
}

// What others take of the candidate's line, in order of their start.
static size_t taken_intervals(const struct sg_rule_list *rules, const struct candidate *candidate,
			      struct interval *ret_taken)
{
	size_t count = 0;

	for (size_t i = 0; i < rules->count; i++) {
		const struct sg_rule *other = &rules->rules[i];

		if (other == candidate->rule || other->group_id ||
		    sg_rule_kind(other) != candidate->kind || !precedes(other, candidate->rule))
			continue;
		ret_taken[count++] = rule_interval(other);
	}
	qsort(ret_taken, count, sizeof(*ret_taken), interval_compare);
	return count;
}

static void compile_rule(const struct sg_rule_list *rules, const struct sg_rule *rule,
			 struct output *output)
{
	struct candidate candidate = {rule, sg_rule_kind(rule), rule_interval(rule)};
	struct interval left = candidate.interval;
	struct interval *taken = arena_array(output->arena, struct interval, rules->count);
	size_t count = taken_intervals(rules, &candidate, taken);

	for (size_t i = 0; i < count && left.first <= left.last; i++) {
		if (taken[i].last < left.first)
			continue;
		if (taken[i].first > left.last)
			break;
		if (taken[i].first > left.first)
			output_add_interval(output, &candidate,
					    (struct interval){left.first, taken[i].first - 1});
		left.first = taken[i].last + 1;
	}
	if (left.first <= left.last)
		output_add_interval(output, &candidate, left);
}

// Of what the kernel knows: the key first, then whose it is.
static int element_compare_key(const struct sg_element *one, const struct sg_element *other)
{
	const uint32_t left[] = {one->kind,     one->peer.base, one->peer.prefix, one->first[0],
				 one->first[1], one->last[0],   one->last[1]};
	const uint32_t right[] = {other->kind,     other->peer.base, other->peer.prefix,
				  other->first[0], other->first[1],  other->last[0],
				  other->last[1]};

	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		if (left[i] != right[i])
			return left[i] < right[i] ? -1 : 1;
	return 0;
}

static int element_compare(const void *left, const void *right)
{
	const struct sg_element *one = left, *other = right;
	int order = element_compare_key(one, other);

	return order ? order : strcmp(one->rule_id, other->rule_id);
}

void sg_element_list_sort(struct sg_element_list *list)
{
	if (list->count)
		qsort(list->elements, list->count, sizeof(*list->elements), element_compare);
}

void sg_compile(const struct sg_rule_list *rules, struct arena *arena,
		struct sg_compiled *ret_compiled)
{
	struct output output = {.arena = arena};
	const struct sg_rule **references =
		arena_array(arena, const struct sg_rule *, rules->count);
	size_t reference_count = 0;

	for (size_t i = 0; i < rules->count; i++) {
		if (rules->rules[i].group_id)
			references[reference_count++] = &rules->rules[i];
		else
			compile_rule(rules, &rules->rules[i], &output);
	}
	sg_element_list_sort(&output.list);
	*ret_compiled = (struct sg_compiled){.elements = output.list,
					     .references = references,
					     .reference_count = reference_count};
}

void sg_element_difference(const struct sg_element_list *from, const struct sg_element_list *to,
			   struct arena *arena, struct sg_element_list *ret_removed,
			   struct sg_element_list *ret_added)
{
	struct sg_element_list removed = {arena_array(arena, struct sg_element, from->count), 0};
	struct sg_element_list added = {arena_array(arena, struct sg_element, to->count), 0};
	size_t i = 0, k = 0;

	while (i < from->count || k < to->count) {
		int order = i == from->count ? 1
			    : k == to->count
				    ? -1
				    : element_compare(&from->elements[i], &to->elements[k]);

		if (order < 0)
			removed.elements[removed.count++] = from->elements[i];
		if (order > 0)
			added.elements[added.count++] = to->elements[k];
		i += order <= 0;
		k += order >= 0;
	}
	*ret_removed = removed;
	*ret_added = added;
}
