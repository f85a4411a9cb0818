// SPDX-License-Identifier: Apache-2.0
// Reading a VPC's table back into the mirror.
//
// Names of chains and sets tell groups and combinations, jumps a combination's groups, comments the
// rules' and members' ids. Every batch is whole, so what is found incomplete was damaged by someone
// else (or is a group that is only referenced): a group is made again by sg_group_set(), members
// are removed by sg_vpc_mend() and set again by who wants them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

// --- Groups and combinations: their chains, sets and rules ---

static void see_group_object(struct sg_vpc *vpc, const char *name)
{
	char id[SG_ID_SIZE];
	const char *rest;

	if (sg_group_name_split(name, id, &rest))
		sg_group_ensure(vpc, id)->object_count++;
}

static struct sg_combination *combination_ensure(struct sg_vpc *vpc, uint32_t number)
{
	return sg_combination_find(vpc, number) ?: sg_combination_new(vpc, number);
}

static int load_chains(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	scoped_free struct nft_object *chains = NULL;
	enum sg_variant variant;
	uint32_t number;
	size_t count;

	if (nft_chains_dump(netfilter_socket, SG_TABLE, &chains, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		if (sg_combination_name_parse(chains[i].name, &number, &variant))
			combination_ensure(vpc, number)->chain_count++;
		else
			see_group_object(vpc, chains[i].name);
	}
	return 0;
}

static void see_group_set(struct sg_vpc *vpc, const char *name)
{
	struct sg_group_state *group;
	enum sg_direction direction;
	enum sg_set_life life;
	enum sg_kind kind;
	char id[SG_ID_SIZE];
	const char *rest;

	if (!sg_group_name_split(name, id, &rest) ||
	    !sg_group_set_parse(rest, &direction, &kind, &life)) {
		see_group_object(vpc, name);
		return;
	}
	group = sg_group_ensure(vpc, id);
	if (life == SG_SET_INTERIM)
		group->interim[direction] |= 1U << kind;
	else
		group->kinds[direction] |= 1U << kind;
}

static int load_sets(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	scoped_free struct nft_object *sets = NULL;
	size_t count;

	if (nft_sets_dump(netfilter_socket, SG_TABLE, &sets, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		see_group_set(vpc, sets[i].name);
	return 0;
}

static void add_reference(struct sg_rules_state *state, const char *comment)
{
	state->references = reallocarray(state->references, state->reference_count + 1,
					 sizeof(*state->references));
	if (!state->references)
		abort();
	state->references[state->reference_count++] = sg_strdup(comment);
}

static void see_group_rule(struct sg_vpc *vpc, const struct nft_rule_info *rule)
{
	struct sg_group_state *group;
	char id[SG_ID_SIZE];
	const char *rest;

	if (!sg_group_name_split(rule->chain, id, &rest))
		return;
	group = sg_group_ensure(vpc, id);
	for (int i = 0; i < SG_VARIANT_COUNT; i++) {
		enum sg_variant variant = (enum sg_variant)i;

		if (strcmp(rest, sg_variant_name(variant)) != 0)
			continue;
		group->rule_counts[variant]++;
		if (rule->comment[0] && variant != SG_VARIANT_BALANCED)
			add_reference(&group->rules[sg_variant_direction(variant)], rule->comment);
	}
}

// Each variant must jump to the same groups: all that are named count.
static void see_combination_rule(struct sg_vpc *vpc, const struct nft_rule_info *rule,
				 uint32_t number, enum sg_variant variant)
{
	struct sg_combination *combination = combination_ensure(vpc, number);
	char id[SG_ID_SIZE];
	const char *rest;
	bool ours = rule->verdict == NFT_JUMP && sg_group_name_split(rule->target, id, &rest) &&
		    strcmp(rest, sg_variant_name(variant)) == 0;

	combination->rule_counts[variant]++;
	if (ours)
		sg_combination_add_group(combination, id);
	if (!ours || !sg_combination_has(combination, id)) // one more than there may be
		combination->misled = true;
}

static int load_rules(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	scoped_free struct nft_rule_info *rules = NULL;
	enum sg_variant variant;
	uint32_t number;
	size_t count;

	if (nft_rules_dump(netfilter_socket, SG_TABLE, NULL, &rules, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		if (sg_combination_name_parse(rules[i].chain, &number, &variant))
			see_combination_rule(vpc, &rules[i], number, variant);
		else
			see_group_rule(vpc, &rules[i]);
	}
	return 0;
}

// The chains of a combination count only with the verdicts that lead to them.
static int load_verdicts(struct sg_vpc *vpc, int netfilter_socket, enum sg_variant variant,
			 struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};

	if (nft_elements_dump(netfilter_socket, &sg_combination_chains[variant], &list, err) < 0)
		return -err->code;
	for (size_t i = 0; i < list.count; i++) {
		char chain[NFT_NAME_SIZE];
		uint32_t number;

		memcpy(&number, list.elements[i].key.bytes, sizeof(number));
		sg_combination_chain_name(number, variant, chain);
		if (list.elements[i].chain && strcmp(list.elements[i].chain, chain) == 0)
			combination_ensure(vpc, number)->verdict_count++;
	}
	return 0;
}

static void judge_combination(struct sg_vpc *vpc, struct sg_combination *combination)
{
	combination->complete = !combination->misled &&
				combination->chain_count == SG_VARIANT_COUNT &&
				combination->verdict_count == SG_VARIANT_COUNT;
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
		if (combination->rule_counts[variant] != combination->group_count)
			combination->complete = false;
	for (size_t i = 0; combination->complete && i < combination->group_count; i++)
		sg_group_ensure(vpc, combination->groups[i])->users++;
}

// --- Elements of groups ---

static int load_group_set(struct sg_group_state *group, enum sg_direction direction,
			  enum sg_kind kind, int netfilter_socket, struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};
	struct sg_element_list *into = &group->rules[direction].elements;
	char name[NFT_NAME_SIZE];
	struct nft_set set = sg_group_set_of(group->id, direction, kind, SG_SET_LASTING, name);

	if (nft_elements_dump(netfilter_socket, &set, &list, err) < 0)
		return -err->code;
	into->elements =
		reallocarray(into->elements, into->count + list.count + 1, sizeof(*into->elements));
	if (!into->elements)
		abort();
	for (size_t i = 0; i < list.count; i++) {
		struct sg_element *element = &into->elements[into->count++];

		*element = sg_element_from_nft(kind, &list.elements[i]);
		element->rule_id = sg_strdup(element->rule_id);
	}
	return 0;
}

static bool group_is_whole(const struct sg_group_state *group)
{
	const struct sg_rules_state *rules = group->rules;

	if (group->object_count != SG_GROUP_OBJECTS)
		return false;
	for (int i = 0; i < SG_VARIANT_COUNT; i++) {
		enum sg_direction direction = sg_variant_direction((enum sg_variant)i);

		// An interim set is there in the same transactions as its rules.
		if (group->rule_counts[i] !=
		    (size_t)__builtin_popcount(group->kinds[direction]) +
			    (size_t)__builtin_popcount(group->interim[direction]) +
			    rules[direction].reference_count)
			return false;
	}
	return true;
}

static int load_group(struct sg_group_state *group, int netfilter_socket, struct error *err)
{
	group->complete = group_is_whole(group);
	for (int i = 0; group->complete && i < SG_GROUP_SETS; i++) {
		enum sg_direction direction = (enum sg_direction)(i / SG_KIND_COUNT);
		enum sg_kind kind = (enum sg_kind)(i % SG_KIND_COUNT);

		if ((group->kinds[direction] & 1U << kind) &&
		    load_group_set(group, direction, kind, netfilter_socket, err) < 0)
			return error_wrap(err, "group %s", group->id);
	}
	for (int direction = 0; direction < SG_DIRECTION_COUNT; direction++)
		sg_element_list_sort(&group->rules[direction].elements);
	return 0;
}

// --- Members ---

// Member of a comment, "eni <id>" or "balancer <id>"; NULL for other comments.
static struct sg_member_state *member_of(struct sg_vpc *vpc, const char *comment, bool ensure)
{
	bool balancer = strncmp(comment, "balancer ", 9) == 0;
	const char *id = comment + (balancer ? 9 : 4);
	struct sg_index *index = balancer ? &vpc->balancers : &vpc->members;
	struct sg_member_state *member;

	if (!balancer && strncmp(comment, "eni ", 4) != 0)
		return NULL;
	member = sg_index_find(index, id);
	if (member || !ensure)
		return member;
	member = sg_allocate(sizeof(*member));
	member->balancer = balancer;
	memcpy(member->id, id, strnlen(id, sizeof(member->id) - 1));
	sg_index_add(index, member);
	return member;
}

static void see_source(struct sg_vpc *vpc, struct sg_member_state *member,
		       const struct nft_element *element)
{
	(void)vpc;
	memcpy(member->interface, element->key.bytes, IFNAMSIZ - 1);
	memcpy(member->mac.bytes, element->key.bytes + IFNAMSIZ, sizeof(member->mac.bytes));
	member->address = nft_value_ipv4_at(&element->key, IFNAMSIZ + 8);
}

static void see_router(struct sg_vpc *vpc, struct sg_member_state *member,
		       const struct nft_element *element)
{
	(void)vpc;
	member->router = nft_value_ipv4_at(&element->key, IFNAMSIZ);
}

static void see_combination(struct sg_vpc *vpc, struct sg_member_state *member,
			    const struct nft_element *element)
{
	uint32_t number;

	memcpy(&number, element->data.bytes, sizeof(number));
	member->combination = sg_combination_find(vpc, number);
	if (member->balancer)
		member->address = nft_value_ipv4_at(&element->key, 0);
}

static void see_drop(struct sg_vpc *vpc, struct sg_member_state *member,
		     const struct nft_element *element)
{
	(void)vpc;
	(void)member;
	(void)element;
}

static const struct member_set {
	const struct nft_set *set;
	void (*see)(struct sg_vpc *vpc, struct sg_member_state *member,
		    const struct nft_element *element);
} member_sets[] = {
	{&sg_eni_source, see_source},
	{&sg_eni_router, see_router},
	{&sg_eni_combination, see_combination},
	{&sg_eni_drops, see_drop},
	{&sg_balancer_combination, see_combination},
};

enum { ENI_ELEMENTS = 3 + SG_ENI_DROP_REASONS, BALANCER_ELEMENTS = 1 };

static int load_member_set(struct sg_vpc *vpc, const struct member_set *kind, int netfilter_socket,
			   struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};

	if (nft_elements_dump(netfilter_socket, kind->set, &list, err) < 0)
		return -err->code;
	for (size_t i = 0; i < list.count; i++) {
		struct sg_member_state *member = member_of(vpc, list.elements[i].comment, true);

		if (!member)
			continue;
		kind->see(vpc, member, &list.elements[i]);
		member->element_count++;
	}
	return 0;
}

static int load_memberships(struct sg_vpc *vpc, const struct sg_group_state *group,
			    int netfilter_socket, struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};
	char name[NFT_NAME_SIZE];
	struct nft_set members = sg_group_members_of(group->id, name);

	if (nft_elements_dump(netfilter_socket, &members, &list, err) < 0)
		return err->code == ENOENT ? 0 : -err->code; // the group is damaged
	for (size_t i = 0; i < list.count; i++) {
		const struct nft_element *element = &list.elements[i];
		struct sg_member_state *member = member_of(vpc, element->comment, true);

		if (!member)
			continue;
		member->membership_count++;
		if (!member->combination || !sg_combination_has(member->combination, group->id) ||
		    member->address != nft_value_ipv4_at(&element->key, 0))
			member->misplaced = true;
	}
	return 0;
}

