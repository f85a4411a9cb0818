// SPDX-License-Identifier: Apache-2.0
// What must hold between objects: nothing names what is not there, and all that
// one object joins is of one VPC.
#include <stdio.h>
#include <string.h>

#include "agent/model/fields.h"
#include "nfs/nfs.h"

struct links {
	model_lookup_fn *lookup;
	void *context;
	struct fault_list *faults;
	const struct model_object *object;
	const char *vpc_id; // of the object; NULL: not known, or it has none
};

// NULL too when the document has no sound id there.
static const struct model_object *find(const struct links *links, enum model_kind kind,
				       const char *id)
{
	return id && *id ? links->lookup(links->context, kind, id) : NULL;
}

static const char *subnet_vpc(const struct links *links, const char *subnet_id)
{
	const struct model_object *subnet = find(links, MODEL_SUBNET, subnet_id);

	return subnet ? subnet->subnet->vpc_id : NULL;
}

static const char *vpc_named_by(const struct links *links, const struct model_object *object)
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
		return object->task->subnet_count > 0 ? subnet_vpc(links, object->task->subnets[0])
						      : NULL;
	case MODEL_VPC:
	case MODEL_FILE_SYSTEM:
	case MODEL_KIND_COUNT:
		break;
	}
	return NULL;
}

static const char *vpc_of(const struct links *links, const struct model_object *object)
{
	const char *vpc_id = vpc_named_by(links, object);

	return vpc_id && *vpc_id ? vpc_id : NULL;
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

	if (names_itself(links, reference) || fault_list_has(links->faults, reference->pointer))
		return;
	found = find(links, reference->kind, reference->id);
	if (!found)
		return fault_add_missing(links->faults, reference->pointer, "there is no %s \"%s\"",
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
	const struct model_object *vpc = find(links, MODEL_VPC, subnet->vpc_id);
	char text[IPV4_CIDR_TEXT_SIZE];

	if (vpc && !fault_list_has(links->faults, "/cidrBlock") &&
	    !ipv4_cidr_covers(&vpc->vpc->cidr_block, &subnet->cidr_block))
		fault_add(links->faults, "/cidrBlock", "must be in the VPC's block %s",
			  ipv4_cidr_format(&vpc->vpc->cidr_block, text));
}

// Not at the form of the document: an earlier agent accepted these, and what it stored is read
// again.
static void check_attachment(const struct links *links, uint32_t index)
{
	const struct vpc_spec *vpc = links->object->vpc;
	const struct vpc_attachment *attachment = &vpc->attachments[index];
	uint32_t mask = ipv4_mask(attachment->prefix);
	char pointer[80];

	snprintf(pointer, sizeof(pointer), "/attachments/%u/address", index);
	if (attachment->address != 0 && attachment->prefix < 31 &&
	    !fault_list_has(links->faults, pointer)) {
		if ((attachment->address & ~mask) == 0)
			fault_add(links->faults, pointer, "is the address of its network itself");
		else if ((attachment->address | mask) == UINT32_MAX)
			fault_add(links->faults, pointer,
				  "is the broadcast address of its network");
	}
	for (uint32_t i = 0; i < attachment->route_count; i++) {
		const struct ipv4_cidr *destination = &attachment->routes[i].destination;

		snprintf(pointer, sizeof(pointer), "/attachments/%u/routes/%u/destinationCidrBlock",
			 index, i);
		if (vpc->cidr_block.prefix != 0 && destination->prefix == vpc->cidr_block.prefix &&
		    destination->base == vpc->cidr_block.base)
			fault_add(links->faults, pointer, "is the VPC's own block");
	}
}

static void check_attachments(const struct links *links)
{
	for (uint32_t i = 0; i < links->object->vpc->attachment_count; i++)
		check_attachment(links, i);
}

static size_t path_length(const char *path)
{
	return strcmp(path, "/") == 0 ? 0 : strlen(path);
}

// What the guest mounts is the one path below the other.
static void check_volume_path(const struct links *links, const struct efs_volume *volume,
			      uint32_t index)
{
	const struct model_object *object = find(links, MODEL_FILE_SYSTEM, volume->file_system_id);
	char pointer[64];

	if (!object ||
	    path_length(object->file_system->export_path) + path_length(volume->root_directory) <
		    NFS_PATH_MAX)
		return;
	snprintf(pointer, sizeof(pointer), "/volumes/%u/efsVolumeConfiguration/rootDirectory",
		 index);
	fault_add(links->faults, pointer,
		  "must be at most %d bytes long together with the file system's exportPath",
		  NFS_PATH_MAX - 1);
}

static void check_volume_paths(const struct links *links)
{
	const struct task_spec *task = links->object->task;

	for (uint32_t i = 0; i < task->volume_count; i++)
		if (task->volumes[i].efs)
			check_volume_path(links, task->volumes[i].efs, i);
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
	if (object->kind == MODEL_VPC)
		check_attachments(&links);
	if (object->kind == MODEL_SUBNET)
		check_subnet_block(&links);
	if (object->kind == MODEL_TASK)
		check_volume_paths(&links);
}
