// SPDX-License-Identifier: Apache-2.0
// A batch as text: each message is parsed again, so the text shows what the kernel would be told.
#include <string.h>

#include <libnftnl/chain.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#include "agent/base/scope.h"
#include "netif/nft_internal.h"

enum { LINE_SIZE = 8 * 1024, NFT_TYPE_BITS = 6 };

// libnftnl's texts end in blanks and newlines.
static void trim(char *text)
{
	size_t length = strlen(text);

	while (length > 0 && strchr(" \n\t", text[length - 1]))
		text[--length] = '\0';
}

#define PRINTER(object)                                                                            \
	static int object##_print(struct buffer *text, const struct nlmsghdr *message)             \
	{                                                                                          \
		struct nftnl_##object *parsed = nft_require(nftnl_##object##_alloc());             \
		int status = nftnl_##object##_nlmsg_parse(message, parsed);                        \
		char line[LINE_SIZE] = "";                                                         \
                                                                                                   \
		if (status == 0)                                                                   \
			nftnl_##object##_snprintf(line, sizeof(line), parsed,                      \
						  NFTNL_OUTPUT_DEFAULT, 0);                        \
		trim(line);                                                                        \
		buffer_adds(text, line);                                                           \
		nftnl_##object##_free(parsed);                                                     \
		return status;                                                                     \
	}

PRINTER(table)
PRINTER(chain)
PRINTER(rule)
PRINTER(obj)

// Types are numbers of six bits each, as nft(8) numbers them.
static void types_print(struct buffer *text, const char *what, uint32_t number)
{
	buffer_addf(text, " %s", what);
	for (int shift = 24; shift >= 0; shift -= NFT_TYPE_BITS)
		if (number >> shift)
			buffer_addf(text, ".%u", number >> shift & ((1U << NFT_TYPE_BITS) - 1));
}

static void data_print(struct buffer *text, uint32_t number)
{
	if (number == NFT_DATA_VERDICT)
		buffer_adds(text, " data.verdict");
	else
		types_print(text, "data", number);
}

static int set_print(struct buffer *text, const struct nlmsghdr *message)
{
	struct nftnl_set *set = nft_require(nftnl_set_alloc());
	int status = nftnl_set_nlmsg_parse(message, set);

	if (status == 0) {
		buffer_addf(text, "%s %s", nftnl_set_get_str(set, NFTNL_SET_TABLE),
			    nftnl_set_get_str(set, NFTNL_SET_NAME));
		if (nftnl_set_is_set(set, NFTNL_SET_FLAGS))
			buffer_addf(text, " flags %#x", nftnl_set_get_u32(set, NFTNL_SET_FLAGS));
		if (nftnl_set_is_set(set, NFTNL_SET_KEY_TYPE))
			types_print(text, "key", nftnl_set_get_u32(set, NFTNL_SET_KEY_TYPE));
		if (nftnl_set_is_set(set, NFTNL_SET_DATA_TYPE))
			data_print(text, nftnl_set_get_u32(set, NFTNL_SET_DATA_TYPE));
	}
	nftnl_set_free(set);
	return status;
}

static int element_print(struct nftnl_set_elem *element, void *context)
{
	struct buffer *text = context;
	char line[LINE_SIZE] = "";

	nftnl_set_elem_snprintf(line, sizeof(line), element, NFTNL_OUTPUT_DEFAULT, 0);
	trim(line);
	buffer_addf(text, "\n  %s", line);
	return 0;
}

// The kernel does not look at the type of a list's items; libnftnl writes their index and, when it
// parses, wants NFTA_LIST_ELEM.
static int item_retype(const struct nlattr *item, void *context)
{
	struct nlattr *writable = (struct nlattr *)(uintptr_t)item; // of our own copy

	(void)context;
	writable->nla_type = NLA_F_NESTED | NFTA_LIST_ELEM;
	return MNL_CB_OK;
}

static int list_retype(const struct nlattr *attribute, void *context)
{
	if (mnl_attr_get_type(attribute) == NFTA_SET_ELEM_LIST_ELEMENTS)
		mnl_attr_parse_nested(attribute, item_retype, context);
	return MNL_CB_OK;
}

static int elements_print(struct buffer *text, const struct nlmsghdr *message)
{
	struct nftnl_set *set = nft_require(nftnl_set_alloc());
	scoped_free struct nlmsghdr *copy = nft_require(malloc(message->nlmsg_len));
	int status;

	memcpy(copy, message, message->nlmsg_len);
	mnl_attr_parse(copy, sizeof(struct nfgenmsg), list_retype, NULL);
	status = nftnl_set_elems_nlmsg_parse(copy, set);
	if (status == 0) {
		buffer_addf(text, "%s %s", nftnl_set_get_str(set, NFTNL_SET_TABLE),
			    nftnl_set_get_str(set, NFTNL_SET_NAME));
		nftnl_set_elem_foreach(set, element_print, text);
	}
	nftnl_set_free(set);
	return status;
}

static const struct printer {
	uint16_t type;
	const char *name;
	int (*print)(struct buffer *text, const struct nlmsghdr *message);
} printers[] = {
	{NFT_MSG_NEWTABLE, "add table", table_print},
	{NFT_MSG_DELTABLE, "delete table", table_print},
	{NFT_MSG_NEWCHAIN, "add chain", chain_print},
	{NFT_MSG_DELCHAIN, "delete chain", chain_print},
	{NFT_MSG_NEWRULE, "add rule", rule_print},
	{NFT_MSG_DELRULE, "delete rules", rule_print},
	{NFT_MSG_NEWOBJ, "add counter", obj_print},
	{NFT_MSG_NEWSET, "add set", set_print},
	{NFT_MSG_DELSET, "delete set", set_print},
	{NFT_MSG_NEWSETELEM, "add elements", elements_print},
	{NFT_MSG_DELSETELEM, "delete elements", elements_print},
};

void nft_batch_print(const struct nft_batch *batch, struct buffer *text)
{
	for (size_t i = 0; i < batch->count; i++) {
		const struct nlmsghdr *message = nft_operation_message(batch, i);

		if (i > 0 && batch->operations[i].stage != batch->operations[i - 1].stage)
			buffer_adds(text, "barrier\n");
		for (size_t k = 0; k < ARRAY_LENGTH(printers); k++) {
			if (printers[k].type != NFNL_MSG_TYPE(message->nlmsg_type))
				continue;
			buffer_addf(text, "%s: ", printers[k].name);
			if (printers[k].print(text, message) < 0)
				buffer_addf(text, "(not printable: %m)");
			buffer_adds(text, "\n");
		}
	}
}
