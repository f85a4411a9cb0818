// SPDX-License-Identifier: Apache-2.0
// Groups in the kernel. Of group "web":
//
//     sets    group_web_members, and of each direction the kinds that its rules have needed so
//             far: group_web_ingress_ports, ..._icmp, ..._protocols, group_web_egress_ports ...
//     chains  group_web_ingress   source address in the ingress sets, or in a referenced
//                                 group's set of members
//             group_web_balanced  the same with the balancer's address for the source
//             group_web_egress    destination address in the egress sets ...
//
// Elements and reference rules have the rule's id in their comments.
//
// Sets are made when they are needed because the kernel finds a set by going through all sets of
// the table: with three for each direction from the start, a group more took 6 ms at 1,000 groups.
// They stay, empty or not, until the group goes: no change of rules takes a set away from a chain.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

static const char *const kind_names[SG_KIND_COUNT] = {"ports", "icmp", "protocols"};

#define INTERIM_SUFFIX "_interim"

static const struct nft_types kind_keys[SG_KIND_COUNT] = {
	[SG_KIND_PORTS] = {{NFT_TYPE_IPV4, NFT_TYPE_PROTOCOL, NFT_TYPE_PORT}},
	[SG_KIND_ICMP] = {{NFT_TYPE_IPV4, NFT_TYPE_ICMP_TYPE, NFT_TYPE_ICMP_CODE}},
	[SG_KIND_PROTOCOLS] = {{NFT_TYPE_IPV4, NFT_TYPE_PROTOCOL}},
};

// What each variant takes for the peer.
static const enum nft_field peer_fields[SG_VARIANT_COUNT] = {
	[SG_VARIANT_INGRESS] = NFT_FIELD_IP_SOURCE,
	[SG_VARIANT_BALANCED] = NFT_FIELD_CT_ORIGINAL_DESTINATION,
	[SG_VARIANT_EGRESS] = NFT_FIELD_IP_DESTINATION,
};

// --- Names ---

void sg_group_chain_name(const char *group_id, enum sg_variant variant, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, "group_%s_%s", group_id, sg_variant_name(variant));
}

struct nft_set sg_group_set_of(const char *group_id, enum sg_direction direction, enum sg_kind kind,
			       enum sg_set_life life, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, "group_%s_%s_%s%s", group_id, sg_direction_name(direction),
		 kind_names[kind], life == SG_SET_INTERIM ? INTERIM_SUFFIX : "");
	return (struct nft_set){.table = SG_TABLE,
				.name = name,
				.key = kind_keys[kind],
				.interval = true,
				.counter = true};
}

struct nft_set sg_group_members_of(const char *group_id, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, "group_%s_members", group_id);
	return (struct nft_set){.table = SG_TABLE, .name = name, .key = {{NFT_TYPE_IPV4}}};
}

// Ids have no underscore.
bool sg_group_name_split(const char *name, char ret_id[SG_ID_SIZE], const char **ret_rest)
{
	const char *end;

	if (strncmp(name, "group_", 6) != 0)
		return false;
	name += 6;
	end = strchr(name, '_');
	if (!end || end == name || end - name >= SG_ID_SIZE)
		return false;
	memcpy(ret_id, name, (size_t)(end - name));
	ret_id[end - name] = '\0';
	*ret_rest = end + 1;
	return true;
}

bool sg_group_set_parse(const char *rest, enum sg_direction *ret_direction, enum sg_kind *ret_kind,
			enum sg_set_life *ret_life)
{
	for (int i = 0; i < SG_GROUP_SETS; i++) {
		enum sg_direction direction = (enum sg_direction)(i / SG_KIND_COUNT);
		enum sg_kind kind = (enum sg_kind)(i % SG_KIND_COUNT);
		size_t length = strlen(sg_direction_name(direction));
		size_t kind_length = strlen(kind_names[kind]);
		const char *suffix = rest + length + 1 + kind_length;

		if (strncmp(rest, sg_direction_name(direction), length) != 0 ||
		    rest[length] != '_' ||
		    strncmp(rest + length + 1, kind_names[kind], kind_length) != 0 ||
		    (*suffix && strcmp(suffix, INTERIM_SUFFIX) != 0))
			continue;
		*ret_direction = direction;
		*ret_kind = kind;
		*ret_life = *suffix ? SG_SET_INTERIM : SG_SET_LASTING;
		return true;
	}
	return false;
}

