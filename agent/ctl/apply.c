// SPDX-License-Identifier: Apache-2.0
// apply: objects as documents.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/input.h"

struct bundle {
	const cJSON **objects;
	size_t count;
};

static bool object_check(const cJSON *object, size_t place)
{
	const cJSON *kind = cJSON_GetObjectItemCaseSensitive(object, "kind");
	const cJSON *id = cJSON_GetObjectItemCaseSensitive(object, "id");

	if (!cJSON_IsString(kind) || !kind_name(kind->valuestring))
		fprintf(stderr,
			"penstockctl: object %zu: \"kind\" must be vpc, subnet, security-group, "
			"file-system, target-group, load-balancer or task\n",
			place);
	else if (!cJSON_IsString(id))
		fprintf(stderr, "penstockctl: object %zu: \"id\" is missing\n", place);
	else if (!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(object, "spec")))
		fprintf(stderr, "penstockctl: object %zu (%s/%s): \"spec\" is missing\n", place,
			kind->valuestring, id->valuestring);
	else
		return true;
	return false;
}

// Stable, so that what is of one kind keeps its order.
static void bundle_insert(struct bundle *bundle, const cJSON *object)
{
	int order = kind_order(member_text(object, "kind"));
	size_t at = bundle->count++;

	while (at > 0 && kind_order(member_text(bundle->objects[at - 1], "kind")) > order) {
		bundle->objects[at] = bundle->objects[at - 1];
		at--;
	}
	bundle->objects[at] = object;
}

static bool bundle_read(const cJSON *document, struct bundle *ret_bundle)
{
	const cJSON *items = cJSON_GetObjectItemCaseSensitive(document, "items");
	const cJSON *list = cJSON_IsArray(document) ? document : items;
	size_t count = list ? (size_t)cJSON_GetArraySize(list) : 1, place = 0;
	const cJSON *object = list ? list->child : document;

	ret_bundle->objects = calloc(count + 1, sizeof(*ret_bundle->objects));
	if (!ret_bundle->objects)
		abort();
	for (; place < count; place++, object = object->next) {
		if (!object_check(object, place))
			return false;
		bundle_insert(ret_bundle, object);
	}
	return true;
}

static const char *outcome(const struct client_reply *reply, bool dry_run)
{
	scoped(document_release) cJSON *document = cJSON_Parse(buffer_text(&reply->body));
	const char *action = member_text(document, "action");

	if (!dry_run)
		return reply->status == 201 ? "created" : "as it should be";
	if (strcmp(action, "create") == 0)
		return "would be created";
	return strcmp(action, "update") == 0 ? "would be changed" : "would stay as it is";
}

static int object_apply(const struct ctl *ctl, const cJSON *object, bool dry_run)
{
	const char *kind = member_text(object, "kind"), *id = member_text(object, "id");
	scoped_free char *spec =
		cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(object, "spec"));
	scoped(buffer_release) struct buffer path = {0}, name = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	const struct client_request request = {
		.socket_path = ctl->socket_path, .method = "PUT", .body = spec};
	struct client_request placed = request;

	buffer_addf(&name, "%s/%s", kind, id);
	if (!object_path(buffer_text(&name), &path))
		return EXIT_USAGE;
	if (dry_run)
		buffer_adds(&path, "?dryRun=true");
	placed.path = buffer_text(&path);
	if (client_perform(&placed, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, buffer_text(&name), &reply);
	if (ctl->json)
		puts(buffer_text(&reply.body));
	else
		printf("%s/%s: %s\n", kind, id, outcome(&reply, dry_run));
	return EXIT_DONE;
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
	struct bundle bundle = {0};
	int result = EXIT_USAGE;

	options_take(&verb_apply, argc, argv, options, ARRAY_LENGTH(options));
	if (!file)
		return usage_error(&verb_apply, "which file? -f FILE, or -f - for standard input",
				   "");
	document = input_read(file);
	if (document && bundle_read(document, &bundle)) {
		result = EXIT_DONE;
		for (size_t i = 0; i < bundle.count && result == EXIT_DONE; i++)
			result = object_apply(ctl, bundle.objects[i], dry_run);
	}
	free(bundle.objects);
	return result;
}

const struct verb verb_apply = {
	.name = "apply",
	.arguments = "-f FILE|- [--dry-run]",
	.summary = "create or update objects from a JSON document",
	.help = "The document is one object, an array of objects, or {\"items\":[objects]}. An\n"
		"object is {\"kind\": KIND, \"id\": ID, \"spec\": {...}}, just what `describe -o "
		"json`\n"
		"prints; other members are ignored, so what was printed can be applied again.\n"
		"KIND is vpc, subnet, security-group, file-system, target-group, load-balancer\n"
		"or task. Objects are put in that order, whatever theirs in the document is; the\n"
		"first refusal ends the work. Applying the same again changes nothing.\n"
		"\n"
		"  -f, --file FILE   the document; - is standard input\n"
		"  --dry-run         say what would be done, and do nothing\n"
		"\n"
		"Example:\n"
		"  penstockctl apply -f - <<END\n"
		"  [{\"kind\":\"vpc\",\"id\":\"main\",\"spec\":{\"cidrBlock\":\"10.0.0.0/16\"}},\n"
		"   "
		"{\"kind\":\"subnet\",\"id\":\"a\",\"spec\":{\"vpcId\":\"main\",\"cidrBlock\":\"10."
		"0.1.0/24\"}}]\n"
		"  END",
	.run = run_apply,
};
