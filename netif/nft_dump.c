// SPDX-License-Identifier: Apache-2.0
// Dumps: one request, replies until NLMSG_DONE. Changes in between are noticed by the kernel
// (NLM_F_DUMP_INTR); then the dump is taken again, but only after its end: a socket dumps one
// thing at a time, and refuses the next until then. (mnl_cb_run() would leave at the notice.)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "netif/nft_internal.h"

enum { DUMP_ATTEMPTS = 8, REQUEST_SIZE = 4096, REPLY_SIZE = 64 * 1024 };

// A growing array of items of one size.
struct list {
	char *items;
	size_t count, capacity, item_size;
};

struct dump {
	int (*take)(const struct nlmsghdr *reply, struct dump *dump);
	struct list list;
	const struct nft_set *set; // of elements
	struct arena strings;      // likewise
	const char *table;         // wanted, or NULL
	bool interrupted, done;
	int status; // negative errno: the first failure
};

static void *list_add(struct list *list)
{
	void *item;

	if (list->count == list->capacity) {
		list->capacity = list->capacity ? list->capacity * 2 : 32;
		list->items =
			nft_require(reallocarray(list->items, list->capacity, list->item_size));
	}
	item = list->items + list->count++ * list->item_size;
	memset(item, 0, list->item_size);
	return item;
}

static void dump_failed(struct dump *dump, int status)
{
	if (dump->status == 0)
		dump->status = status;
}

static void dump_reply(const struct nlmsghdr *reply, struct dump *dump)
{
	int code = 0; // what both kinds of end begin with

	if (reply->nlmsg_flags & NLM_F_DUMP_INTR)
		dump->interrupted = true;
	switch (reply->nlmsg_type) {
	case NLMSG_ERROR:
	case NLMSG_DONE:
		if (mnl_nlmsg_get_payload_len(reply) >= sizeof(code))
			memcpy(&code, mnl_nlmsg_get_payload(reply), sizeof(code));
		dump_failed(dump, code);
		dump->done = true;
		return;
	case NLMSG_NOOP:
		return;
	default:
		if (dump->take(reply, dump) < 0)
			dump_failed(dump, -EBADMSG);
	}
}

static int dump_receive(int socket_fd, uint32_t sequence, struct dump *dump)
{
	scoped_free char *bytes = nft_require(malloc(REPLY_SIZE));

	while (!dump->done) {
		ssize_t received = recv(socket_fd, bytes, REPLY_SIZE, 0);
		int left = (int)received;

		if (received < 0 && errno == EINTR)
			continue;
		if (received < 0 && errno == ENOBUFS) { // something is lost, but not the end
			dump->interrupted = true;
			continue;
		}
		if (received <= 0)
			return received < 0 ? -errno : -EPIPE;
		for (const struct nlmsghdr *reply = (void *)bytes; mnl_nlmsg_ok(reply, left);
		     reply = mnl_nlmsg_next(reply, &left))
			// Others answer an earlier request on this socket.
			if (reply->nlmsg_seq == sequence)
				dump_reply(reply, dump);
	}
	return dump->status;
}

static int dump_once(int socket_fd, struct nlmsghdr *request, struct dump *dump)
{
	static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	dump->list.count = 0;
	arena_release(&dump->strings);
	dump->interrupted = dump->done = false;
	dump->status = 0;
	request->nlmsg_seq = (uint32_t)clock_monotonic_us();
	if (sendto(socket_fd, request, request->nlmsg_len, 0, (const struct sockaddr *)&kernel,
		   sizeof(kernel)) < 0)
		return -errno;
	return dump_receive(socket_fd, request->nlmsg_seq, dump);
}

// `what` is for the message. On failure the list is freed.
static int dump_run(int socket_fd, struct nlmsghdr *request, struct dump *dump, const char *what,
		    struct error *err)
{
	int status = 0;

	for (int attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
		status = dump_once(socket_fd, request, dump);
		if (status == 0 && !dump->interrupted)
			return 0;
		if (status != 0)
			break;
	}
	free(dump->list.items);
	dump->list = (struct list){0};
	arena_release(&dump->strings);
	return error_code(err, status ? status : -EAGAIN, "list %s", what);
}

