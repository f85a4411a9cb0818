// SPDX-License-Identifier: Apache-2.0
// Rules: a list of expressions that load into registers, compare, look up and decide.
//
// Registers are the 32-bit ones, from the first on: fields of a concatenation stand one after the
// other, each padded to 32 bit, as nft_value has them.
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>

#include "netif/nft_internal.h"

enum field_source { SOURCE_META, SOURCE_CT, SOURCE_LINK, SOURCE_NETWORK, SOURCE_TRANSPORT };

static const struct field {
	enum field_source source;
	uint32_t key;    // of meta and ct; of payloads the offset
	uint32_t length; // bytes
	bool network;    // byte order of numbers
} fields[NFT_FIELD_COUNT] = {
	[NFT_FIELD_IIFNAME] = {SOURCE_META, NFT_META_IIFNAME, IFNAMSIZ, false},
	[NFT_FIELD_OIFNAME] = {SOURCE_META, NFT_META_OIFNAME, IFNAMSIZ, false},
	[NFT_FIELD_IIFTYPE] = {SOURCE_META, NFT_META_IIFTYPE, 2, false},
	[NFT_FIELD_MARK] = {SOURCE_META, NFT_META_MARK, 4, false},
	[NFT_FIELD_FAMILY] = {SOURCE_META, NFT_META_NFPROTO, 1, false},
	[NFT_FIELD_PROTOCOL] = {SOURCE_META, NFT_META_L4PROTO, 1, false},
	[NFT_FIELD_ETHER_SOURCE] = {SOURCE_LINK, 6, 6, true},
	[NFT_FIELD_ETHER_TYPE] = {SOURCE_LINK, 12, 2, true},
	[NFT_FIELD_IP_SOURCE] = {SOURCE_NETWORK, 12, 4, true},
	[NFT_FIELD_IP_DESTINATION] = {SOURCE_NETWORK, 16, 4, true},
	[NFT_FIELD_FRAGMENT] = {SOURCE_NETWORK, 6, 2, true},
	[NFT_FIELD_PORT_DESTINATION] = {SOURCE_TRANSPORT, 2, 2, true},
	[NFT_FIELD_ICMP_TYPE] = {SOURCE_TRANSPORT, 0, 1, true},
	[NFT_FIELD_ICMP_CODE] = {SOURCE_TRANSPORT, 1, 1, true},
	// Behind the ICMP header (8 bytes): an IPv4 header, destination at 16.
	[NFT_FIELD_ICMP_ERROR_DESTINATION] = {SOURCE_TRANSPORT, 8 + 16, 4, true},
	[NFT_FIELD_CT_STATE] = {SOURCE_CT, NFT_CT_STATE, 4, false},
	[NFT_FIELD_CT_STATUS] = {SOURCE_CT, NFT_CT_STATUS, 4, false},
	[NFT_FIELD_CT_ORIGINAL_DESTINATION] = {SOURCE_CT, NFT_CT_DST_IP, 4, true},
};

static const uint32_t payload_bases[] = {
	[SOURCE_LINK] = NFT_PAYLOAD_LL_HEADER,
	[SOURCE_NETWORK] = NFT_PAYLOAD_NETWORK_HEADER,
	[SOURCE_TRANSPORT] = NFT_PAYLOAD_TRANSPORT_HEADER,
};

struct nft_rule {
	struct nftnl_rule *rule;
};

struct nft_rule *nft_rule_new(const char *table, const char *chain, const char *comment)
{
	struct nft_rule *rule = nft_require(malloc(sizeof(*rule)));
	struct nftnl_udata_buf *data = nft_comment_new(NFTNL_UDATA_RULE_COMMENT, comment);

	rule->rule = nft_require(nftnl_rule_alloc());
	nftnl_rule_set_str(rule->rule, NFTNL_RULE_TABLE, table);
	nftnl_rule_set_str(rule->rule, NFTNL_RULE_CHAIN, chain);
	if (data) {
		nftnl_rule_set_data(rule->rule, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(data),
				    nftnl_udata_buf_len(data));
		nftnl_udata_buf_free(data);
	}
	return rule;
}

