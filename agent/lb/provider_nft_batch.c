// SPDX-License-Identifier: Apache-2.0
// From a plan to nft operations. Pure; the table is described in provider_nft.c.
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/provider_nft.h"

enum { PRIORITY_DESTINATION_NAT = -100, PRIORITY_SOURCE_NAT = 100 };

const struct nft_set lb_nft_services_map = {
	.table = LB_NFT_TABLE,
	.name = "services",
	.key = NFT_TYPES(NFT_TYPE_PROTOCOL, NFT_TYPE_IPV4, NFT_TYPE_PORT),
	.data = NFT_TYPES(NFT_TYPE_VERDICT),
};

static const struct nft_set hairpin_set = {
	.table = LB_NFT_TABLE,
	.name = "hairpin",
	.key = NFT_TYPES(NFT_TYPE_IPV4, NFT_TYPE_IPV4),
};

static void group_name(const char *id, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, LB_NFT_GROUP_PREFIX "%s", id);
}

// ---- Groups

static struct nft_set group_map(const char *id, char name[NFT_NAME_SIZE])
{
	group_name(id, name);
	return (struct nft_set){.table = LB_NFT_TABLE,
				.name = name,
				.key = NFT_TYPES(NFT_TYPE_NUMBER),
				.data = NFT_TYPES(NFT_TYPE_IPV4, NFT_TYPE_PORT)};
}

// The map is made if need be, emptied and filled. It has something for each number that the rule
// before and the rule after may draw. `before` may be NULL.
static void put_group_map(struct nft_batch *batch, const struct lb_nft_served_group *before,
			  const struct lb_nft_served_group *group)
{
	size_t drawn_before = before ? before->count : 0;
	size_t count = group->count > drawn_before ? group->count : drawn_before;
	scoped_free struct nft_element *elements = lb_allocate(count, sizeof(*elements));
	char name[NFT_NAME_SIZE];
	struct nft_set map = group_map(group->id, name);

	nft_set_add(batch, &map);
	nft_set_flush(batch, LB_NFT_TABLE, name);
	if (group->count == 0)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct lb_endpoint *endpoint = &group->endpoints[i % group->count];

		nft_value_add_u32(&elements[i].key, (uint32_t)i);
		nft_value_add_ipv4(&elements[i].data, endpoint->address);
		nft_value_add_port(&elements[i].data, endpoint->port);
	}
	nft_elements_add(batch, &map, elements, count);
}

// The chain is made if need be, emptied and filled.
static void put_group_rule(struct nft_batch *batch, const struct lb_nft_served_group *group)
{
	char name[NFT_NAME_SIZE];
	struct nft_rule *rule;

	group_name(group->id, name);
	nft_chain_add(batch, &(struct nft_chain){.table = LB_NFT_TABLE, .name = name});
	nft_chain_flush(batch, LB_NFT_TABLE, name);
	if (group->count == 0)
		return;
	rule = nft_rule_new(LB_NFT_TABLE, name, NULL);
	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_TCP);
	nft_dnat_round_robin(rule, (uint32_t)group->count, name);
	nft_rule_add(batch, rule);
}

static void delete_group(struct nft_batch *batch, const char *id)
{
	char name[NFT_NAME_SIZE];

	group_name(id, name);
	nft_chain_flush(batch, LB_NFT_TABLE, name);
	nft_chain_delete(batch, LB_NFT_TABLE, name);
	nft_set_delete(batch, LB_NFT_TABLE, name);
}

static bool groups_equal(const struct lb_nft_served_group *left,
			 const struct lb_nft_served_group *right)
{
	if (!left || !right || left->count != right->count)
		return false;
	for (size_t i = 0; i < left->count; i++)
		if (left->endpoints[i].address != right->endpoints[i].address ||
		    left->endpoints[i].port != right->endpoints[i].port)
			return false;
	return true;
}

// ---- Services

enum service_change { SERVICE_ADD, SERVICE_DELETE };

struct nft_value lb_nft_service_key(uint32_t address, uint16_t port)
{
	struct nft_value key = {0};

	nft_value_add_u8(&key, IPPROTO_TCP);
	nft_value_add_ipv4(&key, address);
	nft_value_add_port(&key, port);
	return key;
}

static void change_service(struct nft_batch *batch, const struct lb_nft_service *service,
			   enum service_change change)
{
	char chain[NFT_NAME_SIZE];
	struct nft_element element = {.key = lb_nft_service_key(service->address, service->port),
				      .verdict = NFT_GOTO,
				      .chain = chain,
				      .comment = service->balancer_id};

