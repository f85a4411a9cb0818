// SPDX-License-Identifier: Apache-2.0
// apply: the objects of a document.
//
// First the agent is asked about every object with a dry run, so that a fault anywhere in the
// document is told before anything changes. An object that names another one of the document that
// is not there yet is refused then, for that name: such a refusal is expected, all others are not.
//
// Then the objects are put in the order in which kinds refer to each other. Only security groups
// may name each other in a circle: a group that is named before its turn and is not there yet is
// put without its rules that name absent groups first, and whole in its turn. So a group never lets
// in more than its document says.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/arena.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/input.h"
#include "agent/model/model.h"

static const char security_group[] = "security-group";

struct item {
	const char *kind, *id;
	char name[96]; // "security-group/web"
	char path[96];
	const cJSON *spec;
	const struct model_reference *references;
	size_t reference_count;
	size_t place;              // in the document
	struct client_reply reply; // to the dry run
	cJSON *plan;               // what it says; NULL: refused
	bool exists;               // the agent has it
	bool bare;                 // but without its rules that name absent groups
};

struct bundle {
	struct item *items;
	size_t count;
	struct arena arena;
};

static void bundle_release(struct bundle *bundle)
{
	for (size_t i = 0; i < bundle->count; i++) {
		cJSON_Delete(bundle->items[i].plan);
		client_reply_release(&bundle->items[i].reply);
	}
	free(bundle->items);
	arena_release(&bundle->arena);
}

static struct item *bundle_find(const struct bundle *bundle, const char *kind, const char *id)
{
	for (size_t i = 0; i < bundle->count; i++)
		if (strcmp(bundle->items[i].kind, kind) == 0 &&
		    strcmp(bundle->items[i].id, id) == 0)
			return &bundle->items[i];
	return NULL;
}

// --- Reading ---

// What the object names, whatever else is wrong with it: the agent judges its form.
static void references_find(struct item *item, struct arena *arena)
{
	struct fault_list faults = {.arena = arena};
	scoped_free char *text = cJSON_PrintUnformatted(item->spec);
	struct model_object object;
	enum model_kind kind;

	if (!text || model_kind_from_name(item->kind, &kind) < 0)
		return;
	model_parse(kind, item->id, text, strlen(text), arena, &object, &faults);
	model_references(&object, arena, &item->references, &item->reference_count);
}

// NULL, or what is wrong with the object.
static const char *item_read(const cJSON *object, struct item *ret_item)
{
	const cJSON *kind = cJSON_GetObjectItemCaseSensitive(object, "kind");
	const cJSON *id = cJSON_GetObjectItemCaseSensitive(object, "id");
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(object, "spec");

	if (!cJSON_IsString(kind) || !kind_name(kind->valuestring))
		return "\"kind\" must be vpc, subnet, security-group, file-system, target-group, "
		       "load-balancer or task";
	if (!cJSON_IsString(id) || !id_is_valid(id->valuestring))
		return "\"id\" must be 1 to 63 of a-z, 0-9 and '-', not beginning with '-'";
	if (!cJSON_IsObject(spec))
		return "\"spec\" must be an object";
	*ret_item = (struct item){
		.kind = kind_name(kind->valuestring), .id = id->valuestring, .spec = spec};
	return NULL;
}

static void item_name(struct item *item)
{
	scoped(buffer_release) struct buffer path = {0};

	snprintf(item->name, sizeof(item->name), "%s/%s", item->kind, item->id);
	object_path(item->name, &path);
	snprintf(item->path, sizeof(item->path), "%s", buffer_text(&path));
}

// NULL, or what is wrong with the object.
static const char *bundle_add(struct bundle *bundle, const cJSON *object)
{
	struct item *item = &bundle->items[bundle->count];
	const char *wrong = item_read(object, item);

	if (!wrong && bundle_find(bundle, item->kind, item->id))
		wrong = "the same object stands in the document before";
	if (wrong)
		return wrong;
	item->place = bundle->count++;
	item_name(item);
	references_find(item, &bundle->arena);
	return NULL;
}

// What others refer to comes first; what is of one kind keeps its order.
static int item_compare(const void *one, const void *other)
{
	const struct item *a = one, *b = other;
	int order = kind_order(a->kind) - kind_order(b->kind);

	return order ? order : a->place < b->place ? -1 : 1;
}

