// SPDX-License-Identifier: Apache-2.0
// What the nft provider's table holds, with owners: for fsck, which has no struct lb. What is the
// same in every such table belongs to the VPC, as the table does.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/lb.h"
#include "agent/lb/provider_nft.h"

struct inventory {
	struct lb_object *objects;
	size_t count;
};

static void inventory_release(struct inventory *inventory)
{
	free(inventory->objects);
}

const char *lb_object_kind_name(enum lb_object_kind kind)
{
	static const char *const names[] = {
		[LB_OBJECT_SERVICE] = "nft balancing service",
		[LB_OBJECT_CHAIN] = "nft balancing chain",
		[LB_OBJECT_MAP] = "nft balancing map",
	};

	return names[kind];
}

static struct lb_object *add(struct inventory *inventory, enum lb_object_kind kind,
			     const char *owner)
{
	struct lb_object *object;

	inventory->objects =
		reallocarray(inventory->objects, inventory->count + 1, sizeof(*object));
	if (!inventory->objects)
		abort();
	object = &inventory->objects[inventory->count++];
	*object = (struct lb_object){.kind = kind};
	snprintf(object->owner, sizeof(object->owner), "%s", owner);
	return object;
}

static int add_services(struct inventory *inventory, int socket_fd, struct error *err)
{
	scoped(nft_element_list_release) struct nft_element_list list = {0};
	int result = nft_elements_dump(socket_fd, &lb_nft_services_map, &list, err);

	if (result < 0)
		return result == -ENOENT ? 0 : result; // no table, or another's
	for (size_t i = 0; i < list.count; i++) {
		const struct nft_element *element = &list.elements[i];
		struct lb_object *object =
			add(inventory, LB_OBJECT_SERVICE, element->comment ? element->comment : "");
		char text[IPV4_TEXT_SIZE];

		object->address = nft_value_ipv4_at(&element->key, 4); // behind the protocol
		object->port = nft_value_port_at(&element->key, 8);
		snprintf(object->name, sizeof(object->name), "%s:%u",
			 ipv4_format(object->address, text), object->port);
	}
	return 0;
}

static bool is_constant(const char *name)
{
	static const char *const names[] = {"services", "hairpin", "prerouting", "postrouting",
					    "output"};

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static const char *group_of(const char *name)
{
	size_t prefix = strlen(LB_NFT_GROUP_PREFIX);

	return strncmp(name, LB_NFT_GROUP_PREFIX, prefix) == 0 ? name + prefix : "";
}

static int add_named(struct inventory *inventory, enum lb_object_kind kind, int socket_fd,
		     struct error *err)
{
	scoped_free struct nft_object *found = NULL;
	size_t count = 0;
	int result = kind == LB_OBJECT_CHAIN
			     ? nft_chains_dump(socket_fd, LB_NFT_TABLE, &found, &count, err)
			     : nft_sets_dump(socket_fd, LB_NFT_TABLE, &found, &count, err);

	if (result < 0)
		return result == -ENOENT ? 0 : result;
	for (size_t i = 0; i < count; i++) {
		struct lb_object *object;

		if (is_constant(found[i].name))
			continue;
		object = add(inventory, kind, group_of(found[i].name));
		snprintf(object->name, sizeof(object->name), "%s", found[i].name);
	}
	return 0;
}

int lb_inventory(struct netif *netif, const char *vpc_id, struct lb_object **ret_objects,
		 size_t *ret_count, struct error *err)
{
	scoped(inventory_release) struct inventory inventory = {0};
	int socket_fd;

	if (netif_netfilter_socket(netif, vpc_id, &socket_fd, err) < 0 ||
	    add_services(&inventory, socket_fd, err) < 0 ||
	    add_named(&inventory, LB_OBJECT_CHAIN, socket_fd, err) < 0 ||
	    add_named(&inventory, LB_OBJECT_MAP, socket_fd, err) < 0)
		return -err->code;
	error_clear(err);
	*ret_objects = take_ptr(&inventory.objects);
	*ret_count = inventory.count;
	return 0;
}

static void delete_object(struct nft_batch *batch, const struct lb_object *object)
{
	const struct nft_element element = {
		.key = lb_nft_service_key(object->address, object->port)};

	switch (object->kind) {
	case LB_OBJECT_SERVICE:
		nft_elements_delete(batch, &lb_nft_services_map, &element, 1);
		break;
	case LB_OBJECT_CHAIN:
		nft_chain_flush(batch, LB_NFT_TABLE, object->name);
		nft_chain_delete(batch, LB_NFT_TABLE, object->name);
		break;
	case LB_OBJECT_MAP:
		nft_set_delete(batch, LB_NFT_TABLE, object->name);
		break;
	}
}

int lb_object_delete(struct netif *netif, const char *vpc_id, const struct lb_object *object,
		     struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	const struct error *failure;
	int socket_fd;

	delete_object(batch, object);
	if (netif_netfilter_socket(netif, vpc_id, &socket_fd, err) < 0 ||
	    nft_batch_send(batch, socket_fd, err) < 0)
		return -err->code;
	failure = nft_batch_failure(batch, "");
	return failure && failure->code != ENOENT
		       ? error_set(err, failure->code, "%s", failure->message)
		       : 0;
}
