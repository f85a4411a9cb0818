// SPDX-License-Identifier: Apache-2.0
// Combinations of groups. Members with the same groups share one number, which stands in the data
// maps, and one chain of each variant, which jumps to those of its groups:
//
//     chain combination_7_ingress { jump group_db_ingress; jump group_web_ingress }
//     map combination_ingress     { 7 : jump combination_7_ingress }
//
// Verdict elements make the kernel validate the whole table; so they are added only for the first
// member with a combination, and removed with the last. Numbers are never used again by one
// process.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "sg/internal.h"

void sg_combination_chain_name(uint32_t number, enum sg_variant variant, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, "combination_%u_%s", number, sg_variant_name(variant));
}

bool sg_combination_name_parse(const char *name, uint32_t *ret_number, enum sg_variant *ret_variant)
{
	char number[16] = {0};
	const char *rest;

	if (strncmp(name, "combination_", 12) != 0)
		return false;
	rest = strchr(name + 12, '_');
	if (!rest || rest - name - 12 >= (ptrdiff_t)sizeof(number))
		return false;
	memcpy(number, name + 12, (size_t)(rest - name - 12));
	if (parse_u32(number, UINT32_MAX, ret_number) < 0)
		return false;
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++) {
		*ret_variant = (enum sg_variant)variant;
		if (strcmp(rest + 1, sg_variant_name(*ret_variant)) == 0)
			return true;
	}
	return false;
}

struct sg_combination *sg_combination_find(const struct sg_vpc *vpc, uint32_t number)
{
	for (size_t i = 0; i < vpc->combination_count; i++)
		if (vpc->combinations[i]->number == number)
			return vpc->combinations[i];
	return NULL;
}

struct sg_combination *sg_combination_new(struct sg_vpc *vpc, uint32_t number)
{
	struct sg_combination *combination = sg_allocate(sizeof(*combination));

	if (vpc->combination_count == vpc->combination_capacity) {
		size_t capacity = vpc->combination_capacity ? vpc->combination_capacity * 2 : 8;

		vpc->combinations =
			reallocarray(vpc->combinations, capacity, sizeof(*vpc->combinations));
		if (!vpc->combinations)
			abort();
		vpc->combination_capacity = capacity;
	}
	combination->number = number;
	if (number > vpc->last_number)
		vpc->last_number = number;
	vpc->combinations[vpc->combination_count++] = combination;
	return combination;
}

void sg_combination_add_group(struct sg_combination *combination, const char *group_id)
{
	size_t at = combination->group_count;

	if (at == SG_GROUPS_PER_ENI_MAX || sg_combination_has(combination, group_id))
		return;
	while (at > 0 && strcmp(combination->groups[at - 1], group_id) > 0) {
		memcpy(combination->groups[at], combination->groups[at - 1], SG_ID_SIZE);
		at--;
	}
	snprintf(combination->groups[at], SG_ID_SIZE, "%s", group_id);
	combination->group_count++;
}

bool sg_combination_has(const struct sg_combination *combination, const char *group_id)
{
	for (size_t i = 0; i < combination->group_count; i++)
		if (strcmp(combination->groups[i], group_id) == 0)
			return true;
	return false;
}

// A group named twice counts once.
bool sg_combination_equals(const struct sg_combination *combination, const char *const *groups,
			   size_t count)
{
	size_t distinct = 0;

	for (size_t i = 0; i < count; i++) {
		size_t earlier = 0;

		if (!sg_combination_has(combination, groups[i]))
			return false;
		while (earlier < i && strcmp(groups[earlier], groups[i]) != 0)
			earlier++;
		distinct += earlier == i;
	}
	return distinct == combination->group_count;
}

static void label_of(const struct sg_combination *combination, char label[SG_LABEL_SIZE])
{
	snprintf(label, SG_LABEL_SIZE, "combination %u", combination->number);
}

static struct nft_element chain_element(const struct sg_combination *combination,
					enum sg_variant variant, char chain[NFT_NAME_SIZE])
{
	struct nft_element element = {.verdict = NFT_JUMP, .chain = chain};

	sg_combination_chain_name(combination->number, variant, chain);
	nft_value_add_u32(&element.key, combination->number);
	return element;
}

