// SPDX-License-Identifier: Apache-2.0
// The collectors of the network: interfaces, addresses and namespaces, and what nftables holds.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/lb/lb.h"
#include "agent/task/fsck_internal.h"
#include "sg/sg.h"

// What a record owns may be known from it alone.
static int require_readable(const struct check *check, struct error *err)
{
	if (!check->unreadable)
		return 0;
	return error_set(err, EBUSY, "the record of %s cannot be read: this may be its own",
			 check->unreadable);
}

static bool owns_object(const struct check *check, const struct netif_object *object)
{
	const struct name *vpcs = check->owned.kinds[MODEL_VPC];

	switch (object->kind) {
	case NETIF_OBJECT_ENI:
		if (object->dying) // the agent's reaper is at it
			return check->agent_runs;
		return fsck_owns(check->owned.enis, object->owner);
	case NETIF_OBJECT_ATTACHMENT:
		return fsck_owns(vpcs, object->owner) &&
		       fsck_owns(check->owned.interfaces, object->name);
	case NETIF_OBJECT_VPC:
		return fsck_owns(vpcs, object->owner);
	case NETIF_OBJECT_ADDRESS:
	case NETIF_OBJECT_SUBNET:
		return fsck_owner_of_place(check, object->owner, object->name);
	}
	return false;
}

// netif_object_delete() wants this order.
static const enum netif_object_kind netif_order[] = {NETIF_OBJECT_ENI, NETIF_OBJECT_ATTACHMENT,
						     NETIF_OBJECT_ADDRESS, NETIF_OBJECT_SUBNET,
						     NETIF_OBJECT_VPC};

static int remove_netif(struct check *check, const struct netif_object *object, struct error *err)
{
	// A VPC is known by its name, and goes only when nothing is inside.
	if (object->kind != NETIF_OBJECT_VPC && require_readable(check, err) < 0)
		return -err->code;
	return netif_object_delete(check->netif, object, err);
}

static void collect_netif(struct check *check, const struct netif_object *object, struct error *err)
{
	const char *place = object->vpc[0] ? object->vpc : "host";
	const char *owner = fsck_owner_of_place(check, object->owner, object->name);
	struct fsck_finding *finding;
	char name[FSCK_TEXT_SIZE];

	snprintf(name, sizeof(name), "%.180s in %.63s", object->name, place);
	finding = fsck_find(check, netif_object_kind_name(object->kind),
			    object->kind == NETIF_OBJECT_VPC ? object->name : name, "%s%s",
			    owner ?: object->owner, object->dying ? " (retired)" : "");
	if (object->kind == NETIF_OBJECT_ENI &&
	    fsck_is_unrecorded(finding, check->owned.unrecorded_enis, object->owner))
		return;
	if (fsck_is_to_go(check, finding, owns_object(check, object)))
		fsck_removed(finding, remove_netif(check, object, err), err);
}

int fsck_collect_network(struct check *check, struct error *err)
{
	scoped_free struct netif_object *objects = NULL;
	size_t count;

	if (netif_inventory(check->netif, &objects, &count, err) < 0)
		return -err->code;
	for (size_t k = 0; k < ARRAY_LENGTH(netif_order); k++)
		for (size_t i = 0; i < count; i++)
			if (objects[i].kind == netif_order[k])
				collect_netif(check, &objects[i], err);
	return 0;
}

int fsck_collect_host_table(struct check *check, struct error *err)
{
	scoped_free struct sg_object *objects = NULL;
	int socket_fd;
	size_t count;

	if (netif_netfilter_socket(check->netif, NULL, &socket_fd, err) < 0 ||
	    sg_host_inventory(check->config->install, socket_fd, &objects, &count, err) < 0)
		return -err->code;
	for (size_t i = 0; i < count; i++) {
		struct fsck_finding *finding =
			fsck_find(check, sg_object_kind_name(objects[i].kind), objects[i].name,
				  "install %s", objects[i].owner);
		if (fsck_is_to_go(check, finding, check->installed))
			fsck_removed(finding,
				     sg_host_delete(check->config->install, socket_fd, err), err);
	}
	return 0;
}

static bool owns_policy(const struct check *check, const struct sg_object *object)
{
	switch (object->kind) {
	case SG_OBJECT_GROUP:
		return fsck_owns(check->owned.kinds[MODEL_SECURITY_GROUP], object->owner);
	case SG_OBJECT_MEMBER:
		return fsck_owns(check->owned.enis, object->owner);
	case SG_OBJECT_BALANCER:
		return fsck_owns(check->owned.kinds[MODEL_LOAD_BALANCER], object->owner);
	case SG_OBJECT_HOST_TABLE:
		return true;
	}
	return false;
}