static void rule_end(struct nft_batch *batch, struct nlmsghdr *message, struct nft_rule *rule)
{
	nftnl_rule_nlmsg_build_payload(message, rule->rule);
	nftnl_rule_free(rule->rule);
	free(rule);
	nft_message_end(batch, message);
}

void nft_rule_add(struct nft_batch *batch, struct nft_rule *rule)
{
	rule_end(batch, nft_message_start(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND),
		 rule);
}

// A rule message without a handle deletes all rules of the chain.
void nft_chain_flush(struct nft_batch *batch, const char *table, const char *chain)
{
	rule_end(batch, nft_message_start(batch, NFT_MSG_DELRULE, 0),
		 nft_rule_new(table, chain, NULL));
}

// --- Expressions ---

static struct nftnl_expr *expression(struct nft_rule *rule, const char *name)
{
	struct nftnl_expr *added = nft_require(nftnl_expr_alloc(name));

	nftnl_rule_add_expr(rule->rule, added);
	return added;
}

static uint32_t register_number(size_t word)
{
	return NFT_REG32_00 + (uint32_t)word;
}

static void load_meta(struct nft_rule *rule, uint32_t key, size_t word)
{
	struct nftnl_expr *load = expression(rule, "meta");

	nftnl_expr_set_u32(load, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(load, NFTNL_EXPR_META_DREG, register_number(word));
}

static void load_ct(struct nft_rule *rule, const struct field *field, size_t word)
{
	struct nftnl_expr *load = expression(rule, "ct");

	nftnl_expr_set_u32(load, NFTNL_EXPR_CT_KEY, field->key);
	nftnl_expr_set_u32(load, NFTNL_EXPR_CT_DREG, register_number(word));
	if (field->network) // addresses and ports are of one direction
		nftnl_expr_set_u8(load, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
}

static void load_payload(struct nft_rule *rule, const struct field *field, size_t word)
{
	struct nftnl_expr *load = expression(rule, "payload");

	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, payload_bases[field->source]);
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, field->key);
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, field->length);
	nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, register_number(word));
}

static void load(struct nft_rule *rule, enum nft_field name, size_t word)
{
	const struct field *field = &fields[name];

	if (field->source == SOURCE_META)
		load_meta(rule, field->key, word);
	else if (field->source == SOURCE_CT)
		load_ct(rule, field, word);
	else
		load_payload(rule, field, word);
}

static void load_key(struct nft_rule *rule, const struct nft_fields *key)
{
	size_t word = 0;

	for (size_t i = 0; i < NFT_KEY_FIELDS && key->fields[i] != NFT_FIELD_NONE; i++) {
		load(rule, key->fields[i], word);
		word += (fields[key->fields[i]].length + 3) / 4;
	}
}

static void compare(struct nft_rule *rule, enum nft_cmp_ops operation, const void *bytes,
		    size_t length)
{
	struct nftnl_expr *cmp = expression(rule, "cmp");

	nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, register_number(0));
	nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, operation);
	nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, bytes, (uint32_t)length);
}

// The number as the field has it in a register; returns the place in `word`.
static const void *number_bytes(const struct field *field, uint32_t number, uint32_t *word)
{
	uint8_t octet = (uint8_t)number;
	uint16_t half = field->network ? htons((uint16_t)number) : (uint16_t)number;
	uint32_t whole = field->network ? htonl(number) : number;
	const void *bytes = field->length == 1   ? (const void *)&octet
			    : field->length == 2 ? (const void *)&half
						 : (const void *)&whole;

	memcpy(word, bytes, field->length <= 4 ? field->length : 4);
	return word;
}

static void compare_number(struct nft_rule *rule, const struct field *field,
			   enum nft_cmp_ops operation, uint32_t number)
{
	uint32_t word = 0;

	compare(rule, operation, number_bytes(field, number, &word), field->length);
}

void nft_match_number(struct nft_rule *rule, enum nft_field field, enum nft_cmp_ops operation,
		      uint32_t number)
{
	load(rule, field, 0);
	compare_number(rule, &fields[field], operation, number);
}