// --- Elements ---

static void add_number(struct nft_value *value, enum sg_kind kind, const uint16_t numbers[2])
{
	nft_value_add_u8(value, (uint8_t)numbers[0]);
	if (kind == SG_KIND_PORTS)
		nft_value_add_port(value, numbers[1]);
	if (kind == SG_KIND_ICMP)
		nft_value_add_u8(value, (uint8_t)numbers[1]);
}

void sg_element_to_nft(const struct sg_element *element, struct nft_element *ret_element)
{
	*ret_element = (struct nft_element){.comment = element->rule_id};
	nft_value_add_ipv4(&ret_element->key, element->peer.base);
	add_number(&ret_element->key, element->kind, element->first);
	nft_value_add_ipv4(&ret_element->key_end,
			   element->peer.base | ~ipv4_mask(element->peer.prefix));
	add_number(&ret_element->key_end, element->kind, element->last);
}

static void read_numbers(const struct nft_value *value, enum sg_kind kind, uint16_t ret_numbers[2])
{
	ret_numbers[0] = value->bytes[4];
	ret_numbers[1] = 0;
	if (kind == SG_KIND_PORTS)
		ret_numbers[1] = nft_value_port_at(value, 8);
	if (kind == SG_KIND_ICMP)
		ret_numbers[1] = value->bytes[8];
}

struct sg_element sg_element_from_nft(enum sg_kind kind, const struct nft_element *element)
{
	struct sg_element read = {.kind = kind, .rule_id = element->comment};
	// The kernel leaves the end out where it is the start.
	const struct nft_value *end = element->key_end.length ? &element->key_end : &element->key;
	uint32_t wildcards = nft_value_ipv4_at(&element->key, 0) ^ nft_value_ipv4_at(end, 0);

	read.peer.base = nft_value_ipv4_at(&element->key, 0);
	read.peer.prefix = wildcards ? (unsigned)__builtin_clz(wildcards) : 32;
	read_numbers(&element->key, kind, read.first);
	read_numbers(end, kind, read.last);
	return read;
}

// Lists are sorted by kind: one operation for each run.
void sg_group_send_elements(struct nft_batch *batch, const char *group_id,
			    enum sg_direction direction, enum sg_set_life life,
			    const struct sg_element_list *list, sg_elements_operation *operation)
{
	scoped_free struct nft_element *elements = NULL;
	size_t start = 0;

	if (list->count == 0)
		return;
	elements = sg_allocate(list->count * sizeof(*elements));
	for (size_t i = 0; i < list->count; i++) {
		char name[NFT_NAME_SIZE];
		struct nft_set set;

		sg_element_to_nft(&list->elements[i], &elements[i]);
		if (i + 1 < list->count && list->elements[i + 1].kind == list->elements[i].kind)
			continue;
		set = sg_group_set_of(group_id, direction, list->elements[i].kind, life, name);
		operation(batch, &set, elements + start, i + 1 - start);
		start = i + 1;
	}
}

// --- Chains ---

static struct nft_rule *rule_start(const char *chain, const char *comment)
{
	struct nft_rule *rule = nft_rule_new(SG_TABLE, chain, comment);

	nft_match_number(rule, NFT_FIELD_FAMILY, NFT_CMP_EQ, NFPROTO_IPV4);
	return rule;
}

void sg_group_add_kind(struct nft_batch *batch, const char *group_id, enum sg_variant variant,
		       enum sg_kind kind, enum sg_set_life life)
{
	enum nft_field peer = peer_fields[variant];
	const struct nft_fields keys[SG_KIND_COUNT] = {
		[SG_KIND_PORTS] = {{peer, NFT_FIELD_PROTOCOL, NFT_FIELD_PORT_DESTINATION}},
		[SG_KIND_ICMP] = {{peer, NFT_FIELD_ICMP_TYPE, NFT_FIELD_ICMP_CODE}},
		[SG_KIND_PROTOCOLS] = {{peer, NFT_FIELD_PROTOCOL}},
	};
	char chain[NFT_NAME_SIZE], set[NFT_NAME_SIZE];
	struct nft_rule *rule;