static void judge_member(struct sg_member_state *member)
{
	size_t wanted = member->balancer ? BALANCER_ELEMENTS : ENI_ELEMENTS;

	member->complete = member->combination && member->combination->complete &&
			   !member->misplaced && member->element_count == wanted &&
			   member->membership_count == member->combination->group_count;
	if (member->complete)
		member->combination->users++;
}

static void judge_members(struct sg_index *index)
{
	for (size_t i = 0; i < index->count; i++)
		judge_member(index->items[i]);
}

static int load_members(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LENGTH(member_sets); i++)
		if (load_member_set(vpc, &member_sets[i], netfilter_socket, err) < 0)
			return -err->code;
	for (size_t i = 0; i < vpc->groups.count; i++)
		if (load_memberships(vpc, vpc->groups.items[i], netfilter_socket, err) < 0)
			return -err->code;
	judge_members(&vpc->members);
	judge_members(&vpc->balancers);
	return 0;
}

int sg_vpc_load(struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	if (load_chains(vpc, netfilter_socket, err) < 0 ||
	    load_sets(vpc, netfilter_socket, err) < 0 || load_rules(vpc, netfilter_socket, err) < 0)
		return -err->code;
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
		if (load_verdicts(vpc, netfilter_socket, (enum sg_variant)variant, err) < 0)
			return -err->code;
	for (size_t i = 0; i < vpc->combination_count; i++)
		judge_combination(vpc, vpc->combinations[i]);
	for (size_t i = 0; i < vpc->groups.count; i++)
		if (load_group(vpc->groups.items[i], netfilter_socket, err) < 0)
			return -err->code;
	return load_members(vpc, netfilter_socket, err);
}