static void create_variant(struct nft_batch *batch, const struct sg_combination *combination,
			   enum sg_variant variant)
{
	char chain[NFT_NAME_SIZE], group_chain[NFT_NAME_SIZE];
	struct nft_element element = chain_element(combination, variant, chain);

	nft_chain_add(batch, &(struct nft_chain){.table = SG_TABLE, .name = chain});
	for (size_t i = 0; i < combination->group_count; i++) {
		struct nft_rule *rule = nft_rule_new(SG_TABLE, chain, NULL);

		sg_group_chain_name(combination->groups[i], variant, group_chain);
		nft_verdict(rule, NFT_JUMP, group_chain);
		nft_rule_add(batch, rule);
	}
	nft_elements_add(batch, &sg_combination_chains[variant], &element, 1);
}

static void delete_variant(struct nft_batch *batch, const struct sg_combination *combination,
			   enum sg_variant variant)
{
	char chain[NFT_NAME_SIZE];
	struct nft_element element = chain_element(combination, variant, chain);

	nft_elements_delete(batch, &sg_combination_chains[variant], &element, 1);
	nft_chain_flush(batch, SG_TABLE, chain);
	nft_chain_delete(batch, SG_TABLE, chain);
}

static void create(struct sg_vpc *vpc, struct nft_batch *batch, struct sg_combination *combination)
{
	char label[SG_LABEL_SIZE];

	label_of(combination, label);
	nft_batch_set_owner(batch, label);
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
		create_variant(batch, combination, (enum sg_variant)variant);
	for (size_t i = 0; i < combination->group_count; i++)
		sg_group_ensure(vpc, combination->groups[i])->users++;
	combination->complete = true;
}

static struct sg_combination *find_equal(const struct sg_vpc *vpc, const char *const *groups,
					 size_t count)
{
	for (size_t i = 0; i < vpc->combination_count; i++)
		if (vpc->combinations[i]->complete &&
		    sg_combination_equals(vpc->combinations[i], groups, count))
			return vpc->combinations[i];
	return NULL;
}

static int check_groups(const struct sg_vpc *vpc, const char *const *groups, size_t count,
			struct error *err)
{
	if (count > SG_GROUPS_PER_ENI_MAX)
		return error_set(err, EINVAL, "%zu groups: at most %d", count,
				 SG_GROUPS_PER_ENI_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct sg_group_state *group = sg_index_find(&vpc->groups, groups[i]);

		if (!group || !group->complete)
			return error_set(err, ENOENT, "there is no group %s in vpc %s", groups[i],
					 vpc->id);
	}
	return 0;
}

int sg_combination_take(struct sg_vpc *vpc, struct nft_batch *batch, const char *const *groups,
			size_t count, struct sg_combination **ret_combination, struct error *err)
{
	struct sg_combination *combination;

	if (check_groups(vpc, groups, count, err) < 0)
		return -err->code;
	combination = find_equal(vpc, groups, count);
	if (!combination) {
		combination = sg_combination_new(vpc, vpc->last_number + 1);
		for (size_t i = 0; i < count; i++)
			sg_combination_add_group(combination, groups[i]);
		create(vpc, batch, combination);
	}
	combination->users++;
	*ret_combination = combination;
	return 0;
}

void sg_combination_depend(struct nft_batch *batch, const struct sg_combination *combination)
{
	char label[SG_LABEL_SIZE];

	label_of(combination, label);
	nft_batch_depend(batch, label);
}

static void forget(struct sg_vpc *vpc, struct sg_combination *combination)
{
	for (size_t i = 0; i < vpc->combination_count; i++) {
		if (vpc->combinations[i] != combination)
			continue;
		vpc->combinations[i] = vpc->combinations[--vpc->combination_count];
		break;
	}
	free(combination);
}

void sg_combination_drop(struct sg_vpc *vpc, struct nft_batch *batch,
			 struct sg_combination *combination, const char *member_label)
{
	char label[SG_LABEL_SIZE];

	// If a member cannot leave, the combination must stay; others may join it all the same.
	snprintf(label, sizeof(label), "end of combination %u", combination->number);
	nft_batch_set_owner(batch, label);
	nft_batch_depend(batch, member_label);
	if (--combination->users > 0)
		return;
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
		delete_variant(batch, combination, (enum sg_variant)variant);
	for (size_t i = 0; i < combination->group_count; i++)
		sg_group_ensure(vpc, combination->groups[i])->users--;
	forget(vpc, combination);
}