void nft_match_range(struct nft_rule *rule, enum nft_field field, uint32_t first, uint32_t last)
{
	if (first == last) {
		nft_match_number(rule, field, NFT_CMP_EQ, first);
		return;
	}
	load(rule, field, 0);
	compare_number(rule, &fields[field], NFT_CMP_GTE, first);
	compare_number(rule, &fields[field], NFT_CMP_LTE, last);
}

void nft_match_ipv4(struct nft_rule *rule, enum nft_field field, enum nft_cmp_ops operation,
		    uint32_t address)
{
	nft_match_number(rule, field, operation, address);
}

void nft_match_bits(struct nft_rule *rule, enum nft_field name, uint32_t mask)
{
	const struct field *field = &fields[name];
	static const uint32_t zero;
	uint32_t word = 0;
	struct nftnl_expr *bitwise;

	load(rule, name, 0);
	bitwise = expression(rule, "bitwise");
	nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_SREG, register_number(0));
	nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_DREG, register_number(0));
	nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_LEN, field->length);
	nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_MASK, number_bytes(field, mask, &word),
		       field->length);
	nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_XOR, &zero, field->length);
	compare(rule, NFT_CMP_NEQ, &zero, field->length);
}

void nft_match_interface(struct nft_rule *rule, enum nft_field field, enum nft_cmp_ops operation,
			 const char *name)
{
	char padded[IFNAMSIZ] = {0};

	memcpy(padded, name, strnlen(name, IFNAMSIZ - 1));
	load(rule, field, 0);
	compare(rule, operation, padded, sizeof(padded));
}

void nft_match_interface_prefix(struct nft_rule *rule, enum nft_field field,
				enum nft_cmp_ops operation, const char *prefix)
{
	load(rule, field, 0);
	compare(rule, operation, prefix, strnlen(prefix, IFNAMSIZ - 1));
}

// `destination`: register of the data, or negative for a set.
static void look_up(struct nft_rule *rule, const char *set, int destination)
{
	struct nftnl_expr *lookup = expression(rule, "lookup");

	nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, register_number(0));
	nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, set);
	if (destination >= 0)
		nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_DREG, (uint32_t)destination);
}

void nft_match_set(struct nft_rule *rule, struct nft_fields key, const char *set)
{
	load_key(rule, &key);
	look_up(rule, set, -1);
}

void nft_match_no_reverse_path(struct nft_rule *rule)
{
	struct nftnl_expr *fib = expression(rule, "fib");

	// With "present" the result is one byte: whether there is such an interface.
	nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_FLAGS,
			   NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT);
	nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_OIF);
	nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_DREG, register_number(0));
	compare(rule, NFT_CMP_EQ, &(uint8_t){0}, sizeof(uint8_t));
}

// The element of the key, added if it is not there, has a copy of `state`, which then decides.
static void match_dynamic(struct nft_rule *rule, const struct nft_fields *key, const char *set,
			  enum nft_dynset_ops operation, struct nftnl_expr *state)
{
	struct nftnl_expr *dynamic;

	load_key(rule, key);
	dynamic = expression(rule, "dynset");
	nftnl_expr_set_u32(dynamic, NFTNL_EXPR_DYNSET_SREG_KEY, register_number(0));
	nftnl_expr_set_u32(dynamic, NFTNL_EXPR_DYNSET_OP, operation);
	nftnl_expr_set_str(dynamic, NFTNL_EXPR_DYNSET_SET_NAME, set);
	nftnl_expr_set(dynamic, NFTNL_EXPR_DYNSET_EXPR, state, 0); // owned by `dynamic` now
}

void nft_match_over_rate(struct nft_rule *rule, struct nft_fields key, const char *set,
			 uint32_t packets_per_second, uint32_t burst)
{
	struct nftnl_expr *limit = nft_require(nftnl_expr_alloc("limit"));

	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, packets_per_second);
	nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, 1); // seconds
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_BURST, burst);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
	match_dynamic(rule, &key, set, NFT_DYNSET_OP_UPDATE, limit); // renews the timeout
}

