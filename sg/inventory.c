// SPDX-License-Identifier: Apache-2.0
// What a VPC's table holds, with owners.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sg/internal.h"

const char *sg_object_kind_name(enum sg_object_kind kind)
{
	static const char *const names[] = {
		[SG_OBJECT_HOST_TABLE] = "nft host table",
		[SG_OBJECT_GROUP] = "nft security group",
		[SG_OBJECT_MEMBER] = "nft member",
		[SG_OBJECT_BALANCER] = "nft load balancer",
	};

	return names[kind];
}

static struct sg_object group_object(const struct sg_group_state *group)
{
	struct sg_object object = {.kind = SG_OBJECT_GROUP};

	snprintf(object.name, sizeof(object.name), "group_%s", group->id);
	memcpy(object.owner, group->id, sizeof(object.owner));
	return object;
}

static struct sg_object member_object(const struct sg_member_state *member)
{
	struct sg_object object = {.kind = SG_OBJECT_MEMBER, .incomplete = !member->complete};

	snprintf(object.name, sizeof(object.name), "%s",
		 member->interface[0] ? member->interface : member->id);
	memcpy(object.owner, member->id, sizeof(object.owner));
	return object;
}

static struct sg_object balancer_object(const struct sg_member_state *balancer)
{
	struct sg_object object = {.kind = SG_OBJECT_BALANCER, .incomplete = !balancer->complete};

	ipv4_format(balancer->address, object.name);
	if (balancer->address == 0) // the part that says it is gone
		snprintf(object.name, sizeof(object.name), "%s", balancer->id);
	memcpy(object.owner, balancer->id, sizeof(object.owner));
	return object;
}

void sg_vpc_inventory(const struct sg_vpc *vpc, struct sg_object **ret_objects, size_t *ret_count)
{
	size_t total = vpc->groups.count + vpc->members.count + vpc->balancers.count, count = 0;
	struct sg_object *objects = sg_allocate(total * sizeof(*objects));

	for (size_t i = 0; i < vpc->groups.count; i++)
		objects[count++] = group_object(vpc->groups.items[i]);
	for (size_t i = 0; i < vpc->members.count; i++)
		objects[count++] = member_object(vpc->members.items[i]);
	for (size_t i = 0; i < vpc->balancers.count; i++)
		objects[count++] = balancer_object(vpc->balancers.items[i]);
	*ret_objects = objects;
	*ret_count = count;
}
