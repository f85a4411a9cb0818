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

// --- Siblings: the subnets of one VPC must not overlap ---

struct overlap {
	struct lookup *lookup;
	const struct model_object *subnet;
	struct fault_list *faults;
};

static int compare_sibling(const struct store_reference *user, void *context)
{
	struct overlap *overlap = context;
	const struct model_object *other;
	char text[IPV4_CIDR_TEXT_SIZE];

	if (strcmp(user->kind, model_kind_name(MODEL_SUBNET)) != 0 ||
	    strcmp(user->id, overlap->subnet->id) == 0)
		return 0;
	other = look_up(overlap->lookup, MODEL_SUBNET, user->id);
	if (other &&
	    ipv4_cidr_overlaps(&overlap->subnet->subnet->cidr_block, &other->subnet->cidr_block))
		fault_add(overlap->faults, "/cidrBlock", "overlaps subnet %s (%s) of the same VPC",
			  other->id, ipv4_cidr_format(&other->subnet->cidr_block, text));
	return 0;
}

static void check_siblings(struct lookup *lookup, const struct model_object *subnet,
			   struct fault_list *faults)
{
	struct overlap overlap = {lookup, subnet, faults};

	store_users_each(lookup->exchange->api->store, model_kind_name(MODEL_VPC),
			 subnet->subnet->vpc_id, compare_sibling, &overlap, &lookup->err);
}

bool document_check(struct exchange *exchange, struct model_object *ret_object,
		    const char **ret_spec)
{
	struct fault_list *faults = arena_new(&exchange->arena, struct fault_list);
	struct lookup lookup = {.exchange = exchange};
	scoped(buffer_release) struct buffer spec = {0};
	int result;

	faults->arena = &exchange->arena;
	result = model_parse(exchange->kind, exchange->id, exchange->body, exchange->body_length,
			     &exchange->arena, ret_object, faults);
	if (result == 0)
		model_check_links(ret_object, look_up, &lookup, faults);
	if (result == 0 && exchange->kind == MODEL_SUBNET)
		check_siblings(&lookup, ret_object, faults);
	if (lookup.err.code) {
		reply_errno(exchange, -EIO, NULL, &lookup.err);
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
	int result = model_diff(one, other, &exchange->arena, &pointers, &count, err);

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
