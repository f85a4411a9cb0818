// SPDX-License-Identifier: Apache-2.0
// Operations on tables, chains, counters, sets and elements.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#include "agent/base/scope.h"
#include "netif/nft_internal.h"

// What nft(8) knows of a type: its number, size and byte order, so that it can print the sets.
static const struct type {
	uint32_t number; // enum datatypes of nftables' datatype.h
	uint32_t length;
	uint32_t order; // 1: host, 2: network
} types[NFT_TYPE_COUNT] = {
	[NFT_TYPE_VERDICT] = {NFT_DATA_VERDICT, 0, 0},
	[NFT_TYPE_IFNAME] = {41, IFNAMSIZ, 1},
	[NFT_TYPE_ETHER] = {9, 6, 2},
	[NFT_TYPE_IPV4] = {7, 4, 2},
	[NFT_TYPE_PROTOCOL] = {12, 1, 2},
	[NFT_TYPE_PORT] = {13, 2, 2},
	[NFT_TYPE_ICMP_TYPE] = {14, 1, 2},
	[NFT_TYPE_ICMP_CODE] = {32, 1, 2},
	[NFT_TYPE_MARK] = {19, 4, 1},
	[NFT_TYPE_CT_STATE] = {26, 4, 1},
	[NFT_TYPE_NUMBER] = {19, 4, 1}, // as a mark: nft cannot name a set of plain integers
};

enum { NFT_TYPE_BITS = 6 }; // of one type in the number of a concatenation

static size_t types_count(const struct nft_types *key)
{
	size_t count = 0;

	while (count < NFT_KEY_FIELDS && key->types[count] != NFT_TYPE_NONE)
		count++;
	return count;
}

static uint32_t padded(uint32_t length)
{
	return (length + 3) & ~3U;
}

size_t nft_types_length(const struct nft_types *key)
{
	size_t count = types_count(key), length = 0;

	if (count == 1)
		return types[key->types[0]].length;
	for (size_t i = 0; i < count; i++)
		length += padded(types[key->types[i]].length);
	return length;
}

static uint32_t types_number(const struct nft_types *key)
{
	uint32_t number = 0;

	for (size_t i = 0; i < types_count(key); i++)
		number = number << NFT_TYPE_BITS | types[key->types[i]].number;
	return number;
}

// --- Values ---

static void value_add(struct nft_value *value, const void *bytes, size_t length)
{
	if (value->length + padded((uint32_t)length) > sizeof(value->bytes))
		abort(); // no set has such a key
	memcpy(value->bytes + value->length, bytes, length);
	value->length = (uint8_t)(value->length + padded((uint32_t)length));
}

void nft_value_add_ifname(struct nft_value *value, const char *name)
{
	char padded_name[IFNAMSIZ] = {0};

	memcpy(padded_name, name, strnlen(name, IFNAMSIZ - 1));
	value_add(value, padded_name, sizeof(padded_name));
}

void nft_value_add_ether(struct nft_value *value, const struct mac_address *mac)
{
	value_add(value, mac->bytes, sizeof(mac->bytes));
}

void nft_value_add_ipv4(struct nft_value *value, uint32_t address)
{
	value_add(value, &(uint32_t){htonl(address)}, sizeof(address));
}

void nft_value_add_u8(struct nft_value *value, uint8_t number)
{
	value_add(value, &number, sizeof(number));
}

void nft_value_add_port(struct nft_value *value, uint16_t port)
{
	value_add(value, &(uint16_t){htons(port)}, sizeof(port));
}

void nft_value_add_u32(struct nft_value *value, uint32_t number)
{
	value_add(value, &number, sizeof(number));
}

uint32_t nft_value_ipv4_at(const struct nft_value *value, size_t offset)
{
	uint32_t address;

	memcpy(&address, value->bytes + offset, sizeof(address));
	return ntohl(address);
}

uint16_t nft_value_port_at(const struct nft_value *value, size_t offset)
{
	uint16_t port;

	memcpy(&port, value->bytes + offset, sizeof(port));
	return ntohs(port);
}

// --- Comments ---

struct nftnl_udata_buf *nft_comment_new(uint8_t type, const char *comment)
{
	char text[NFT_COMMENT_SIZE] = {0};
	struct nftnl_udata_buf *data;

