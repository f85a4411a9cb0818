// SPDX-License-Identifier: Apache-2.0
// Network objects: list, get, put, delete. (Tasks share list and get.)
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "agent/api/internal.h"
#include "agent/base/scope.h"

int object_find(struct exchange *exchange, struct store_object *ret_object, struct error *err)
{
	return store_object_get(exchange->api->store, model_kind_name(exchange->kind), exchange->id,
				&exchange->arena, ret_object, err);
}

bool object_load(struct exchange *exchange, struct store_object *ret_object)
{
	struct error err = {0};
	int result = object_find(exchange, ret_object, &err);

	if (result < 0)
		reply_errno(exchange, result, NULL, &err);
	return result == 0;
}

bool object_revision_matches(struct exchange *exchange, const struct store_object *stored)
{
	uint64_t revision = exchange->if_match;

	if (revision == 0 ||
	    (stored && revision >= stored->spec_revision && revision <= stored->revision))
		return true;
	if (!stored)
		reply_error(exchange, REPLY_REVISION_MISMATCH, NULL,
			    "If-Match says revision %" PRIu64 ", but %s/%s does not exist",
			    revision, model_kind_name(exchange->kind), exchange->id);
	else
		reply_error(exchange, REPLY_REVISION_MISMATCH, NULL,
			    "If-Match says revision %" PRIu64 ", but it is %" PRIu64, revision,
			    stored->revision);
	return false;
}

struct listing {
	struct exchange *exchange;
	struct model_list list;
};

static int list_add(const struct store_object *object, void *context)
{
	struct listing *listing = context;
	scoped(arena_release) struct arena arena = {0};
	struct model_envelope envelope = envelope_of(listing->exchange, object, &arena);

	model_list_add(&listing->list, &envelope);
	return 0;
}

void handle_object_list(struct exchange *exchange)
{
	struct listing listing = {.exchange = exchange};
	struct store *store = exchange->api->store;
	struct error err = {0};
	int result;

	model_list_begin(&listing.list, store_revision(store), reply_json(exchange, 200));
	result =
		store_object_each(store, model_kind_name(exchange->kind), list_add, &listing, &err);
	model_list_end(&listing.list);
	if (result < 0)
		reply_errno(exchange, result, NULL, &err);
}

void handle_object_get(struct exchange *exchange)
{
	struct store_object object;

	if (wait_read(exchange) && object_load(exchange, &object))
		reply_object(exchange, 200, &object);
}

// --- Put ---

// What a put is about: what is there and what is wanted.
struct put {
	struct exchange *exchange;
	bool exists;
	struct store_object old;
	struct model_object object;
	const char *spec;
	const char *status;         // NULL: as it was
	struct fault_list *changes; // pointers that differ
};

static void reply_dry_run(struct put *put)
{
	const char *action = !put->exists ? "create" : put->changes->count ? "update" : "none";
	struct buffer *out = reply_json(put->exchange, 200);

	buffer_addf(out, "{\"dryRun\":true,\"action\":\"%s\",\"changes\":[", action);
	for (uint32_t i = 0; put->exists && i < put->changes->count; i++)
		buffer_addf(out, "%s\"%s\"", i ? "," : "", put->changes->faults[i].pointer);
	buffer_adds(out, "]");
	if (put->status)
		buffer_addf(out, ",\"plan\":%s", put->status);
	buffer_adds(out, "}");
}

// Nothing but mutable fields may differ. False with the reply set.
static bool put_compare(struct put *put)
{
	struct exchange *exchange = put->exchange;
	struct fault_list *fixed = arena_new(&exchange->arena, struct fault_list);
	struct error err = {0};

	put->changes = arena_new(&exchange->arena, struct fault_list);
	if (!put->exists)
		return true;
	if (document_differences(exchange, put->old.spec, put->spec, false, put->changes, &err) <
		    0 ||
	    document_differences(exchange, put->old.spec, put->spec, true, fixed, &err) < 0) {
		reply_errno(exchange, -EBADMSG, NULL, &err);
		return false;
	}
	if (fixed->count == 0)
		return true;
	reply_error(exchange, REPLY_CONFLICT, fixed, "%s/%s exists with other immutable fields",
		    model_kind_name(exchange->kind), exchange->id);
	return false;
}