	group_name(service->group_id, chain);
	if (change == SERVICE_ADD)
		nft_elements_add(batch, &lb_nft_services_map, &element, 1);
	else
		nft_elements_delete(batch, &lb_nft_services_map, &element, 1);
}

static bool service_equal(const struct lb_nft_service *left, const struct lb_nft_service *right)
{
	return left->address == right->address && left->port == right->port &&
	       strcmp(left->group_id, right->group_id) == 0 &&
	       strcmp(left->balancer_id, right->balancer_id) == 0;
}

static bool services_equal(const struct lb_nft_served *left, const struct lb_nft_served *right)
{
	if (left->service_count != right->service_count)
		return false;
	for (size_t i = 0; i < left->service_count; i++)
		if (!service_equal(&left->services[i], &right->services[i]))
			return false;
	return true;
}

static bool service_stands(const struct lb_nft_served *served, const struct lb_nft_service *service)
{
	for (size_t i = 0; i < served->service_count; i++)
		if (service_equal(&served->services[i], service))
			return true;
	return false;
}

static void change_services(struct nft_batch *batch, const struct lb_nft_served *before,
			    const struct lb_nft_served *after)
{
	if (services_equal(before, after))
		return; // as with each change of a target's health
	for (size_t i = 0; i < before->service_count; i++)
		if (!service_stands(after, &before->services[i]))
			change_service(batch, &before->services[i], SERVICE_DELETE);
	for (size_t i = 0; i < after->service_count; i++)
		if (!service_stands(before, &after->services[i]))
			change_service(batch, &after->services[i], SERVICE_ADD);
}

// ---- Hairpin: sorted lists of what is in service, each address once

static int compare_addresses(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static size_t sort_unique(uint32_t *addresses, size_t count)
{
	size_t kept = 0;

	qsort(addresses, count, sizeof(*addresses), compare_addresses);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || addresses[kept - 1] != addresses[i])
			addresses[kept++] = addresses[i];
	return kept;
}

static uint32_t *target_addresses(const struct lb_nft_served *served, size_t *ret_count)
{
	size_t count = 0;
	uint32_t *addresses;

	for (struct lb_nft_served_group *group = served->groups; group; group = group->next)
		count += group->count;
	addresses = lb_allocate(count, sizeof(*addresses));
	count = 0;
	for (struct lb_nft_served_group *group = served->groups; group; group = group->next)
		for (size_t i = 0; i < group->count; i++)
			addresses[count++] = group->endpoints[i].address;
	*ret_count = sort_unique(addresses, count);
	return addresses;
}

static uint32_t *service_addresses(const struct lb_nft_served *served, size_t *ret_count)
{
	uint32_t *addresses = lb_allocate(served->service_count, sizeof(*addresses));

	for (size_t i = 0; i < served->service_count; i++)
		addresses[i] = served->services[i].address;
	*ret_count = sort_unique(addresses, served->service_count);
	return addresses;
}

static struct nft_element hairpin_element(uint32_t address)
{
	struct nft_element element = {0};

	nft_value_add_ipv4(&element.key, address);
	nft_value_add_ipv4(&element.key, address);
	return element;
}

static void change_hairpin_set(struct nft_batch *batch, const struct lb_nft_served *before,
			       const struct lb_nft_served *after)
{
	size_t old_count, new_count, old_place = 0, new_place = 0;
	scoped_free uint32_t *old = target_addresses(before, &old_count);
	scoped_free uint32_t *new = target_addresses(after, &new_count);

	while (old_place < old_count || new_place < new_count) {
		struct nft_element element;

		if (new_place == new_count ||
		    (old_place < old_count && old[old_place] < new[new_place])) {
			element = hairpin_element(old[old_place++]);
			nft_elements_delete(batch, &hairpin_set, &element, 1);
		} else if (old_place == old_count || new[new_place] < old[old_place]) {
			element = hairpin_element(new[new_place++]);
			nft_elements_add(batch, &hairpin_set, &element, 1);
		} else {
			old_place++;
			new_place++;
		}
	}
}

static void change_hairpin_chain(struct nft_batch *batch, const struct lb_nft_served *before,
				 const struct lb_nft_served *after)
{
	size_t count, old_count;
	scoped_free uint32_t *addresses = service_addresses(after, &count);
	scoped_free uint32_t *old = service_addresses(before, &old_count);

	if (count == old_count && memcmp(addresses, old, count * sizeof(*old)) == 0)
		return;
	nft_chain_flush(batch, LB_NFT_TABLE, "hairpin");
	for (size_t i = 0; i < count; i++) {
		struct nft_rule *rule = nft_rule_new(LB_NFT_TABLE, "hairpin", NULL);

		nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
		nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_TCP);
		nft_match_ipv4(rule, NFT_FIELD_CT_ORIGINAL_DESTINATION, NFT_CMP_EQ, addresses[i]);
		nft_snat(rule, addresses[i]);
		nft_rule_add(batch, rule);
	}
}