	if (!comment || !*comment)
		return NULL;
	memcpy(text, comment, strnlen(comment, sizeof(text) - 1));
	data = nft_require(nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN));
	nftnl_udata_put_strz(data, type, text);
	return data;
}

void nft_comment_read(const void *data, uint32_t length, uint8_t type,
		      char ret_comment[NFT_COMMENT_SIZE])
{
	const char *bytes = data;
	const struct nftnl_udata *attribute;

	memset(ret_comment, 0, NFT_COMMENT_SIZE);
	for (uint32_t at = 0; at + 2 <= length; at += 2U + nftnl_udata_len(attribute)) {
		uint8_t size;

		attribute = (const void *)(bytes + at);
		size = nftnl_udata_len(attribute);
		if (at + 2U + size > length)
			return;
		if (nftnl_udata_type(attribute) != type)
			continue;
		memcpy(ret_comment, nftnl_udata_get(attribute),
		       size < NFT_COMMENT_SIZE ? size : NFT_COMMENT_SIZE - 1);
		ret_comment[NFT_COMMENT_SIZE - 1] = '\0';
		return;
	}
}

// --- Tables ---

static void table_operation(struct nft_batch *batch, uint16_t type, uint16_t flags,
			    const char *name, const char *comment)
{
	struct nlmsghdr *message = nft_message_start(batch, type, flags);
	struct nftnl_table *table = nft_require(nftnl_table_alloc());
	struct nftnl_udata_buf *data = nft_comment_new(NFTNL_UDATA_TABLE_COMMENT, comment);

	nftnl_table_set_str(table, NFTNL_TABLE_NAME, name);
	if (data) {
		nftnl_table_set_data(table, NFTNL_TABLE_USERDATA, nftnl_udata_buf_data(data),
				     nftnl_udata_buf_len(data));
		nftnl_udata_buf_free(data);
	}
	nftnl_table_nlmsg_build_payload(message, table);
	nftnl_table_free(table);
	nft_message_end(batch, message);
}

void nft_table_add(struct nft_batch *batch, const char *table, const char *comment)
{
	table_operation(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, table, comment);
}

void nft_table_delete(struct nft_batch *batch, const char *table)
{
	table_operation(batch, NFT_MSG_DELTABLE, 0, table, NULL);
}

// --- Chains ---

static struct nftnl_chain *chain_new(const char *table, const char *name)
{
	struct nftnl_chain *chain = nft_require(nftnl_chain_alloc());

	nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, table);
	nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, name);
	return chain;
}

static void chain_end(struct nft_batch *batch, struct nlmsghdr *message, struct nftnl_chain *chain)
{
	nftnl_chain_nlmsg_build_payload(message, chain);
	nftnl_chain_free(chain);
	nft_message_end(batch, message);
}