static bool put_admit(struct put *put)
{
	struct exchange *exchange = put->exchange;
	const struct api_backend *backend = exchange->api->backend;
	struct fault_list *faults = arena_new(&exchange->arena, struct fault_list);
	struct error err = {0};
	int result;

	faults->arena = &exchange->arena;
	result = backend->object_check(backend->context, exchange->kind, exchange->id, &put->object,
				       exchange->dry_run, &exchange->arena, &put->status, faults,
				       &err);
	if (result < 0)
		reply_errno(exchange, result, faults, &err);
	return result == 0;
}

static int references_store(struct exchange *exchange, const struct model_object *object,
			    struct error *err)
{
	const struct model_reference *references;
	size_t count, kept = 0;
	struct store_reference *used;

	model_references(object, &exchange->arena, &references, &count);
	used = arena_array(&exchange->arena, struct store_reference, count + 1);
	for (size_t i = 0; i < count; i++) {
		if (references[i].kind == object->kind && strcmp(references[i].id, object->id) == 0)
			continue; // a group that names itself does not keep itself
		used[kept++] = (struct store_reference){.kind = model_kind_name(references[i].kind),
							.id = references[i].id};
	}
	return store_references_set(exchange->api->store, model_kind_name(object->kind), object->id,
				    used, kept, err);
}

static void put_store(struct put *put)
{
	struct exchange *exchange = put->exchange;
	const struct store_change change = {
		.kind = model_kind_name(exchange->kind),
		.id = exchange->id,
		.spec = put->spec,
		.status = put->status,
	};
	struct store_object stored;
	struct error err = {0};
	int result = store_object_put(exchange->api->store, &change, NULL, &err);

	if (result == 0)
		result = references_store(exchange, &put->object, &err);
	if (result == 0)
		result = object_find(exchange, &stored, &err);
	if (result < 0) {
		store_turn_refuse(exchange->api->store); // a part of it may be written
		reply_errno(exchange, result == -EDQUOT ? result : -EIO, NULL, &err);
		// The backend looks at the object again and gives back what it chose for it.
		exchange->object_changed = true;
		return;
	}
	exchange->acknowledges = true;
	exchange->object_changed = true;
	reply_object(exchange, put->exists ? 200 : 201, &stored);
}

static bool put_find(struct put *put)
{
	struct exchange *exchange = put->exchange;
	struct error err = {0};
	int result = object_find(exchange, &put->old, &err);

	put->exists = result == 0;
	if (result == 0 || result == -ENOENT)
		return object_revision_matches(exchange, put->exists ? &put->old : NULL);
	reply_errno(exchange, result, NULL, &err);
	return false;
}

void handle_object_put(struct exchange *exchange)
{
	struct put put = {.exchange = exchange};

	if (!document_check(exchange, CHECK_LINKS, &put.object, &put.spec) || !put_find(&put) ||
	    !put_compare(&put))
		return;
	if (put.exists && put.changes->count == 0 && !exchange->dry_run) {
		// What is promised here was perhaps committed in this very turn.
		exchange->acknowledges = true;
		reply_object(exchange, 200, &put.old);
		return;
	}
	if (!put_admit(&put))
		return;
	if (exchange->dry_run)
		reply_dry_run(&put);
	else
		put_store(&put);
}

// --- Delete ---

static bool delete_admit(struct exchange *exchange)
{
	const struct api_backend *backend = exchange->api->backend;
	struct fault_list *faults = arena_new(&exchange->arena, struct fault_list);
	const char *status = NULL;
	struct error err = {0};
	int result;

	faults->arena = &exchange->arena;
	result = backend->object_check(backend->context, exchange->kind, exchange->id, NULL,
				       exchange->dry_run, &exchange->arena, &status, faults, &err);
	if (result < 0)
		reply_errno(exchange, result, faults, &err);
	return result == 0;
}

void handle_object_delete(struct exchange *exchange)
{
	struct store_object object;
	struct error err = {0};
	int result;

	if (!object_load(exchange, &object) || !object_revision_matches(exchange, &object) ||
	    !object_is_unused(exchange) || !delete_admit(exchange))
		return;
	if (exchange->dry_run) {
		buffer_adds(reply_json(exchange, 200),
			    "{\"dryRun\":true,\"action\":\"delete\",\"changes\":[]}");
		return;
	}
	result = store_object_delete(exchange->api->store, object.kind, object.id, NULL, &err);
	if (result < 0) {
		reply_errno(exchange, result == -EDQUOT ? result : -EIO, NULL, &err);
		// The backend looks at the object again and gives back what it chose for it.
		exchange->object_changed = true;
		return;
	}
	exchange->acknowledges = true;
	exchange->object_changed = true;
	reply_begin(exchange, 204, NULL);
}