// ---- The table

static void add_nat_chain(struct nft_batch *batch, const char *name, enum nf_inet_hooks hook,
			  int32_t priority)
{
	nft_chain_add(batch, &(struct nft_chain){.table = LB_NFT_TABLE,
						 .name = name,
						 .base = true,
						 .type = "nat",
						 .hook = hook,
						 .priority = priority,
						 .policy = NF_ACCEPT});
}

static void add_service_rule(struct nft_batch *batch, const char *chain)
{
	struct nft_rule *rule = nft_rule_new(LB_NFT_TABLE, chain, NULL);

	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_TCP);
	nft_verdict_from_map(rule,
			     NFT_FIELDS(NFT_FIELD_PROTOCOL, NFT_FIELD_IP_DESTINATION,
					NFT_FIELD_PORT_DESTINATION),
			     lb_nft_services_map.name);
	nft_rule_add(batch, rule);
}

static void add_hairpin_rule(struct nft_batch *batch)
{
	struct nft_rule *rule = nft_rule_new(LB_NFT_TABLE, "postrouting", NULL);

	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
	nft_match_bits(rule, NFT_FIELD_CT_STATUS, IPS_DST_NAT);
	nft_match_set(rule, NFT_FIELDS(NFT_FIELD_IP_SOURCE, NFT_FIELD_IP_DESTINATION),
		      hairpin_set.name);
	nft_verdict(rule, NFT_GOTO, "hairpin");
	nft_rule_add(batch, rule);
}

// In one transaction with what follows: no packet meets the gap.
static void put_table(struct nft_batch *batch, const char *comment)
{
	nft_table_add(batch, LB_NFT_TABLE, comment);
	nft_table_delete(batch, LB_NFT_TABLE);
	nft_table_add(batch, LB_NFT_TABLE, comment);
	nft_set_add(batch, &lb_nft_services_map);
	nft_set_add(batch, &hairpin_set);
	nft_chain_add(batch, &(struct nft_chain){.table = LB_NFT_TABLE, .name = "hairpin"});
	add_nat_chain(batch, "prerouting", NF_INET_PRE_ROUTING, PRIORITY_DESTINATION_NAT);
	add_nat_chain(batch, "output", NF_INET_LOCAL_OUT, PRIORITY_DESTINATION_NAT);
	add_nat_chain(batch, "postrouting", NF_INET_POST_ROUTING, PRIORITY_SOURCE_NAT);
	add_service_rule(batch, "prerouting");
	add_service_rule(batch, "output");
	add_hairpin_rule(batch);
}

// The kernel switches rules before elements, in one transaction too: a rule that draws from more
// numbers than the one before waits until the map has them.
static void change_groups(struct nft_batch *batch, const struct lb_nft_served *before,
			  const struct lb_nft_served *after)
{
	bool grown = false;

	for (const struct lb_nft_served_group *group = after->groups; group; group = group->next) {
		const struct lb_nft_served_group *applied =
			lb_nft_served_group_find(before, group->id);

		if (groups_equal(applied, group))
			continue;
		put_group_map(batch, applied, group);
		grown |= applied && applied->count > 0 && group->count > applied->count;
	}
	if (grown)
		nft_batch_barrier(batch);
	for (const struct lb_nft_served_group *group = after->groups; group; group = group->next)
		if (!groups_equal(lb_nft_served_group_find(before, group->id), group))
			put_group_rule(batch, group);
}

static bool has_removed_group(const struct lb_nft_served *before, const struct lb_nft_served *after)
{
	for (const struct lb_nft_served_group *group = before->groups; group; group = group->next)
		if (!lb_nft_served_group_find(after, group->id))
			return true;
	return false;
}

void lb_nft_plan_batch(const struct lb_nft_served *before, const struct lb_nft_served *after,
		       const char *new_table, struct nft_batch *batch)
{
	static const struct lb_nft_served nothing;

	nft_batch_set_owner(batch, LB_NFT_TABLE);
	if (new_table) {
		put_table(batch, new_table);
		before = &nothing;
	}
	change_groups(batch, before, after);
	change_services(batch, before, after); // after their chains, before those that go
	if (has_removed_group(before, after))
		nft_batch_barrier(
			batch); // connections may be on their way from the map to the chain
	for (const struct lb_nft_served_group *group = before->groups; group; group = group->next)
		if (!lb_nft_served_group_find(after, group->id))
			delete_group(batch, group->id);
	change_hairpin_set(batch, before, after);
	change_hairpin_chain(batch, before, after);
}