static void copy_name(char name[NFT_NAME_SIZE], const char *text)
{
	if (text)
		memcpy(name, text, strnlen(text, NFT_NAME_SIZE - 1));
}

// --- Elements ---

static void counter_read(struct nftnl_expr *expression, uint64_t *ret_packets, uint64_t *ret_bytes)
{
	if (strcmp(nftnl_expr_get_str(expression, NFTNL_EXPR_NAME), "counter") != 0)
		return;
	*ret_packets = nftnl_expr_get_u64(expression, NFTNL_EXPR_CTR_PACKETS);
	*ret_bytes = nftnl_expr_get_u64(expression, NFTNL_EXPR_CTR_BYTES);
}

static void value_read(struct nftnl_set_elem *object, uint16_t attribute, struct nft_value *value)
{
	uint32_t length = 0;
	const void *bytes = nftnl_set_elem_is_set(object, attribute)
				    ? nftnl_set_elem_get(object, attribute, &length)
				    : NULL;

	if (!bytes || length > sizeof(value->bytes))
		return;
	memcpy(value->bytes, bytes, length);
	value->length = (uint8_t)((length + 3) & ~3U);
}

static void verdict_read(struct nftnl_set_elem *object, struct nft_element *element,
			 struct arena *strings)
{
	element->verdict = (int)nftnl_set_elem_get_u32(object, NFTNL_SET_ELEM_VERDICT);
	if (nftnl_set_elem_is_set(object, NFTNL_SET_ELEM_CHAIN))
		element->chain =
			arena_strdup(strings, nftnl_set_elem_get_str(object, NFTNL_SET_ELEM_CHAIN));
}

static void element_read(struct nftnl_set_elem *object, struct dump *dump,
			 struct nft_element *element)
{
	char comment[NFT_COMMENT_SIZE];
	uint32_t length = 0;
	const void *data = nftnl_set_elem_get(object, NFTNL_SET_ELEM_USERDATA, &length);

	nft_comment_read(data, data ? length : 0, NFTNL_UDATA_SET_ELEM_COMMENT, comment);
	element->comment = comment[0] ? arena_strdup(&dump->strings, comment) : "";
	value_read(object, NFTNL_SET_ELEM_KEY, &element->key);
	value_read(object, NFTNL_SET_ELEM_KEY_END, &element->key_end);
	if (dump->set->data.types[0] == NFT_TYPE_VERDICT)
		verdict_read(object, element, &dump->strings);
	else
		value_read(object, NFTNL_SET_ELEM_DATA, &element->data);
	if (nftnl_set_elem_is_set(object, NFTNL_SET_ELEM_EXPR))
		counter_read(
			(void *)(uintptr_t)nftnl_set_elem_get(object, NFTNL_SET_ELEM_EXPR, &length),
			&element->packets, &element->bytes);
}

static int element_take(struct nftnl_set_elem *object, void *context)
{
	struct dump *dump = context;

	element_read(object, dump, list_add(&dump->list));
	return 0;
}

static int elements_take(const struct nlmsghdr *reply, struct dump *dump)
{
	struct nftnl_set *set = nft_require(nftnl_set_alloc());
	int status = nftnl_set_elems_nlmsg_parse(reply, set);

	if (status == 0)
		nftnl_set_elem_foreach(set, element_take, dump);
	nftnl_set_free(set);
	return status;
}

int nft_elements_dump(int socket_fd, const struct nft_set *set, struct nft_element_list *ret_list,
		      struct error *err)
{
	char bytes[REQUEST_SIZE] = {0}; // padding of attributes included
	struct nlmsghdr *request =
		nftnl_nlmsg_build_hdr(bytes, NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP, 0);
	struct dump dump = {
		.take = elements_take, .list.item_size = sizeof(struct nft_element), .set = set};

	mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_TABLE, set->table);
	mnl_attr_put_strz(request, NFTA_SET_ELEM_LIST_SET, set->name);
	if (dump_run(socket_fd, request, &dump, set->name, err) < 0)
		return -err->code;
	*ret_list = (struct nft_element_list){.elements = (void *)dump.list.items,
					      .count = dump.list.count,
					      .strings = dump.strings};
	return 0;
}

void nft_element_list_release(struct nft_element_list *list)
{
	free(list->elements);
	arena_release(&list->strings);
	*list = (struct nft_element_list){0};
}