// One object, a list, or {"items": list}.
static bool bundle_read(const cJSON *document, const char *file, struct bundle *bundle)
{
	const cJSON *items = cJSON_GetObjectItemCaseSensitive(document, "items");
	const cJSON *list = cJSON_IsArray(items) ? items : document, *object;
	const char *wrong = NULL;

	bundle->items = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*bundle->items));
	if (!bundle->items)
		abort();
	if (!cJSON_IsArray(list)) {
		wrong = bundle_add(bundle, document);
		if (wrong)
			fprintf(stderr, "penstockctl: %s: %s\n", input_name(file), wrong);
		return !wrong;
	}
	cJSON_ArrayForEach(object, list) {
		wrong = bundle_add(bundle, object);
		if (wrong) {
			fprintf(stderr, "penstockctl: %s: %s/%zu: %s\n", input_name(file),
				list == items ? "/items" : "", bundle->count, wrong);
			return false;
		}
	}
	qsort(bundle->items, bundle->count, sizeof(*bundle->items), item_compare);
	return true;
}

static int item_perform(const struct ctl *ctl, const char *method, const char *path,
			const cJSON *spec, struct client_reply *ret_reply)
{
	scoped_free char *body = spec ? cJSON_PrintUnformatted(spec) : NULL;
	const struct client_request request = {
		.socket_path = ctl->socket_path, .method = method, .path = path, .body = body};

	return client_perform(&request, ret_reply);
}

// --- Asking ---

// A dry run; of what is refused it must be asked apart whether it exists.
static int item_ask(const struct ctl *ctl, struct item *item)
{
	scoped(client_reply_release) struct client_reply present = {0};
	scoped(buffer_release) struct buffer path = {0};
	struct client_reply *reply = &item->reply;

	buffer_addf(&path, "%s?dryRun=true", item->path);
	if (item_perform(ctl, "PUT", buffer_text(&path), item->spec, reply) < 0)
		return reply_fail(ctl, item->name, reply);
	if (reply->status / 100 == 2) {
		item->plan = cJSON_Parse(buffer_text(&reply->body));
		item->exists = strcmp(member_text(item->plan, "action"), "create") != 0;
		return EXIT_DONE;
	}
	if (item_perform(ctl, "GET", item->path, NULL, &present) < 0)
		return reply_fail(ctl, item->name, &present);
	item->exists = present.status == 200;
	return EXIT_DONE;
}

// Whether what stands at the pointer names an object of the document that is not there yet.
static bool names_absent(const struct bundle *bundle, const struct item *item, const char *pointer)
{
	for (size_t i = 0; i < item->reference_count; i++) {
		const struct model_reference *reference = &item->references[i];
		const struct item *other;

		if (strcmp(reference->pointer, pointer) != 0)
			continue;
		other = bundle_find(bundle, model_kind_name(reference->kind), reference->id);
		return other && !other->exists;
	}
	return false;
}

// The details that are expected are taken out; the message of such a refusal is that of its first
// detail.
static void expected_remove(const struct bundle *bundle, const struct item *item, cJSON *error)
{
	cJSON *details = cJSON_GetObjectItemCaseSensitive(error, "details");
	cJSON *detail = details ? details->child : NULL, *next;

	for (; detail; detail = next) {
		next = detail->next;
		if (names_absent(bundle, item, member_text(detail, "pointer")))
			cJSON_Delete(cJSON_DetachItemViaPointer(details, detail));
	}
	if (details && details->child)
		cJSON_ReplaceItemInObjectCaseSensitive(
			error, "message",
			cJSON_CreateString(member_text(details->child, "message")));
}

// EXIT_DONE when it was refused for nothing but names that will be there.
static int refusal_show(const struct ctl *ctl, const struct bundle *bundle, const struct item *item)
{
	scoped(document_release) cJSON *error = cJSON_Parse(buffer_text(&item->reply.body));

	if (item->reply.status != 400 || cJSON_GetArraySize(member_at(error, "details")) == 0)
		return reply_fail(ctl, item->name, &item->reply);
	expected_remove(bundle, item, error);
	if (cJSON_GetArraySize(member_at(error, "details")) == 0)
		return EXIT_DONE;
	error_show(ctl, item->name, error);
	return EXIT_REFUSED;
}

static int bundle_ask(const struct ctl *ctl, struct bundle *bundle)
{
	int result = EXIT_DONE;

	for (size_t i = 0; i < bundle->count && result == EXIT_DONE; i++)
		result = item_ask(ctl, &bundle->items[i]);
	if (result != EXIT_DONE)
		return result;
	for (size_t i = 0; i < bundle->count; i++) {
		const struct item *item = &bundle->items[i];
		int one = item->plan ? EXIT_DONE : refusal_show(ctl, bundle, item);

		result = one == EXIT_DONE ? result : one;
	}
	return result;
}

