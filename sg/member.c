// SPDX-License-Identifier: Apache-2.0
// Members: ENIs and balancers. All that the kernel has of one is data elements, whose comments
// name it; they are of one owner, "eni <id>" or "balancer <id>".
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/number.h"
#include "sg/internal.h"

void sg_member_label(const struct sg_member_state *member, char label[SG_LABEL_SIZE])
{
	snprintf(label, SG_LABEL_SIZE, "%s %s", member->balancer ? "balancer" : "eni", member->id);
}

static void send_source(struct nft_batch *batch, const struct sg_member_state *member,
			const char *label, sg_elements_operation *operation)
{
	struct nft_element element = {.comment = label};

	nft_value_add_ifname(&element.key, member->interface);
	nft_value_add_ether(&element.key, &member->mac);
	nft_value_add_ipv4(&element.key, member->address);
	operation(batch, &sg_eni_source, &element, 1);
}

static void send_router(struct nft_batch *batch, const struct sg_member_state *member,
			const char *label, sg_elements_operation *operation)
{
	struct nft_element element = {.comment = label};

	nft_value_add_ifname(&element.key, member->interface);
	nft_value_add_ipv4(&element.key, member->router);
	operation(batch, &sg_eni_router, &element, 1);
}

static void send_drops(struct nft_batch *batch, const struct sg_member_state *member,
		       const char *label, sg_elements_operation *operation)
{
	struct nft_element elements[SG_DROP_REASON_COUNT] = {0};
	size_t count = 0;

	for (int reason = 0; reason < SG_DROP_REASON_COUNT; reason++) {
		if (!sg_drop_reason_is_of_eni((enum sg_drop_reason)reason))
			continue;
		elements[count].comment = label;
		nft_value_add_ifname(&elements[count].key, member->interface);
		nft_value_add_u32(&elements[count].key, (uint32_t)reason + 1);
		count++;
	}
	operation(batch, &sg_eni_drops, elements, count);
}

static void send_combination(struct nft_batch *batch, const struct sg_member_state *member,
			     const char *label, sg_elements_operation *operation)
{
	struct nft_element element = {.comment = label};

	if (member->balancer)
		nft_value_add_ipv4(&element.key, member->address);
	else
		nft_value_add_ifname(&element.key, member->interface);
	nft_value_add_u32(&element.data, member->combination->number);
	operation(batch, member->balancer ? &sg_balancer_combination : &sg_eni_combination,
		  &element, 1);
}

// In the sets of members of its groups, apart from those that `except` (may be NULL) has too.
static void send_memberships(struct nft_batch *batch, const struct sg_member_state *member,
			     const char *label, const struct sg_combination *except,
			     sg_elements_operation *operation)
{
	struct nft_element element = {.comment = label};
	const struct sg_combination *combination = member->combination;

	nft_value_add_ipv4(&element.key, member->address);
	for (size_t i = 0; i < combination->group_count; i++) {
		char name[NFT_NAME_SIZE];
		struct nft_set members = sg_group_members_of(combination->groups[i], name);

		if (!except || !sg_combination_has(except, combination->groups[i]))
			operation(batch, &members, &element, 1);
	}
}

static void send_all(struct nft_batch *batch, const struct sg_member_state *member,
		     sg_elements_operation *operation)
{
	char label[SG_LABEL_SIZE];

	sg_member_label(member, label);
	nft_batch_set_owner(batch, label);
	if (!member->balancer) {
		send_source(batch, member, label, operation);
		send_router(batch, member, label, operation);
		send_drops(batch, member, label, operation);
	}
	send_combination(batch, member, label, operation);
	send_memberships(batch, member, label, NULL, operation);
}

static bool same_place(const struct sg_member_state *one, const struct sg_member_state *other)
{
	return strcmp(one->interface, other->interface) == 0 && one->address == other->address &&
	       one->router == other->router &&
	       memcmp(&one->mac, &other->mac, sizeof(one->mac)) == 0;
}

// Other groups for the same interface and address: only what differs, so counters go on.
// Memberships are added first. The combination is one element of a hash map, which the kernel
// replaces from one moment to the next. Until the next transaction the old memberships and the old
// combination's chains remain, for packets that have read the old combination already (see
// group.c).
static void send_regroup(struct nft_batch *batch, const struct sg_member_state *old,
			 const struct sg_member_state *new)
{
	char label[SG_LABEL_SIZE];

	sg_member_label(new, label);
	nft_batch_set_owner(batch, label);
	send_memberships(batch, new, label, old->combination, nft_elements_add);
	nft_batch_barrier(batch);
	send_combination(batch, old, label, nft_elements_delete);
	send_combination(batch, new, label, nft_elements_add);
	nft_batch_barrier(batch);
	send_memberships(batch, old, label, new->combination, nft_elements_delete);
}

