// SPDX-License-Identifier: Apache-2.0
// What must hold between objects: nothing names what is not there, and all that
// one object joins is of one VPC.
#include <string.h>

#include "agent/model/fields.h"

struct links {
	model_lookup_fn *lookup;
	void *context;
	struct fault_list *faults;
	const struct model_object *object;
	const char *vpc_id; // of the object; NULL: not known, or it has none
};

static const char *subnet_vpc(const struct links *links, const char *subnet_id)
{
	const struct model_object *subnet = links->lookup(links->context, MODEL_SUBNET, subnet_id);

	return subnet ? subnet->subnet->vpc_id : NULL;
}

static const char *vpc_of(const struct links *links, const struct model_object *object)
{
	switch (object->kind) {
	case MODEL_SUBNET:
		return object->subnet->vpc_id;
	case MODEL_SECURITY_GROUP:
		return object->security_group->vpc_id;
	case MODEL_TARGET_GROUP:
		return object->target_group->vpc_id;
	case MODEL_LOAD_BALANCER:
		return subnet_vpc(links, object->load_balancer->subnet_id);
	case MODEL_TASK:
		return subnet_vpc(links, object->task->subnets[0]);
	case MODEL_VPC:
	case MODEL_FILE_SYSTEM:
	case MODEL_KIND_COUNT:
		break;
	}
	return NULL;
}

static bool names_itself(const struct links *links, const struct model_reference *reference)
{
	return links->object->kind == reference->kind &&
	       strcmp(links->object->id, reference->id) == 0;
}

static void check_reference(const struct links *links, const struct model_reference *reference)
{
	const struct model_object *found;
	const char *vpc_id;

	if (names_itself(links, reference))
		return;
	found = links->lookup(links->context, reference->kind, reference->id);
	if (!found)
		return fault_add(links->faults, reference->pointer, "there is no %s \"%s\"",
				 model_kind_name(reference->kind), reference->id);
	vpc_id = vpc_of(links, found);
	if (vpc_id && links->vpc_id && strcmp(vpc_id, links->vpc_id) != 0)
		fault_add(links->faults, reference->pointer,
			  "%s \"%s\" is of VPC \"%s\", not of \"%s\"",
			  model_kind_name(reference->kind), reference->id, vpc_id, links->vpc_id);
}

static void check_subnet_block(const struct links *links)
{
	const struct subnet_spec *subnet = links->object->subnet;
	const struct model_object *vpc = links->lookup(links->context, MODEL_VPC, subnet->vpc_id);
	char text[IPV4_CIDR_TEXT_SIZE];

	if (vpc && !ipv4_cidr_covers(&vpc->vpc->cidr_block, &subnet->cidr_block))
		fault_add(links->faults, "/cidrBlock", "must be in the VPC's block %s",
			  ipv4_cidr_format(&vpc->vpc->cidr_block, text));
}

void model_check_links(const struct model_object *object, model_lookup_fn *lookup, void *context,
		       struct fault_list *faults)
{
	struct links links = {
		.lookup = lookup, .context = context, .faults = faults, .object = object};
	const struct model_reference *references;
	size_t count;

	links.vpc_id = vpc_of(&links, object);
	model_references(object, faults->arena, &references, &count);
	for (size_t i = 0; i < count; i++)
		check_reference(&links, &references[i]);
	if (object->kind == MODEL_SUBNET)
		check_subnet_block(&links);
}