void nft_match_over_connections(struct nft_rule *rule, struct nft_fields key, const char *set,
				uint32_t limit)
{
	struct nftnl_expr *count = nft_require(nftnl_expr_alloc("connlimit"));

	nftnl_expr_set_u32(count, NFTNL_EXPR_CONNLIMIT_COUNT, limit);
	nftnl_expr_set_u32(count, NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
	match_dynamic(rule, &key, set, NFT_DYNSET_OP_ADD, count);
}

static void store_mark(struct nft_rule *rule)
{
	struct nftnl_expr *store = expression(rule, "meta");

	nftnl_expr_set_u32(store, NFTNL_EXPR_META_KEY, NFT_META_MARK);
	nftnl_expr_set_u32(store, NFTNL_EXPR_META_SREG, register_number(0));
}

void nft_mark_from_map(struct nft_rule *rule, struct nft_fields key, const char *map)
{
	load_key(rule, &key);
	look_up(rule, map, (int)register_number(0));
	store_mark(rule);
}

static void immediate(struct nft_rule *rule, size_t word, const void *bytes, uint32_t length)
{
	struct nftnl_expr *constant = expression(rule, "immediate");

	nftnl_expr_set_u32(constant, NFTNL_EXPR_IMM_DREG, register_number(word));
	nftnl_expr_set(constant, NFTNL_EXPR_IMM_DATA, bytes, length);
}

void nft_mark_set(struct nft_rule *rule, uint32_t mark)
{
	immediate(rule, 0, &mark, sizeof(mark));
	store_mark(rule);
}

void nft_verdict_from_map(struct nft_rule *rule, struct nft_fields key, const char *map)
{
	load_key(rule, &key);
	look_up(rule, map, NFT_REG_VERDICT);
}

void nft_count(struct nft_rule *rule)
{
	expression(rule, "counter");
}

void nft_count_named(struct nft_rule *rule, const char *name)
{
	struct nftnl_expr *reference = expression(rule, "objref");

	nftnl_expr_set_u32(reference, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
	nftnl_expr_set_str(reference, NFTNL_EXPR_OBJREF_IMM_NAME, name);
}

void nft_verdict(struct nft_rule *rule, int verdict, const char *chain)
{
	struct nftnl_expr *decision = expression(rule, "immediate");

	nftnl_expr_set_u32(decision, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(decision, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
	if (chain)
		nftnl_expr_set_str(decision, NFTNL_EXPR_IMM_CHAIN, chain);
}

// --- NAT ---

// Address in the first register; `port` says that its port stands in the second.
static void translate(struct nft_rule *rule, uint32_t type, bool port)
{
	struct nftnl_expr *nat = expression(rule, "nat");

	nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_TYPE, type);
	nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4);
	nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_ADDR_MIN, register_number(0));
	if (!port)
		return;
	nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_PROTO_MIN, register_number(1));
	nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
}

void nft_dnat(struct nft_rule *rule, uint32_t address, uint16_t port)
{
	immediate(rule, 0, &(uint32_t){htonl(address)}, sizeof(address));
	immediate(rule, 1, &(uint16_t){htons(port)}, sizeof(port));
	translate(rule, NFT_NAT_DNAT, true);
}

void nft_dnat_round_robin(struct nft_rule *rule, uint32_t modulus, const char *map)
{
	struct nftnl_expr *number = expression(rule, "numgen");

	nftnl_expr_set_u32(number, NFTNL_EXPR_NG_DREG, register_number(0));
	nftnl_expr_set_u32(number, NFTNL_EXPR_NG_TYPE, NFT_NG_INCREMENTAL);
	nftnl_expr_set_u32(number, NFTNL_EXPR_NG_MODULUS, modulus);
	nftnl_expr_set_u32(number, NFTNL_EXPR_NG_OFFSET, 0);
	look_up(rule, map, (int)register_number(0));
	translate(rule, NFT_NAT_DNAT, true);
}

void nft_snat(struct nft_rule *rule, uint32_t address)
{
	immediate(rule, 0, &(uint32_t){htonl(address)}, sizeof(address));
	translate(rule, NFT_NAT_SNAT, false);
}