// --- Tables, chains, sets, counters ---

static bool wanted(const struct dump *dump, const char *table)
{
	return !dump->table || (table && strcmp(dump->table, table) == 0);
}

static int table_take(const struct nlmsghdr *reply, struct dump *dump)
{
	struct nftnl_table *table = nft_require(nftnl_table_alloc());
	int status = nftnl_table_nlmsg_parse(reply, table);

	if (status == 0) {
		struct nft_object *object = list_add(&dump->list);
		uint32_t length = 0;
		const void *data = nftnl_table_get_data(table, NFTNL_TABLE_USERDATA, &length);

		copy_name(object->table, nftnl_table_get_str(table, NFTNL_TABLE_NAME));
		copy_name(object->name, nftnl_table_get_str(table, NFTNL_TABLE_NAME));
		nft_comment_read(data, length, NFTNL_UDATA_TABLE_COMMENT, object->comment);
	}
	nftnl_table_free(table);
	return status;
}

static int chain_take(const struct nlmsghdr *reply, struct dump *dump)
{
	struct nftnl_chain *chain = nft_require(nftnl_chain_alloc());
	int status = nftnl_chain_nlmsg_parse(reply, chain);

	if (status == 0 && wanted(dump, nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE))) {
		struct nft_object *object = list_add(&dump->list);
		uint32_t length = 0;
		const void *data = nftnl_chain_get_data(chain, NFTNL_CHAIN_USERDATA, &length);

		copy_name(object->table, nftnl_chain_get_str(chain, NFTNL_CHAIN_TABLE));
		copy_name(object->name, nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
		nft_comment_read(data, length, NFTNL_UDATA_CHAIN_COMMENT, object->comment);
	}
	nftnl_chain_free(chain);
	return status;
}

static int set_take(const struct nlmsghdr *reply, struct dump *dump)
{
	struct nftnl_set *set = nft_require(nftnl_set_alloc());
	int status = nftnl_set_nlmsg_parse(reply, set);

	if (status == 0 && wanted(dump, nftnl_set_get_str(set, NFTNL_SET_TABLE))) {
		struct nft_object *object = list_add(&dump->list);
		uint32_t length = 0;
		const void *data = nftnl_set_get_data(set, NFTNL_SET_USERDATA, &length);

		copy_name(object->table, nftnl_set_get_str(set, NFTNL_SET_TABLE));
		copy_name(object->name, nftnl_set_get_str(set, NFTNL_SET_NAME));
		nft_comment_read(data, length, NFTNL_UDATA_SET_COMMENT, object->comment);
	}
	nftnl_set_free(set);
	return status;
}

static int counter_take(const struct nlmsghdr *reply, struct dump *dump)
{
	struct nftnl_obj *counter = nft_require(nftnl_obj_alloc());
	int status = nftnl_obj_nlmsg_parse(reply, counter);

	if (status == 0 && wanted(dump, nftnl_obj_get_str(counter, NFTNL_OBJ_TABLE)) &&
	    nftnl_obj_get_u32(counter, NFTNL_OBJ_TYPE) == NFT_OBJECT_COUNTER) {
		struct nft_object *object = list_add(&dump->list);

		copy_name(object->table, nftnl_obj_get_str(counter, NFTNL_OBJ_TABLE));
		copy_name(object->name, nftnl_obj_get_str(counter, NFTNL_OBJ_NAME));
		object->packets = nftnl_obj_get_u64(counter, NFTNL_OBJ_CTR_PKTS);
		object->bytes = nftnl_obj_get_u64(counter, NFTNL_OBJ_CTR_BYTES);
	}
	nftnl_obj_free(counter);
	return status;
}

static int objects_dump(int socket_fd, uint16_t type, struct dump *dump, const char *what,
			struct nft_object **ret_objects, size_t *ret_count, struct error *err)
{
	char bytes[REQUEST_SIZE] = {0}; // padding of attributes included
	struct nlmsghdr *request = nftnl_nlmsg_build_hdr(bytes, type, NFPROTO_INET, NLM_F_DUMP, 0);