void nft_chain_add(struct nft_batch *batch, const struct nft_chain *chain)
{
	struct nlmsghdr *message = nft_message_start(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	struct nftnl_chain *object = chain_new(chain->table, chain->name);
	struct nftnl_udata_buf *data = nft_comment_new(NFTNL_UDATA_CHAIN_COMMENT, chain->comment);

	if (chain->base) {
		nftnl_chain_set_str(object, NFTNL_CHAIN_TYPE, chain->type ?: "filter");
		nftnl_chain_set_u32(object, NFTNL_CHAIN_HOOKNUM, chain->hook);
		nftnl_chain_set_s32(object, NFTNL_CHAIN_PRIO, chain->priority);
		nftnl_chain_set_u32(object, NFTNL_CHAIN_POLICY, chain->policy);
	}
	if (data) {
		nftnl_chain_set_data(object, NFTNL_CHAIN_USERDATA, nftnl_udata_buf_data(data),
				     nftnl_udata_buf_len(data));
		nftnl_udata_buf_free(data);
	}
	chain_end(batch, message, object);
}

void nft_chain_delete(struct nft_batch *batch, const char *table, const char *chain)
{
	struct nlmsghdr *message = nft_message_start(batch, NFT_MSG_DELCHAIN, 0);

	chain_end(batch, message, chain_new(table, chain));
}

// --- Counters ---

void nft_counter_add(struct nft_batch *batch, const char *table, const char *name)
{
	struct nlmsghdr *message = nft_message_start(batch, NFT_MSG_NEWOBJ, NLM_F_CREATE);
	struct nftnl_obj *counter = nft_require(nftnl_obj_alloc());

	nftnl_obj_set_str(counter, NFTNL_OBJ_TABLE, table);
	nftnl_obj_set_str(counter, NFTNL_OBJ_NAME, name);
	nftnl_obj_set_u32(counter, NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
	nftnl_obj_set_u64(counter, NFTNL_OBJ_CTR_PKTS, 0);
	nftnl_obj_set_u64(counter, NFTNL_OBJ_CTR_BYTES, 0);
	nftnl_obj_nlmsg_build_payload(message, counter);
	nftnl_obj_free(counter);
	nft_message_end(batch, message);
}

// --- Sets ---

static struct nftnl_set *set_new(const char *table, const char *name)
{
	struct nftnl_set *set = nft_require(nftnl_set_alloc());

	nftnl_set_set_str(set, NFTNL_SET_TABLE, table);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	return set;
}

static void set_describe_key(struct nftnl_set *object, const struct nft_set *set)
{
	uint8_t lengths[NFT_KEY_FIELDS];
	size_t count = types_count(&set->key);
	uint32_t flags = set->data.types[0] != NFT_TYPE_NONE ? NFT_SET_MAP : 0;

	nftnl_set_set_u32(object, NFTNL_SET_KEY_TYPE, types_number(&set->key));
	nftnl_set_set_u32(object, NFTNL_SET_KEY_LEN, (uint32_t)nft_types_length(&set->key));
	if (set->interval) {
		// Only concatenations take both ends of a range in one element.
		if (count < 2)
			abort();
		flags |= NFT_SET_INTERVAL | NFT_SET_CONCAT;
		for (size_t i = 0; i < count; i++)
			lengths[i] = (uint8_t)types[set->key.types[i]].length;
		nftnl_set_set_data(object, NFTNL_SET_DESC_CONCAT, lengths, (uint32_t)count);
	}
	if (set->dynamic_size) {
		flags |= NFT_SET_EVAL;
		nftnl_set_set_u32(object, NFTNL_SET_DESC_SIZE, set->dynamic_size);
	}
	if (set->timeout_ms) {
		flags |= NFT_SET_TIMEOUT;
		nftnl_set_set_u64(object, NFTNL_SET_TIMEOUT, set->timeout_ms);
	}
	nftnl_set_set_u32(object, NFTNL_SET_FLAGS, flags);
}

static void set_describe_data(struct nftnl_set *object, const struct nft_set *set)
{
	if (set->data.types[0] == NFT_TYPE_NONE)
		return;
	nftnl_set_set_u32(object, NFTNL_SET_DATA_TYPE, types_number(&set->data));
	nftnl_set_set_u32(object, NFTNL_SET_DATA_LEN, (uint32_t)nft_types_length(&set->data));
}

// Byte orders (without them nft prints numbers of host order swapped) and comment.
static void set_describe_userdata(struct nftnl_set *object, const struct nft_set *set)
{
	struct nftnl_udata_buf *data = nft_require(nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN));
	char comment[NFT_COMMENT_SIZE] = {0};

	if (types_count(&set->key) == 1)
		nftnl_udata_put_u32(data, NFTNL_UDATA_SET_KEYBYTEORDER,
				    types[set->key.types[0]].order);
	if (types_count(&set->data) == 1)
		nftnl_udata_put_u32(data, NFTNL_UDATA_SET_DATABYTEORDER,
				    types[set->data.types[0]].order);
	if (set->comment) {
		memcpy(comment, set->comment, strnlen(set->comment, sizeof(comment) - 1));
		nftnl_udata_put_strz(data, NFTNL_UDATA_SET_COMMENT, comment);
	}
	nftnl_set_set_data(object, NFTNL_SET_USERDATA, nftnl_udata_buf_data(data),
			   nftnl_udata_buf_len(data));
	nftnl_udata_buf_free(data);
}

void nft_set_add(struct nft_batch *batch, const struct nft_set *set)
{
	struct nlmsghdr *message = nft_message_start(batch, NFT_MSG_NEWSET, NLM_F_CREATE);
	struct nftnl_set *object = set_new(set->table, set->name);

	set_describe_key(object, set);
	set_describe_data(object, set);
	set_describe_userdata(object, set);
	nftnl_set_set_u32(object, NFTNL_SET_ID, ++batch->set_id);
	if (set->counter)
		nftnl_set_add_expr(object, nft_require(nftnl_expr_alloc("counter")));
	nftnl_set_nlmsg_build_payload(message, object);
	nftnl_set_free(object);
	nft_message_end(batch, message);
}

void nft_set_delete(struct nft_batch *batch, const char *table, const char *set)
{
	struct nlmsghdr *message = nft_message_start(batch, NFT_MSG_DELSET, 0);
	struct nftnl_set *object = set_new(table, set);

	nftnl_set_nlmsg_build_payload(message, object);
	nftnl_set_free(object);
	nft_message_end(batch, message);
}

// --- Elements ---

static struct nftnl_set_elem *element_key(const struct nft_set *set,
					  const struct nft_element *element)
{
	struct nftnl_set_elem *object = nft_require(nftnl_set_elem_alloc());
	uint32_t length = (uint32_t)nft_types_length(&set->key);

	nftnl_set_elem_set(object, NFTNL_SET_ELEM_KEY, element->key.bytes, length);
	if (element->key_end.length)
		nftnl_set_elem_set(object, NFTNL_SET_ELEM_KEY_END, element->key_end.bytes, length);
	return object;
}

static struct nftnl_set_elem *element_whole(const struct nft_set *set,
					    const struct nft_element *element)
{
	struct nftnl_set_elem *object = element_key(set, element);
	struct nftnl_udata_buf *data =
		nft_comment_new(NFTNL_UDATA_SET_ELEM_COMMENT, element->comment);

	if (set->data.types[0] == NFT_TYPE_VERDICT) {
		nftnl_set_elem_set_u32(object, NFTNL_SET_ELEM_VERDICT, (uint32_t)element->verdict);
		if (element->chain)
			nftnl_set_elem_set_str(object, NFTNL_SET_ELEM_CHAIN, element->chain);
	} else if (set->data.types[0] != NFT_TYPE_NONE) {
		nftnl_set_elem_set(object, NFTNL_SET_ELEM_DATA, element->data.bytes,
				   (uint32_t)nft_types_length(&set->data));
	}
	if (data) {
		nftnl_set_elem_set(object, NFTNL_SET_ELEM_USERDATA, nftnl_udata_buf_data(data),
				   nftnl_udata_buf_len(data));
		nftnl_udata_buf_free(data);
	}
	return object;
}

static void elements_operation(struct nft_batch *batch, uint16_t type, uint16_t flags,
			       const struct nft_set *set, const struct nft_element *elements,
			       size_t count)
{
	struct nlmsghdr *message = nft_message_start(batch, type, flags);
	struct nftnl_set *object = set_new(set->table, set->name);

	for (size_t i = 0; i < count; i++)
		nftnl_set_elem_add(object, type == NFT_MSG_NEWSETELEM
						   ? element_whole(set, &elements[i])
						   : element_key(set, &elements[i]));
	nftnl_set_elems_nlmsg_build_payload(message, object);
	nftnl_set_free(object);
	nft_message_end(batch, message);
}

static void elements_chunks(struct nft_batch *batch, uint16_t type, uint16_t flags,
			    const struct nft_set *set, const struct nft_element *elements,
			    size_t count)
{
	for (size_t at = 0; at < count; at += NFT_ELEMENTS_PER_MESSAGE) {
		size_t chunk = count - at < NFT_ELEMENTS_PER_MESSAGE ? count - at
								     : NFT_ELEMENTS_PER_MESSAGE;

		elements_operation(batch, type, flags, set, elements + at, chunk);
	}
}

void nft_elements_add(struct nft_batch *batch, const struct nft_set *set,
		      const struct nft_element *elements, size_t count)
{
	elements_chunks(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, set, elements, count);
}

void nft_elements_delete(struct nft_batch *batch, const struct nft_set *set,
			 const struct nft_element *elements, size_t count)
{
	elements_chunks(batch, NFT_MSG_DELSETELEM, 0, set, elements, count);
}

// An element message without elements deletes them all.
void nft_set_flush(struct nft_batch *batch, const char *table, const char *set)
{
	elements_operation(batch, NFT_MSG_DELSETELEM, 0,
			   &(struct nft_set){.table = table, .name = set}, NULL, 0);
}