	sg_group_chain_name(group_id, variant, chain);
	sg_group_set_of(group_id, sg_variant_direction(variant), kind, life, set);
	rule = rule_start(chain, NULL);
	if (kind == SG_KIND_ICMP)
		nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, IPPROTO_ICMP);
	nft_match_set(rule, keys[kind], set);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
}

static void match_protocol(struct nft_rule *rule, const struct sg_rule *reference)
{
	if (reference->protocol == SG_PROTOCOL_ALL)
		return;
	nft_match_number(rule, NFT_FIELD_PROTOCOL, NFT_CMP_EQ, (uint32_t)reference->protocol);
	switch (sg_rule_kind(reference)) {
	case SG_KIND_PORTS:
		nft_match_range(rule, NFT_FIELD_PORT_DESTINATION, (uint32_t)reference->from_port,
				(uint32_t)reference->to_port);
		return;
	case SG_KIND_ICMP:
		if (reference->from_port >= 0)
			nft_match_number(rule, NFT_FIELD_ICMP_TYPE, NFT_CMP_EQ,
					 (uint32_t)reference->from_port);
		if (reference->to_port >= 0)
			nft_match_number(rule, NFT_FIELD_ICMP_CODE, NFT_CMP_EQ,
					 (uint32_t)reference->to_port);
		return;
	default:
		return;
	}
}

// What stands in the kernel of a reference; all of it is in here, so two that say the same are.
char *sg_reference_comment(const struct sg_rule *reference)
{
	char text[SG_RULE_TEXT_SIZE], *comment;

	if (asprintf(&comment, "%s %s", reference->id, sg_rule_format(reference, text)) < 0)
		abort();
	// Ids of rules, and texts, are bounded so that it is never cut.
	static_assert(SG_RULE_ID_MAX + 1 + sizeof("icmp 255/255 ") + SG_ID_SIZE <=
				      NFT_COMMENT_SIZE &&
			      SG_RULE_ID_MAX + 1 + sizeof("tcp 65535-65535 ") + SG_ID_SIZE <=
				      NFT_COMMENT_SIZE,
		      "a reference fits a comment");
	return comment;
}

void sg_group_add_reference(struct nft_batch *batch, const char *group_id, enum sg_variant variant,
			    const struct sg_rule *reference)
{
	scoped_free char *comment = sg_reference_comment(reference);
	char chain[NFT_NAME_SIZE], members[NFT_NAME_SIZE];
	struct nft_rule *rule;

	sg_group_chain_name(group_id, variant, chain);
	sg_group_members_of(reference->group_id, members);
	rule = rule_start(chain, comment);
	nft_match_set(rule, NFT_FIELDS(peer_fields[variant]), members);
	match_protocol(rule, reference);
	nft_count(rule);
	nft_verdict(rule, NF_ACCEPT, NULL);
	nft_rule_add(batch, rule);
}

void sg_group_write_chain(struct nft_batch *batch, const struct sg_group_state *group,
			  enum sg_variant variant, const struct sg_compiled *compiled)
{
	unsigned kinds = group->kinds[sg_variant_direction(variant)];
	char chain[NFT_NAME_SIZE];

	sg_group_chain_name(group->id, variant, chain);
	nft_chain_flush(batch, SG_TABLE, chain);
	for (int kind = 0; kind < SG_KIND_COUNT; kind++)
		if (kinds & 1U << kind)
			sg_group_add_kind(batch, group->id, variant, (enum sg_kind)kind,
					  SG_SET_LASTING);
	for (size_t i = 0; i < compiled->reference_count; i++)
		sg_group_add_reference(batch, group->id, variant, compiled->references[i]);
}