	// Chains have no filter in the kernel: all are dumped and sorted out here.
	if (type == NFT_MSG_GETSET)
		mnl_attr_put_strz(request, NFTA_SET_TABLE, dump->table);
	if (type == NFT_MSG_GETOBJ)
		mnl_attr_put_strz(request, NFTA_OBJ_TABLE, dump->table);
	dump->list.item_size = sizeof(struct nft_object);
	if (dump_run(socket_fd, request, dump, what, err) < 0)
		return -err->code;
	*ret_objects = (void *)dump->list.items;
	*ret_count = dump->list.count;
	return 0;
}

int nft_tables_dump(int socket_fd, struct nft_object **ret_objects, size_t *ret_count,
		    struct error *err)
{
	struct dump dump = {.take = table_take};

	return objects_dump(socket_fd, NFT_MSG_GETTABLE, &dump, "tables", ret_objects, ret_count,
			    err);
}

int nft_chains_dump(int socket_fd, const char *table, struct nft_object **ret_objects,
		    size_t *ret_count, struct error *err)
{
	struct dump dump = {.take = chain_take, .table = table};

	return objects_dump(socket_fd, NFT_MSG_GETCHAIN, &dump, "chains", ret_objects, ret_count,
			    err);
}

int nft_sets_dump(int socket_fd, const char *table, struct nft_object **ret_objects,
		  size_t *ret_count, struct error *err)
{
	struct dump dump = {.take = set_take, .table = table};

	return objects_dump(socket_fd, NFT_MSG_GETSET, &dump, "sets", ret_objects, ret_count, err);
}

int nft_counters_dump(int socket_fd, const char *table, struct nft_object **ret_objects,
		      size_t *ret_count, struct error *err)
{
	struct dump dump = {.take = counter_take, .table = table};

	return objects_dump(socket_fd, NFT_MSG_GETOBJ, &dump, "counters", ret_objects, ret_count,
			    err);
}

// --- Rules ---

static int rule_expression_read(struct nftnl_expr *expression, void *context)
{
	struct nft_rule_info *rule = context;
	const char *name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);

	counter_read(expression, &rule->packets, &rule->bytes);
	if (strcmp(name, "immediate") != 0 ||
	    !nftnl_expr_is_set(expression, NFTNL_EXPR_IMM_VERDICT))
		return 0;
	rule->verdict = (int)nftnl_expr_get_u32(expression, NFTNL_EXPR_IMM_VERDICT);
	if (nftnl_expr_is_set(expression, NFTNL_EXPR_IMM_CHAIN))
		copy_name(rule->target, nftnl_expr_get_str(expression, NFTNL_EXPR_IMM_CHAIN));
	return 0;
}

static int rule_take(const struct nlmsghdr *reply, struct dump *dump)
{
	struct nftnl_rule *rule = nft_require(nftnl_rule_alloc());
	int status = nftnl_rule_nlmsg_parse(reply, rule);

	if (status == 0 && wanted(dump, nftnl_rule_get_str(rule, NFTNL_RULE_TABLE))) {
		struct nft_rule_info *info = list_add(&dump->list);
		uint32_t length = 0;
		const void *data = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA, &length);

		copy_name(info->chain, nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN));
		nft_comment_read(data, data ? length : 0, NFTNL_UDATA_RULE_COMMENT, info->comment);
		nftnl_expr_foreach(rule, rule_expression_read, info);
	}
	nftnl_rule_free(rule);
	return status;
}

int nft_rules_dump(int socket_fd, const char *table, const char *chain,
		   struct nft_rule_info **ret_rules, size_t *ret_count, struct error *err)
{
	char bytes[REQUEST_SIZE] = {0}; // padding of attributes included
	struct nlmsghdr *request =
		nftnl_nlmsg_build_hdr(bytes, NFT_MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP, 0);
	struct dump dump = {
		.take = rule_take, .table = table, .list.item_size = sizeof(struct nft_rule_info)};

	mnl_attr_put_strz(request, NFTA_RULE_TABLE, table);
	if (chain)
		mnl_attr_put_strz(request, NFTA_RULE_CHAIN, chain);
	if (dump_run(socket_fd, request, &dump, chain ?: table, err) < 0)
		return -err->code;
	*ret_rules = (void *)dump.list.items;
	*ret_count = dump.list.count;
	return 0;
}
