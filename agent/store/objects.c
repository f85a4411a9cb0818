// SPDX-License-Identifier: Apache-2.0
// Objects and the references between them.
#include <errno.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/store/internal.h"

// Columns as OBJECT_COLUMNS names them.
static struct store_object object_read(sqlite3_stmt *statement)
{
	return (struct store_object){
		.kind = store_text(statement, 0),
		.id = store_text(statement, 1),
		.revision = (uint64_t)sqlite3_column_int64(statement, 2),
		.created_ms = sqlite3_column_int64(statement, 3),
		.changed_ms = sqlite3_column_int64(statement, 4),
		.spec = store_text(statement, 5),
		.status = store_text(statement, 6),
		.spec_revision = (uint64_t)sqlite3_column_int64(statement, 7),
	};
}

int store_object_get(struct store *store, const char *kind, const char *id, struct arena *arena,
		     struct store_object *ret_object, struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_OBJECT_GET, err, "ss", kind, id);
	int result = statement ? store_step(store, statement, err, "read an object") : -err->code;

	if (result < 0)
		return result;
	if (result == 0)
		return error_set(err, ENOENT, "%s/%s does not exist", kind, id);
	*ret_object = object_read(statement);
	ret_object->kind = arena_strdup(arena, ret_object->kind);
	ret_object->id = arena_strdup(arena, ret_object->id);
	ret_object->spec = arena_strdup(arena, ret_object->spec);
	ret_object->status = arena_strdup(arena, ret_object->status);
	return 0;
}

// What the event and the new row need to know of the old one.
struct place {
	bool exists;
	int64_t spec_revision, created_ms;
	char *status; // the caller frees it
};

static void place_release(struct place *place)
{
	free(place->status);
}

static int place_find(struct store *store, const char *kind, const char *id,
		      struct place *ret_place, struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_OBJECT_PLACE, err, "ss", kind, id);
	int result = statement ? store_step(store, statement, err, "find an object") : -err->code;

	if (result <= 0)
		return result;
	ret_place->exists = true;
	ret_place->spec_revision = sqlite3_column_int64(statement, 0);
	ret_place->created_ms = sqlite3_column_int64(statement, 1);
	if (store_text(statement, 2))
		ret_place->status = strdup(store_text(statement, 2));
	return 0;
}

static int event_put(struct store *store, const struct store_change *change,
		     const struct place *place, bool deleted, int64_t now_ms, struct error *err)
{
	int result =
		store_write(store, STATEMENT_EVENT_PUT, err, "iiissisi", (int64_t)store->revision,
			    now_ms, (int64_t)deleted, change->kind, change->id,
			    place->spec_revision, change->status, place->created_ms);

	return result < 0 ? result : store_events_compact(store, err);
}

static int object_write(struct store *store, const struct store_change *change,
			const struct place *place, int64_t old_spec_revision, int64_t now_ms,
			struct error *err)
{
	int result = 0;

	if (change->spec)
		result = store_write(store, STATEMENT_SPEC_PUT, err, "is", place->spec_revision,
				     change->spec);
	if (result == 0)
		result = store_write(store, STATEMENT_OBJECT_PUT, err, "ssiisii", change->kind,
				     change->id, (int64_t)store->revision, place->spec_revision,
				     change->status, place->created_ms, now_ms);
	// Its last event may be compacted already.
	if (result == 0 && change->spec)
		result = store_write(store, STATEMENT_SPEC_DROP, err, "i", old_spec_revision);
	return result < 0 ? result : event_put(store, change, place, false, now_ms, err);
}

int store_object_put(struct store *store, const struct store_change *change, uint64_t *ret_revision,
		     struct error *err)
{
	scoped(place_release) struct place place = {0};
	struct store_change whole = *change;
	int64_t now_ms = clock_wall_ms(), old_spec_revision;
	int result = store_turn_begin(store, err);

	if (result == 0)
		result = place_find(store, change->kind, change->id, &place, err);
	if (result < 0)
		return result;
	old_spec_revision = place.spec_revision;
	if (!place.exists && !change->spec)
		return error_set(err, ENOENT, "%s/%s does not exist", change->kind, change->id);
	store->revision++;
	if (change->spec)
		place.spec_revision = (int64_t)store->revision;
	if (!place.exists)
		place.created_ms = now_ms;
	if (!change->status)
		whole.status = place.status;
	else if (!*change->status)
		whole.status = NULL;
	result = object_write(store, &whole, &place, old_spec_revision, now_ms, err);
	if (result == 0 && ret_revision)
		*ret_revision = store->revision;
	return result;
}

int store_object_delete(struct store *store, const char *kind, const char *id,
			uint64_t *ret_revision, struct error *err)
{
	scoped(place_release) struct place place = {0};
	int result = store_turn_begin(store, err);

	if (result == 0)
		result = place_find(store, kind, id, &place, err);
	if (result < 0 || !place.exists)
		return result;
	store->revision++;
	result = store_references_set(store, kind, id, NULL, 0, err);
	if (result == 0)
		result = store_write(store, STATEMENT_OBJECT_DELETE, err, "ss", kind, id);
	if (result == 0)
		result = event_put(
			store,
			&(struct store_change){.kind = kind, .id = id, .status = place.status},
			&place, true, clock_wall_ms(), err);
	if (result == 0 && ret_revision)
		*ret_revision = store->revision;
	return result;
}

int store_object_each(struct store *store, const char *kind, store_object_fn *function,
		      void *context, struct error *err)
{
	scoped_statement statement = store_bind(store, STATEMENT_OBJECT_EACH, err, "s", kind);
	int result;

	if (!statement)
		return -err->code;
	while ((result = store_step(store, statement, err, "list objects")) > 0) {
		struct store_object object = object_read(statement);

		result = function(&object, context);
		if (result < 0)
			break;
	}
	return result;
}

int store_references_set(struct store *store, const char *kind, const char *id,
			 const struct store_reference *references, size_t count, struct error *err)
{
	int result = store_write(store, STATEMENT_REFERENCE_DROP, err, "ss", kind, id);

	for (size_t i = 0; i < count && result == 0; i++)
		result = store_write(store, STATEMENT_REFERENCE_PUT, err, "ssss", kind, id,
				     references[i].kind, references[i].id);
	return result;
}

int store_users_each(struct store *store, const char *kind, const char *id,
		     store_reference_fn *function, void *context, struct error *err)
{
	scoped_statement statement =
		store_bind(store, STATEMENT_REFERENCE_USERS, err, "ss", kind, id);
	int result;

	if (!statement)
		return -err->code;
	while ((result = store_step(store, statement, err, "list users")) > 0) {
		struct store_reference user = {
			.kind = store_text(statement, 0),
			.id = store_text(statement, 1),
		};

		result = function(&user, context);
		if (result < 0)
			break;
	}
	return result;
}