// Of what is refused as expected the agent cannot say what would be done.
static const char *planned_action(const struct item *item)
{
	if (!item->plan)
		return item->exists ? "update" : "create";
	return member_text(item->plan, "action");
}

static void plan_print(const struct item *item)
{
	scoped(document_release) cJSON *plan = cJSON_Duplicate(item->plan, true);

	if (!plan) {
		plan = cJSON_CreateObject();
		cJSON_AddTrueToObject(plan, "dryRun");
		cJSON_AddStringToObject(plan, "action", planned_action(item));
		cJSON_AddArrayToObject(plan, "changes");
	}
	cJSON_AddStringToObject(plan, "kind", item->kind);
	cJSON_AddStringToObject(plan, "id", item->id);
	line_print(plan);
}

static void plan_show(const struct ctl *ctl, const struct item *item)
{
	const char *action = planned_action(item);

	if (ctl->json)
		plan_print(item);
	else if (strcmp(action, "none") == 0)
		printf("%s: would stay as it is\n", item->name);
	else
		printf("%s: would be %sd\n", item->name, action);
}

// --- Doing ---

// Takes the rules out that name absent groups of the document.
static void rules_strip(const struct bundle *bundle, const struct item *item, cJSON *permissions)
{
	cJSON *permission = permissions ? permissions->child : NULL, *next, *pair, *next_pair;

	for (; permission; permission = next) {
		cJSON *pairs = cJSON_GetObjectItemCaseSensitive(permission, "userIdGroupPairs");

		next = permission->next;
		for (pair = pairs ? pairs->child : NULL; pair; pair = next_pair) {
			const struct item *other =
				bundle_find(bundle, security_group, member_text(pair, "groupId"));

			next_pair = pair->next;
			if (other && other != item && !other->exists)
				cJSON_Delete(cJSON_DetachItemViaPointer(pairs, pair));
		}
		if (cJSON_GetArraySize(pairs) == 0 &&
		    cJSON_GetArraySize(member_at(permission, "ipRanges")) == 0)
			cJSON_Delete(cJSON_DetachItemViaPointer(permissions, permission));
	}
}