static int remove_policy(const struct check *check, const char *vpc_id, int socket_fd,
			 const struct sg_object *object, struct error *err)
{
	scoped(nft_batch_release) struct nft_batch *batch = nft_batch_new();
	struct sg_vpc *vpc;
	int result;

	if (check->agent_runs)
		return error_set(err, EBUSY,
				 "the agent holds this table: it removes what nobody owns");
	if (object->kind == SG_OBJECT_MEMBER && require_readable(check, err) < 0)
		return -err->code;
	result = sg_vpc_open(check->config->install, vpc_id, socket_fd, &vpc, err);
	if (result < 0)
		return result;
	if (object->kind == SG_OBJECT_MEMBER)
		result = sg_member_remove(vpc, batch, object->owner, err);
	else if (object->kind == SG_OBJECT_BALANCER)
		result = sg_balancer_remove(vpc, batch, object->owner, err);
	else
		result = sg_group_remove(vpc, batch, object->owner, err);
	if (result == 0)
		result = sg_vpc_commit(vpc, batch, socket_fd, err);
	sg_vpc_close(vpc);
	return result;
}

static int collect_policy_of(struct check *check, const char *vpc_id, struct error *err)
{
	static const enum sg_object_kind order[] = {SG_OBJECT_MEMBER, SG_OBJECT_BALANCER,
						    SG_OBJECT_GROUP};
	scoped_free struct sg_object *objects = NULL;
	struct sg_vpc *vpc = NULL;
	int socket_fd;
	size_t count;
	int result = netif_netfilter_socket(check->netif, vpc_id, &socket_fd, err);

	if (result == 0)
		result = sg_vpc_find(check->config->install, vpc_id, socket_fd, &vpc, err);
	if (result < 0) // no namespace or no table: nothing there
		return result == -ENOENT ? 0 : result;
	sg_vpc_inventory(vpc, &objects, &count);
	sg_vpc_close(vpc);
	for (size_t i = 0; i < ARRAY_LENGTH(order) * count; i++) {
		const struct sg_object *object = &objects[i % count];
		struct fsck_finding *finding;

		if (object->kind != order[i / count])
			continue;
		finding = fsck_find(check, sg_object_kind_name(object->kind), object->name,
				    "%s in vpc %s", object->owner, vpc_id);
		// Listed by the part that is left.
		finding->missing = object->incomplete && owns_policy(check, object);
		if (object->kind == SG_OBJECT_MEMBER &&
		    fsck_is_unrecorded(finding, check->owned.unrecorded_enis, object->owner))
			continue;
		if (fsck_is_to_go(check, finding, owns_policy(check, object)))
			fsck_removed(finding, remove_policy(check, vpc_id, socket_fd, object, err),
				     err);
	}
	return 0;
}

static bool owns_balancing(const struct check *check, const struct lb_object *object)
{
	return fsck_owns(check->owned.kinds[object->kind == LB_OBJECT_SERVICE ? MODEL_LOAD_BALANCER
									      : MODEL_TARGET_GROUP],
			 object->owner);
}

static int collect_balancing_of(struct check *check, const char *vpc_id, struct error *err)
{
	scoped_free struct lb_object *objects = NULL;
	size_t count = 0;
	int result = lb_inventory(check->netif, vpc_id, &objects, &count, err);

	if (result < 0) // no namespace: nothing there
		return result == -ENOENT ? 0 : result;
	for (size_t i = 0; i < count; i++) {
		struct fsck_finding *finding =
			fsck_find(check, lb_object_kind_name(objects[i].kind), objects[i].name,
				  "%s in vpc %s", objects[i].owner, vpc_id);
		if (fsck_is_to_go(check, finding, owns_balancing(check, &objects[i])))
			fsck_removed(finding,
				     lb_object_delete(check->netif, vpc_id, &objects[i], err), err);
	}
	return 0;
}

int fsck_collect_policy(struct check *check, struct error *err)
{
	const struct name *vpc = check->owned.kinds[MODEL_VPC];

	for (; vpc; vpc = vpc->next)
		if (collect_policy_of(check, vpc->text, err) < 0 ||
		    collect_balancing_of(check, vpc->text, err) < 0)
			return error_wrap(err, "vpc %s", vpc->text);
	return 0;
}
