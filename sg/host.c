// SPDX-License-Identifier: Apache-2.0
// The host's own table. Interfaces of ENIs live in the namespaces of their VPCs; should one ever
// stand in the host's, nothing goes in or out of it there, fragments before they are put together
// included (priority -400).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "sg/internal.h"

static const struct {
	const char *name;
	enum nf_inet_hooks hook;
	int32_t priority;
	enum nft_field interface;
} chains[] = {
	{"prerouting_source", NF_INET_PRE_ROUTING, -450, NFT_FIELD_IIFNAME},
	{"forward", NF_INET_FORWARD, -300, NFT_FIELD_OIFNAME},
	{"output", NF_INET_LOCAL_OUT, -300, NFT_FIELD_OIFNAME},
};

// Of earlier versions, at another priority, which cannot be changed.
#define HOST_OBSOLETE_CHAIN "prerouting"

static void table_name(const char *install, char name[NFT_NAME_SIZE])
{
	snprintf(name, NFT_NAME_SIZE, "%s-%s", SG_TABLE, install);
}

static int send_batch(struct nft_batch *batch, const char *table, int netfilter_socket,
		      struct error *err)
{
	const struct error *failure;

	if (nft_batch_send(batch, netfilter_socket, err) < 0)
		return error_wrap(err, "host table %s", table);
	failure = nft_batch_failure(batch, "");
	return failure ? error_set(err, failure->code, "host table %s: %s", table, failure->message)
		       : 0;
}

int sg_host_ensure(const char *install, int netfilter_socket, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	char table[NFT_NAME_SIZE], comment[NFT_COMMENT_SIZE];

	table_name(install, table);
	snprintf(comment, sizeof(comment), "penstock %s", install);
	nft_table_add(batch, table, comment);
	nft_counter_add(batch, table, "from_or_to_eni");
	for (size_t i = 0; i < ARRAY_LENGTH(chains); i++) {
		struct nft_rule *rule = nft_rule_new(table, chains[i].name, NULL);

		nft_chain_add(batch, &(struct nft_chain){.table = table,
							 .name = chains[i].name,
							 .base = true,
							 .hook = chains[i].hook,
							 .priority = chains[i].priority,
							 .policy = NF_ACCEPT});
		nft_chain_flush(batch, table, chains[i].name);
		nft_match_interface_prefix(rule, chains[i].interface, NFT_CMP_EQ,
					   SG_INTERFACE_PREFIX);
		nft_count_named(rule, "from_or_to_eni");
		nft_verdict(rule, NF_DROP, NULL);
		nft_rule_add(batch, rule);
	}
	// A chain that may not be there can only be deleted once it was added.
	nft_chain_add(batch, &(struct nft_chain){.table = table, .name = HOST_OBSOLETE_CHAIN});
	nft_chain_flush(batch, table, HOST_OBSOLETE_CHAIN);
	nft_chain_delete(batch, table, HOST_OBSOLETE_CHAIN);
	return send_batch(batch, table, netfilter_socket, err);
}

// 1 when the chain has its one rule, which drops.
static int chain_is_complete(const char *table, const char *chain, int netfilter_socket,
			     struct error *err)
{
	scoped_free struct nft_rule_info *rules = NULL;
	size_t count;

	if (nft_rules_dump(netfilter_socket, table, chain, &rules, &count, err) < 0)
		return -err->code;
	return count == 1 && rules[0].verdict == NF_DROP;
}

// A dump of a table or chain that is not there is empty or -ENOENT, as the kernel likes.
int sg_host_check(const char *install, int netfilter_socket, bool *ret_complete, struct error *err)
{
	char table[NFT_NAME_SIZE];
	int complete = 1;

	table_name(install, table);
	for (size_t i = 0; i < ARRAY_LENGTH(chains) && complete == 1; i++)
		complete = chain_is_complete(table, chains[i].name, netfilter_socket, err);
	if (complete == -ENOENT) {
		error_clear(err);
		complete = 0;
	}
	if (complete < 0)
		return error_wrap(err, "host table %s", table);
	*ret_complete = complete == 1;
	return 0;
}

int sg_host_inventory(const char *install, int netfilter_socket, struct sg_object **ret_objects,
		      size_t *ret_count, struct error *err)
{
	scoped_free struct nft_object *tables = NULL;
	struct sg_object *objects;
	char table[NFT_NAME_SIZE];
	size_t count, found = 0;

	if (nft_tables_dump(netfilter_socket, &tables, &count, err) < 0)
		return error_wrap(err, "host tables");
	table_name(install, table);
	objects = sg_allocate((count + 1) * sizeof(*objects));
	for (size_t i = 0; i < count; i++) {
		if (strcmp(tables[i].name, table) != 0)
			continue;
		objects[found].kind = SG_OBJECT_HOST_TABLE;
		memcpy(objects[found].name, table, sizeof(table));
		memcpy(objects[found].owner, install, strnlen(install, SG_ID_SIZE - 1));
		found++;
	}
	*ret_objects = objects;
	*ret_count = found;
	return 0;
}

int sg_host_delete(const char *install, int netfilter_socket, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	scoped_free struct sg_object *objects = NULL;
	size_t count;

	if (sg_host_inventory(install, netfilter_socket, &objects, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		nft_table_delete(batch, objects[i].name);
	return count ? send_batch(batch, objects[0].name, netfilter_socket, err) : 0;
}
