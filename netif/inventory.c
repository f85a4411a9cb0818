// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "netif/handle.h"
#include "netif/inet.h"

struct inventory {
	struct netif_object *objects;
	size_t count, capacity;
};

static void inventory_release(struct inventory *inventory)
{
	free(inventory->objects);
}

static struct netif_object *add(struct inventory *inventory, enum netif_object_kind kind,
				const char *vpc, const char *owner)
{
	struct netif_object *object;

	if (inventory->count == inventory->capacity) {
		inventory->capacity = inventory->capacity ? inventory->capacity * 2 : 16;
		inventory->objects = reallocarray(inventory->objects, inventory->capacity,
						  sizeof(*inventory->objects));
		if (!inventory->objects)
			abort();
	}
	object = &inventory->objects[inventory->count++];
	*object = (struct netif_object){.kind = kind};
	strncpy(object->vpc, vpc, sizeof(object->vpc) - 1);
	strncpy(object->owner, owner, sizeof(object->owner) - 1);
	return object;
}

static void add_link(struct inventory *inventory, const struct netif *netif,
		     const struct netif_namespace *space, const struct link_info *link)
{
	struct mark mark = mark_parse(link->alias);
	struct netif_object *object;

	// In a namespace of ours an unmarked veth of that group is ours too (see veth.c).
	if (space->vpc[0] && link->alias[0] == '\0' && link->group == UNFINISHED_GROUP)
		object = add(inventory, NETIF_OBJECT_ENI, space->vpc, "");
	else if (mark_matches(&mark, MARK_ENI, netif->install, mark.owner))
		object = add(inventory, NETIF_OBJECT_ENI, space->vpc, mark.owner);
	else if (mark_matches(&mark, MARK_ATTACHMENT, netif->install, mark.owner))
		object = add(inventory, NETIF_OBJECT_ATTACHMENT, space->vpc, mark.owner);
	else
		return;
	object->dying = link->group == NETIF_DYING_GROUP;
	memcpy(object->name, link->name, sizeof(link->name));
}

