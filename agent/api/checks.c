// SPDX-License-Identifier: Apache-2.0
// What a document must be beyond its own form: its references, its siblings, its users.
#include <errno.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/scope.h"

// --- References ---

// A failed look-up is no absence: it is kept and becomes the reply.
struct lookup {
	struct exchange *exchange;
	struct error err;
};

static const struct model_object *look_up(void *context, enum model_kind kind, const char *id)
{
	struct lookup *lookup = context;
	struct arena *arena = &lookup->exchange->arena;
	struct fault_list *faults = arena_new(arena, struct fault_list);
	struct model_object *parsed = arena_new(arena, struct model_object);
	struct store_object object;
	struct error err = {0};
	int result = store_object_get(lookup->exchange->api->store, model_kind_name(kind), id,
				      arena, &object, &err);

	faults->arena = arena;
	if (result == 0 && model_parse(kind, object.id, object.spec, strlen(object.spec), arena,
				       parsed, faults) < 0)
		result = error_set(&err, EBADMSG, "%s/%s in the store does not parse", object.kind,
				   object.id);
	if (result < 0 && result != -ENOENT)
		lookup->err = err;
	return result == 0 ? parsed : NULL;
}

// --- Overlaps: the subnets of one VPC are apart from each other and from what is attached ---

struct overlap {
	struct lookup *lookup;
	const struct model_object *object; // a VPC or a subnet
	struct fault_list *faults;
};

static void attachment_fault(const struct overlap *overlap, const struct model_object *subnet,
			     const char *interface, const struct ipv4_cidr *block,
			     const char *pointer)
{
	char text[IPV4_CIDR_TEXT_SIZE];

	if (overlap->object->kind == MODEL_VPC)
		fault_add(overlap->faults, pointer, "overlaps subnet %s (%s)", subnet->id,
			  ipv4_cidr_format(&subnet->subnet->cidr_block, text));
	else
		fault_add(overlap->faults, "/cidrBlock", "overlaps %s of the VPC's attachment %s",
			  ipv4_cidr_format(block, text), interface);
}

// A route that is wider than the subnet takes nothing from it: the default route, say.
static void compare_attachment(const struct overlap *overlap, const struct model_object *subnet,
			       const struct vpc_attachment *attachment, unsigned index)
{
	const struct ipv4_cidr *block = &subnet->subnet->cidr_block;
	struct ipv4_cidr network = {attachment->address & ipv4_mask(attachment->prefix),
				    attachment->prefix};
	char pointer[80];

	snprintf(pointer, sizeof(pointer), "/attachments/%u/address", index);
	if (attachment->address != 0 && ipv4_cidr_overlaps(block, &network) &&
	    !fault_list_has(overlap->faults, pointer))
		attachment_fault(overlap, subnet, attachment->interface, &network, pointer);
	for (unsigned i = 0; i < attachment->route_count; i++) {
		const struct ipv4_cidr *destination = &attachment->routes[i].destination;

		snprintf(pointer, sizeof(pointer), "/attachments/%u/routes/%u/destinationCidrBlock",
			 index, i);
		if (ipv4_cidr_covers(block, destination))
			attachment_fault(overlap, subnet, attachment->interface, destination,
					 pointer);
	}
}

static void compare_attachments(const struct overlap *overlap, const struct vpc_spec *vpc,
				const struct model_object *subnet)
{
	for (unsigned i = 0; i < vpc->attachment_count; i++)
		compare_attachment(overlap, subnet, &vpc->attachments[i], i);
}

static void compare_siblings(const struct overlap *overlap, const struct model_object *other)
{
	char text[IPV4_CIDR_TEXT_SIZE];

	if (ipv4_cidr_overlaps(&overlap->object->subnet->cidr_block, &other->subnet->cidr_block))
		fault_add(overlap->faults, "/cidrBlock", "overlaps subnet %s (%s) of the same VPC",
			  other->id, ipv4_cidr_format(&other->subnet->cidr_block, text));
}