static struct sg_index *index_of(struct sg_vpc *vpc, bool balancer)
{
	return balancer ? &vpc->balancers : &vpc->members;
}

static void remove_member(struct sg_vpc *vpc, struct nft_batch *batch,
			  struct sg_member_state *member)
{
	char label[SG_LABEL_SIZE];

	sg_member_label(member, label);
	send_all(batch, member, nft_elements_delete);
	sg_combination_drop(vpc, batch, member->combination, label);
	free(sg_index_take(index_of(vpc, member->balancer), member->id));
}

// Parts of it were taken away by someone else: what is left cannot be told from here.
static int incomplete(const char *label, struct error *err)
{
	return error_set(err, EUCLEAN, "%s is incomplete until the vpc is restored", label);
}

// `member` is what it shall be, without its combination.
static int set_member(struct sg_vpc *vpc, struct nft_batch *batch, struct sg_member_state *member,
		      const char *const *groups, size_t group_count, struct error *err)
{
	struct sg_member_state *old = sg_index_find(index_of(vpc, member->balancer), member->id);
	char label[SG_LABEL_SIZE];

	sg_member_label(member, label);
	if (!id_is_valid(member->id))
		return error_set(err, EINVAL, "\"%s\" is no id", member->id);
	if (sg_vpc_require(vpc, err) < 0)
		return error_wrap(err, "%s", label);
	if (old && !old->complete)
		return incomplete(label, err);
	if (old && same_place(old, member) &&
	    sg_combination_equals(old->combination, groups, group_count))
		return 0;
	if (sg_combination_take(vpc, batch, groups, group_count, &member->combination, err) < 0)
		return error_wrap(err, "%s", label);
	if (old && same_place(old, member)) {
		send_regroup(batch, old, member);
		sg_combination_depend(batch, member->combination);
		sg_combination_drop(vpc, batch, old->combination, label);
		old->combination = member->combination;
		return 0;
	}
	if (old)
		remove_member(vpc, batch, old);
	send_all(batch, member, nft_elements_add);
	sg_combination_depend(batch, member->combination);
	old = sg_allocate(sizeof(*old));
	*old = *member;
	sg_index_add(index_of(vpc, member->balancer), old);
	return 0;
}

static struct sg_member_state state_of(const struct sg_member *member)
{
	struct sg_member_state state = {.complete = true,
					.mac = member->mac,
					.address = member->address,
					.router = member->router};

	snprintf(state.id, sizeof(state.id), "%s", member->eni_id);
	snprintf(state.interface, sizeof(state.interface), "%s", member->interface);
	return state;
}

int sg_member_set(struct sg_vpc *vpc, struct nft_batch *batch, const struct sg_member *member,
		  struct error *err)
{
	struct sg_member_state state = state_of(member);

	if (strncmp(member->interface, SG_INTERFACE_PREFIX, strlen(SG_INTERFACE_PREFIX)) != 0)
		return error_set(err, EINVAL, "eni %s: interface %s does not begin with %s",
				 member->eni_id, member->interface, SG_INTERFACE_PREFIX);
	return set_member(vpc, batch, &state, member->groups, member->group_count, err);
}

bool sg_member_stands(const struct sg_vpc *vpc, const struct sg_member *member)
{
	struct sg_member_state wanted = state_of(member);
	const struct sg_member_state *state = sg_index_find(&vpc->members, member->eni_id);

	return state && state->complete && same_place(state, &wanted) &&
	       sg_combination_equals(state->combination, member->groups, member->group_count);
}

int sg_balancer_set(struct sg_vpc *vpc, struct nft_batch *batch, const struct sg_balancer *balancer,
		    struct error *err)
{
	struct sg_member_state state = {
		.balancer = true, .complete = true, .address = balancer->address};

	snprintf(state.id, sizeof(state.id), "%s", balancer->id);
	return set_member(vpc, batch, &state, balancer->groups, balancer->group_count, err);
}

static int remove_by_id(struct sg_vpc *vpc, struct nft_batch *batch, bool balancer, const char *id,
			struct error *err)
{
	struct sg_member_state *member = sg_index_find(index_of(vpc, balancer), id);
	char label[SG_LABEL_SIZE];

	if (sg_vpc_require(vpc, err) < 0)
		return -err->code;
	if (!member)
		return 0;
	sg_member_label(member, label);
	if (!member->complete)
		return incomplete(label, err);
	remove_member(vpc, batch, member);
	return 0;
}

int sg_member_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *eni_id,
		     struct error *err)
{
	return remove_by_id(vpc, batch, false, eni_id, err);
}

int sg_balancer_remove(struct sg_vpc *vpc, struct nft_batch *batch, const char *balancer_id,
		       struct error *err)
{
	return remove_by_id(vpc, batch, true, balancer_id, err);
}
