// SPDX-License-Identifier: Apache-2.0
// Removal of what is incomplete: elements whose comment names no complete member, and
// combinations that no member has. Nothing of this is left behind by a batch; see load.c.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

static const struct nft_set *const member_sets[] = {&sg_eni_source, &sg_eni_router,
						    &sg_eni_combination, &sg_eni_drops,
						    &sg_balancer_combination};

static bool is_incomplete(const struct sg_vpc *vpc, const char *comment)
{
	bool balancer = strncmp(comment, "balancer ", 9) == 0;
	const struct sg_member_state *member = NULL;

	if (balancer)
		member = sg_index_find(&vpc->balancers, comment + 9);
	else if (strncmp(comment, "eni ", 4) == 0)
		member = sg_index_find(&vpc->members, comment + 4);
	return !member || !member->complete;
}

static int mend_set(const struct sg_vpc *vpc, const struct nft_set *set, struct nft_batch *batch,
		    int netfilter_socket, struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};

	if (nft_elements_dump(netfilter_socket, set, &list, err) < 0)
		return err->code == ENOENT ? 0 : -err->code;
	for (size_t i = 0; i < list.count; i++)
		if (is_incomplete(vpc, list.elements[i].comment))
			nft_elements_delete(batch, set, &list.elements[i], 1);
	return 0;
}

static int mend_members(const struct sg_vpc *vpc, struct nft_batch *batch, int netfilter_socket,
			struct error *err)
{
	if (!sg_vpc_is_damaged(vpc))
		return 0;
	for (size_t i = 0; i < ARRAY_LENGTH(member_sets); i++)
		if (mend_set(vpc, member_sets[i], batch, netfilter_socket, err) < 0)
			return -err->code;
	for (size_t i = 0; i < vpc->groups.count; i++) {
		const struct sg_group_state *group = vpc->groups.items[i];
		char name[NFT_NAME_SIZE];
		struct nft_set members = sg_group_members_of(group->id, name);

		if (mend_set(vpc, &members, batch, netfilter_socket, err) < 0)
			return -err->code;
	}
	return 0;
}

static void mend_verdicts(struct nft_batch *batch, const struct nft_element_list *list,
			  enum sg_variant variant, uint32_t number)
{
	for (size_t i = 0; i < list->count; i++)
		if (memcmp(list->elements[i].key.bytes, &number, sizeof(number)) == 0)
			nft_elements_delete(batch, &sg_combination_chains[variant],
					    &list->elements[i], 1);
}

// Its chains are added first, so that each can be deleted.
static int mend_combinations(const struct sg_vpc *vpc, enum sg_variant variant,
			     struct nft_batch *batch, int netfilter_socket, struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};

	if (nft_elements_dump(netfilter_socket, &sg_combination_chains[variant], &list, err) < 0)
		return -err->code;
	for (size_t i = 0; i < vpc->combination_count; i++) {
		const struct sg_combination *combination = vpc->combinations[i];
		char chain[NFT_NAME_SIZE];

		if (combination->users)
			continue;
		sg_combination_chain_name(combination->number, variant, chain);
		mend_verdicts(batch, &list, variant, combination->number);
		nft_chain_add(batch, &(struct nft_chain){.table = SG_TABLE, .name = chain});
		nft_chain_flush(batch, SG_TABLE, chain);
		nft_chain_delete(batch, SG_TABLE, chain);
	}
	return 0;
}

int sg_vpc_mend(const struct sg_vpc *vpc, int netfilter_socket, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	const struct error *failure;

	nft_batch_set_owner(batch, "mend");
	if (mend_members(vpc, batch, netfilter_socket, err) < 0)
		return -err->code;
	for (int variant = 0; variant < SG_VARIANT_COUNT; variant++)
		if (mend_combinations(vpc, (enum sg_variant)variant, batch, netfilter_socket, err) <
		    0)
			return -err->code;
	if (nft_batch_count(batch) == 0)
		return 0;
	if (nft_batch_send(batch, netfilter_socket, err) < 0)
		return error_wrap(err, "remove incomplete members");
	failure = nft_batch_failure(batch, "mend");
	if (failure)
		return error_set(err, failure->code, "remove incomplete members: %s",
				 failure->message);
	return 1;
}