static int group_put_bare(const struct ctl *ctl, const struct bundle *bundle, struct item *item)
{
	static const char *const lists[] = {"ipPermissions", "ipPermissionsEgress"};
	scoped(document_release) cJSON *spec = cJSON_Duplicate(item->spec, true);
	scoped(client_reply_release) struct client_reply reply = {0};

	for (size_t i = 0; i < ARRAY_LENGTH(lists); i++)
		rules_strip(bundle, item, cJSON_GetObjectItemCaseSensitive(spec, lists[i]));
	if (item_perform(ctl, "PUT", item->path, spec, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, item->name, &reply);
	item->exists = item->bare = true;
	return EXIT_DONE;
}

// The groups that this one names and that have not had their turn.
static int named_groups_put(const struct ctl *ctl, struct bundle *bundle, const struct item *item)
{
	int result = EXIT_DONE;

	for (size_t i = 0; i < item->reference_count && result == EXIT_DONE; i++) {
		const struct model_reference *reference = &item->references[i];
		struct item *other =
			bundle_find(bundle, model_kind_name(reference->kind), reference->id);

		if (reference->kind == MODEL_SECURITY_GROUP && other && other != item &&
		    !other->exists)
			result = group_put_bare(ctl, bundle, other);
	}
	return result;
}

static int item_put(const struct ctl *ctl, struct bundle *bundle, struct item *item)
{
	scoped(client_reply_release) struct client_reply reply = {0};
	int result = named_groups_put(ctl, bundle, item);

	if (result != EXIT_DONE)
		return result;
	if (item_perform(ctl, "PUT", item->path, item->spec, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, item->name, &reply);
	if (ctl->json)
		puts(buffer_text(&reply.body));
	else if (reply.status == 201 || item->bare)
		printf("%s: created\n", item->name);
	else
		printf("%s: %s\n", item->name,
		       strcmp(planned_action(item), "none") == 0 ? "unchanged" : "changed");
	item->exists = true;
	item->bare = false;
	return EXIT_DONE;
}

// What a refusal in the middle left behind.
static void rest_show(const struct ctl *ctl, const struct bundle *bundle, size_t done)
{
	char message[96];

	for (size_t i = 0; i < bundle->count; i++)
		if (bundle->items[i].bare)
			fail(ctl, EXIT_REFUSED, bundle->items[i].name,
			     "created, but still without its rules that name other groups", NULL);
	snprintf(message, sizeof(message), "%zu of %zu objects were applied", done, bundle->count);
	fail(ctl, EXIT_REFUSED, NULL, message, "Apply the same again when the fault is mended.");
}

// What was accepted takes effect after the reply, and may fail then: it is tried again.
static void effects_show(const struct ctl *ctl, const struct bundle *bundle)
{
	for (size_t i = 0; i < bundle->count; i++) {
		scoped(client_reply_release) struct client_reply reply = {0};
		scoped(document_release) cJSON *object = NULL, *error = NULL;

		if (item_perform(ctl, "GET", bundle->items[i].path, NULL, &reply) < 0)
			return;
		object = cJSON_Parse(buffer_text(&reply.body));
		if (!member_at(object, "status.error"))
			continue;
		error = error_make("NotEffective", member_text(object, "status.error"), NULL);
		error_show(ctl, bundle->items[i].name, error);
	}
}

static int bundle_apply(const struct ctl *ctl, struct bundle *bundle, bool dry_run)
{
	int result = bundle_ask(ctl, bundle);

	if (result != EXIT_DONE)
		return result;
	for (size_t i = 0; i < bundle->count; i++) {
		struct item *item = &bundle->items[i];

		if (dry_run)
			plan_show(ctl, item);
		else
			result = item_put(ctl, bundle, item);
		if (result != EXIT_DONE) {
			rest_show(ctl, bundle, i);
			break;
		}
	}
	if (!dry_run)
		effects_show(ctl, bundle);
	return result;
}

static int run_apply(const struct ctl *ctl, int argc, char **argv)
{
	const char *file = NULL;
	bool dry_run = false;
	const struct option_value options[] = {
		{"--file", "-f", &file, NULL},
		{"--dry-run", NULL, NULL, &dry_run},
	};
	scoped(document_release) cJSON *document = NULL;
	scoped(bundle_release) struct bundle bundle = {0};

	options_take(&verb_apply, argc, argv, options, ARRAY_LENGTH(options));
	if (!file)
		return usage_error(&verb_apply, "which file? -f FILE, or -f - for standard input",
				   "");
	document = input_read(file);
	if (!document || !bundle_read(document, file, &bundle))
		return EXIT_USAGE;
	return bundle_apply(ctl, &bundle, dry_run);
}

const struct verb verb_apply = {
	.name = "apply",
	.arguments = "-f FILE|- [--dry-run]",
	.summary = "create or update objects from a JSON document",
	// clang-format off
	.help = "The document is one object, an array of objects, or {\"items\":[objects]}. An\n"
		"object is {\"kind\": KIND, \"id\": ID, \"spec\": {...}}, just what `describe -o json`\n"
		"prints; other members are ignored, so what was printed can be applied again.\n"
		"KIND is vpc, subnet, security-group, file-system, target-group, load-balancer\n"
		"or task.\n"
		"\n"
		"The agent is asked about every object before the first is put: a fault in any of\n"
		"them changes nothing. What new objects are to each other (a subnet outside of its\n"
		"new VPC's block) shows only when they are put, as does a full host: such a refusal\n"
		"ends the work and is told with what was done. They are put so that what others\n"
		"name comes first, whatever the order in the document; security groups may name\n"
		"each other.\n"
		"What was taken on but has not taken effect yet is told, too, and is no failure: the\n"
		"agent goes on trying, and the exit code is 0.\n"
		"Applying the same again changes nothing. With -o json the objects, or with\n"
		"--dry-run what would be done to each, stand one per line.\n"
		"\n"
		"  -f, --file FILE   the document; - is standard input\n"
		"  --dry-run         say what would be done, and do nothing\n"
		"\n"
		"Example:\n"
		"  penstockctl apply -f - <<END\n"
		"  [{\"kind\":\"vpc\",\"id\":\"main\",\"spec\":{\"cidrBlock\":\"10.0.0.0/16\"}},\n"
		"   {\"kind\":\"subnet\",\"id\":\"a\",\"spec\":{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.0/24\"}}]\n"
		"  END",
	// clang-format on
	.run = run_apply,
};