static int compare_subnet(const struct store_reference *user, void *context)
{
	const struct overlap *overlap = context;
	const struct model_object *object = overlap->object, *other;

	if (strcmp(user->kind, model_kind_name(MODEL_SUBNET)) != 0)
		return 0;
	other = look_up(overlap->lookup, MODEL_SUBNET, user->id);
	if (other && object->kind == MODEL_VPC)
		compare_attachments(overlap, object->vpc, other);
	else if (other && strcmp(other->id, object->id) != 0)
		compare_siblings(overlap, other);
	return 0;
}

static const char *overlap_vpc(const struct model_object *object)
{
	switch (object->kind) {
	case MODEL_VPC:
		return object->id;
	case MODEL_SUBNET:
		return object->subnet->vpc_id;
	default:
		return NULL;
	}
}

static void check_overlaps(struct lookup *lookup, const struct model_object *object,
			   struct fault_list *faults)
{
	struct overlap overlap = {lookup, object, faults};
	const char *vpc_id = overlap_vpc(object);
	const struct model_object *vpc;

	if (!vpc_id || (object->kind == MODEL_SUBNET && fault_list_has(faults, "/cidrBlock")))
		return;
	store_users_each(lookup->exchange->api->store, model_kind_name(MODEL_VPC), vpc_id,
			 compare_subnet, &overlap, &lookup->err);
	vpc = object->kind == MODEL_SUBNET ? look_up(lookup, MODEL_VPC, vpc_id) : NULL;
	if (vpc)
		compare_attachments(&overlap, vpc->vpc, object);
}

bool document_check(struct exchange *exchange, enum check check, struct model_object *ret_object,
		    const char **ret_spec)
{
	struct fault_list *faults = arena_new(&exchange->arena, struct fault_list);
	struct lookup lookup = {.exchange = exchange};
	scoped(buffer_release) struct buffer spec = {0};
	int result;

	faults->arena = &exchange->arena;
	result = model_parse(exchange->kind, exchange->id, exchange->body, exchange->body_length,
			     &exchange->arena, ret_object, faults);
	// Also of a document with faults of form: the client hears of all of them at once.
	if (check == CHECK_LINKS) {
		model_check_links(ret_object, look_up, &lookup, faults);
		check_overlaps(&lookup, ret_object, faults);
	}
	if (lookup.err.code) {
		reply_errno(exchange, -lookup.err.code, NULL, &lookup.err);
		return false;
	}
	if (result < 0 || faults->count > 0) {
		reply_errno(exchange, result < 0 ? result : -EINVAL, faults, &(struct error){0});
		return false;
	}
	model_render(ret_object, MODEL_RENDER_PLAIN, &spec);
	*ret_spec = arena_strdup(&exchange->arena, buffer_text(&spec));
	return true;
}

// --- Differences ---

int document_differences(struct exchange *exchange, const char *one, const char *other,
			 bool immutable_only, struct fault_list *ret_faults, struct error *err)
{
	const char *const *pointers;
	size_t count;
	int result =
		model_diff(exchange->kind, one, other, &exchange->arena, &pointers, &count, err);

	if (result < 0)
		return result;
	ret_faults->arena = &exchange->arena;
	for (size_t i = 0; i < count; i++)
		if (!immutable_only || !model_field_is_mutable(exchange->kind, pointers[i]))
			fault_add(ret_faults, pointers[i],
				  "differs from what is stored and cannot be changed");
	return 0;
}

// --- Users ---

// A detail's pointer is the user's path: so a client can go there.
static int collect_user(const struct store_reference *user, void *context)
{
	enum model_kind kind;
	char path[128];

	if (model_kind_from_name(user->kind, &kind) < 0)
		return 0;
	snprintf(path, sizeof(path), "/v1/%s/%s", model_kind_path(kind), user->id);
	fault_add(context, path, "%s/%s uses it", user->kind, user->id);
	return 0;
}

bool object_is_unused(struct exchange *exchange)
{
	struct fault_list *users = arena_new(&exchange->arena, struct fault_list);
	struct error err = {0};

	users->arena = &exchange->arena;
	if (store_users_each(exchange->api->store, model_kind_name(exchange->kind), exchange->id,
			     collect_user, users, &err) < 0) {
		reply_errno(exchange, -EIO, NULL, &err);
		return false;
	}
	if (users->count == 0)
		return true;
	reply_error(exchange, REPLY_IN_USE, users, "%s/%s is in use",
		    model_kind_name(exchange->kind), exchange->id);
	return false;
}