static int add_links(struct inventory *inventory, const struct netif *netif,
		     const struct netif_namespace *space, struct error *err)
{
	scoped_free struct link_info *links = NULL;
	size_t count;

	if (link_list(space->rtnl, &links, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++)
		add_link(inventory, netif, space, &links[i]);
	return 0;
}

static bool is_router(const struct inet_route *routes, size_t count, uint32_t address)
{
	for (size_t i = 0; i < count; i++)
		if (is_subnet_blackhole(&routes[i]) &&
		    ipv4_subnet_router(&routes[i].destination) == address)
			return true;
	return false;
}

// Subnets, known by their blackhole routes, and the other addresses on lo.
static int add_addresses(struct inventory *inventory, const struct netif_namespace *space,
			 struct error *err)
{
	scoped_free struct inet_address *addresses = NULL;
	scoped_free struct inet_route *routes = NULL;
	size_t address_count, route_count;

	if (route_list(space->rtnl, 0, &routes, &route_count, err) < 0 ||
	    address_list(space->rtnl, LOOPBACK_INDEX, &addresses, &address_count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < route_count; i++)
		if (is_subnet_blackhole(&routes[i]))
			ipv4_cidr_format(
				&routes[i].destination,
				add(inventory, NETIF_OBJECT_SUBNET, space->vpc, space->vpc)->name);
	for (size_t i = 0; i < address_count; i++)
		if (addresses[i].protocol == NETIF_PROTOCOL &&
		    addresses[i].address != NETIF_METADATA_ADDRESS &&
		    !is_router(routes, route_count, addresses[i].address))
			ipv4_format(
				addresses[i].address,
				add(inventory, NETIF_OBJECT_ADDRESS, space->vpc, space->vpc)->name);
	return 0;
}

static int add_vpc(struct inventory *inventory, struct netif *netif, const char *vpc,
		   struct error *err)
{
	struct netif_object *object = add(inventory, NETIF_OBJECT_VPC, vpc, vpc);
	char name[NAMESPACE_NAME_SIZE];
	struct netif_namespace *space;
	int result;

	strncpy(object->name, namespace_name(netif, vpc, name), sizeof(object->name) - 1);
	result = namespace_get(netif, vpc, &space, err);
	if (result == -ENOENT) { // a crash's rest: a file without a namespace
		error_clear(err);
		return 0;
	}
	if (result < 0 || add_links(inventory, netif, space, err) < 0 ||
	    add_addresses(inventory, space, err) < 0)
		return error_wrap(err, "vpc %s", vpc);
	return 0;
}

int netif_vpc_links(struct netif *netif, const char *vpc, struct netif_object **ret_objects,
		    size_t *ret_count, struct error *err)
{
	__attribute__((cleanup(inventory_release))) struct inventory inventory = {0};
	struct netif_namespace *space;
	int result = add_links(&inventory, netif, &netif->host, err);

	if (result == 0)
		result = namespace_get(netif, vpc, &space, err);
	if (result == 0)
		result = add_links(&inventory, netif, space, err);
	if (result < 0 && result != -ENOENT)
		return error_wrap(err, "vpc %s", vpc);
	error_clear(err);
	*ret_count = inventory.count;
	*ret_objects = take_ptr(&inventory.objects);
	return 0;
}

int netif_inventory(struct netif *netif, struct netif_object **ret_objects, size_t *ret_count,
		    struct error *err)
{
	__attribute__((cleanup(inventory_release))) struct inventory inventory = {0};
	scoped_free struct netif_id *vpcs = NULL;
	size_t vpc_count;

	if (add_links(&inventory, netif, &netif->host, err) < 0)
		return error_wrap(err, "host");
	if (netif_vpc_list(netif, &vpcs, &vpc_count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < vpc_count; i++)
		if (add_vpc(&inventory, netif, vpcs[i].text, err) < 0)
			return -err->code;
	*ret_count = inventory.count;
	*ret_objects = take_ptr(&inventory.objects);
	return 0;
}

const char *netif_object_kind_name(enum netif_object_kind kind)
{
	static const char *const names[] = {
		[NETIF_OBJECT_VPC] = "vpc",
		[NETIF_OBJECT_ENI] = "eni",
		[NETIF_OBJECT_ATTACHMENT] = "attachment",
		[NETIF_OBJECT_SUBNET] = "subnet",
		[NETIF_OBJECT_ADDRESS] = "address",
	};

	return names[kind];
}

// --- Delete ---

typedef int delete_fn(struct netif *netif, const struct netif_object *object, struct error *err);

static int delete_vpc(struct netif *netif, const struct netif_object *object, struct error *err)
{
	return netif_vpc_delete(netif, object->owner, err);
}

// By its interface, wherever it is: an unfinished one has no owner.
static int delete_eni(struct netif *netif, const struct netif_object *object, struct error *err)
{
	struct netif_namespace *space = &netif->host;
	struct inventory now = {0};
	struct link_info link = {0};
	int result = object->vpc[0] ? namespace_get(netif, object->vpc, &space, err) : 0;

	if (result == 0)
		result = link_find(space->rtnl, object->name, LINK_WITHOUT_STATS, &link, err);
	if (result == 1) {
		// Is it still what was listed?
		add_link(&now, netif, space, &link);
		if (now.count == 1 && now.objects[0].kind == NETIF_OBJECT_ENI &&
		    strcmp(now.objects[0].owner, object->owner) == 0)
			result = link_delete(space->rtnl, link.index, err);
		inventory_release(&now);
	}
	if (result == -ENOENT) {
		error_clear(err);
		result = 0;
	}
	return result < 0 ? result : 0;
}

static int delete_attachment(struct netif *netif, const struct netif_object *object,
			     struct error *err)
{
	return netif_attachment_remove(netif, object->owner, object->name, err);
}

static int delete_subnet(struct netif *netif, const struct netif_object *object, struct error *err)
{
	struct ipv4_cidr block;

	if (ipv4_cidr_parse(object->name, &block, err) < 0)
		return -err->code;
	return netif_subnet_remove(netif, object->vpc, &block, err);
}

static int delete_address(struct netif *netif, const struct netif_object *object, struct error *err)
{
	uint32_t address;

	if (ipv4_parse(object->name, &address, err) < 0)
		return -err->code;
	return netif_address_remove(netif, object->vpc, address, err);
}

int netif_object_delete(struct netif *netif, const struct netif_object *object, struct error *err)
{
	static delete_fn *const effects[] = {
		[NETIF_OBJECT_VPC] = delete_vpc,
		[NETIF_OBJECT_ENI] = delete_eni,
		[NETIF_OBJECT_ATTACHMENT] = delete_attachment,
		[NETIF_OBJECT_SUBNET] = delete_subnet,
		[NETIF_OBJECT_ADDRESS] = delete_address,
	};

	if (effects[object->kind](netif, object, err) < 0)
		return error_wrap(err, "remove %s %s", netif_object_kind_name(object->kind),
				  object->name);
	return 0;
}
