// SPDX-License-Identifier: Apache-2.0
// apply and delete: objects as documents.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/json.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/input.h"

enum { INPUT_BYTES_MAX = 64 * 1024 * 1024, INPUT_DEPTH_MAX = 36 };

// --- Input, for apply and run ---

static int stdin_read(struct buffer *text)
{
	char bytes[16 * 1024];
	ssize_t count;

	while ((count = read(STDIN_FILENO, bytes, sizeof(bytes))) > 0 &&
	       text->length <= INPUT_BYTES_MAX)
		buffer_add(text, bytes, (size_t)count);
	return count < 0 ? -errno : 0;
}

static bool text_read(const char *file, struct buffer *ret_text)
{
	struct error err = {0};
	char *text;
	size_t length;

	if (strcmp(file, "-") == 0) {
		if (stdin_read(ret_text) == 0)
			return true;
		perror("penstockctl: standard input");
		return false;
	}
	if (file_read(AT_FDCWD, file, INPUT_BYTES_MAX, &text, &length, &err) < 0) {
		fprintf(stderr, "penstockctl: %s\n", err.message);
		return false;
	}
	buffer_add(ret_text, text, length);
	free(text);
	return true;
}

cJSON *input_read(const char *file)
{
	static const struct json_limits limits = {INPUT_BYTES_MAX, INPUT_DEPTH_MAX};
	scoped(buffer_release) struct buffer text = {0};
	struct json_fault fault;
	cJSON *document;

	if (!text_read(file, &text))
		return NULL;
	if (json_read(buffer_text(&text), text.length, &limits, &document, &fault) == 0)
		return document;
	fprintf(stderr, "penstockctl: %s: %s%s%s\n",
		strcmp(file, "-") == 0 ? "standard input" : file, fault.pointer,
		fault.pointer[0] ? ": " : "", fault.message);
	return NULL;
}

// --- apply ---

struct bundle {
	const cJSON **objects;
	size_t count;
};

static bool object_check(const cJSON *object, size_t place)
{
	const cJSON *kind = cJSON_GetObjectItemCaseSensitive(object, "kind");
	const cJSON *id = cJSON_GetObjectItemCaseSensitive(object, "id");

	if (!cJSON_IsString(kind) || !kind_path(kind->valuestring))
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
	const char *unused;

	buffer_addf(&name, "%s/%s", kind, id);
	if (!object_path(buffer_text(&name), &path, &unused))
		return EXIT_USAGE;
	if (dry_run)
		buffer_adds(&path, "?dryRun=true");
	placed.path = buffer_text(&path);
	if (client_perform(&placed, &reply) < 0 || reply.status / 100 != 2) {
		fprintf(stderr, "%s/%s was not applied\n", kind, id);
		return reply_fail(&reply);
	}
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

	switch (options_take(&verb_apply, argc, argv, options, ARRAY_LENGTH(options))) {
	case -1:
		return EXIT_USAGE;
	case 0:
		break;
	default:
		return usage_error(&verb_apply, "unexpected argument ", argv[1]);
	}
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

// --- delete ---

static int object_delete(const struct ctl *ctl, const char *name)
{
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	struct client_request request = {.socket_path = ctl->socket_path, .method = "DELETE"};
	const char *kind;

	if (!object_path(name, &path, &kind))
		return EXIT_USAGE;
	request.path = buffer_text(&path);
	if (client_perform(&request, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(&reply);
	if (!ctl->json)
		printf("%s: deleted\n", name);
	return EXIT_DONE;
}

static int run_delete(const struct ctl *ctl, int argc, char **argv)
{
	int count = options_take(&verb_delete, argc, argv, NULL, 0), result = EXIT_DONE;

	if (count < 0)
		return EXIT_USAGE;
	if (count == 0)
		return usage_error(&verb_delete, "which object?", "");
	for (int i = 1; i <= count && (result == EXIT_DONE || result == EXIT_NOT_FOUND); i++) {
		int one;

		if (!strchr(argv[i], '/'))
			return usage_error(&verb_delete, "say its kind, as in task/", argv[i]);
		one = object_delete(ctl, argv[i]);
		result = one == EXIT_DONE ? result : one;
	}
	return result;
}

const struct verb verb_delete = {
	.name = "delete",
	.arguments = "KIND/ID...",
	.summary = "delete objects nobody uses, forget stopped tasks",
	.help = "An object that others use is refused, with its users. A task must be STOPPED.\n"
		"KIND: vpc, subnet, sg, fs, tg, lb, task (or the long names).\n"
		"\n"
		"Example: penstockctl delete task/web-1 sg/web subnet/a vpc/main",
	.run = run_delete,
};
