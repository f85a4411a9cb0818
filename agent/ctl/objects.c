// SPDX-License-Identifier: Apache-2.0
// Names of objects as people write them, KIND/ID with short words for the long kinds; and delete.
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/model/model.h"

// In the order in which a bundle is applied.
static const struct {
	enum model_kind kind;
	const char *short_name;
} kinds[] = {
	{MODEL_VPC, "vpc"},        {MODEL_SUBNET, "subnet"},   {MODEL_SECURITY_GROUP, "sg"},
	{MODEL_FILE_SYSTEM, "fs"}, {MODEL_TARGET_GROUP, "tg"}, {MODEL_LOAD_BALANCER, "lb"},
	{MODEL_TASK, "task"},
};

static bool word_is(const char *name, const char *word, size_t length)
{
	return strlen(name) == length && memcmp(name, word, length) == 0;
}

static int kind_index(const char *word, size_t length)
{
	for (size_t i = 0; i < ARRAY_LENGTH(kinds); i++)
		if (word_is(kinds[i].short_name, word, length) ||
		    word_is(model_kind_name(kinds[i].kind), word, length) ||
		    word_is(model_kind_path(kinds[i].kind), word, length))
			return (int)i;
	return -1;
}

const char *kind_name(const char *word)
{
	int index = kind_index(word, strlen(word));

	return index < 0 ? NULL : model_kind_name(kinds[index].kind);
}

int kind_order(const char *word)
{
	return kind_index(word, strlen(word));
}

const char *object_path(const char *name, struct buffer *ret_path)
{
	const char *slash = strchr(name, '/');
	const char *id = slash ? slash + 1 : name;
	int index = slash ? kind_index(name, (size_t)(slash - name)) : kind_index("task", 4);

	if (index < 0) {
		fprintf(stderr,
			"penstockctl: %s: the kind must be vpc, subnet, sg, fs, tg, lb or task\n",
			name);
		return NULL;
	}
	if (!id_is_valid(id)) {
		fprintf(stderr,
			"penstockctl: %s: an id is 1 to 63 of a-z, 0-9 and '-', not beginning with "
			"'-'\n",
			name);
		return NULL;
	}
	buffer_addf(ret_path, "/v1/%s/%s", model_kind_path(kinds[index].kind), id);
	return model_kind_name(kinds[index].kind);
}

bool task_path(const struct verb *verb, const char *name, struct buffer *ret_path)
{
	const char *kind = object_path(name, ret_path);

	if (kind && strcmp(kind, "task") != 0)
		usage_error(verb, "only a task has this, not ", name);
	return kind && strcmp(kind, "task") == 0;
}

// --- delete ---

static int object_delete(const struct ctl *ctl, const char *name)
{
	scoped(buffer_release) struct buffer path = {0};
	scoped(client_reply_release) struct client_reply reply = {0};
	struct client_request request = {.socket_path = ctl->socket_path, .method = "DELETE"};

	object_path(name, &path);
	request.path = buffer_text(&path);
	if (client_perform(&request, &reply) < 0 || reply.status / 100 != 2)
		return reply_fail(ctl, NULL, &reply);
	if (!ctl->json)
		printf("%s: deleted\n", name);
	return EXIT_DONE;
}

// Nothing is deleted when a name is wrong.
static bool names_are_valid(char **names, int count)
{
	for (int i = 0; i < count; i++) {
		scoped(buffer_release) struct buffer path = {0};

		if (!strchr(names[i], '/')) {
			usage_error(&verb_delete, "say its kind, as in task/", names[i]);
			return false;
		}
		if (!object_path(names[i], &path))
			return false;
	}
	return true;
}

static int run_delete(const struct ctl *ctl, int argc, char **argv)
{
	int count = options_take(&verb_delete, argc, argv, NULL, 0), result = EXIT_DONE;

	if (!names_are_valid(argv + 1, count))
		return EXIT_USAGE;
	for (int i = 1; i <= count && (result == EXIT_DONE || result == EXIT_NOT_FOUND); i++) {
		int one = object_delete(ctl, argv[i]);

		result = one == EXIT_DONE ? result : one;
	}
	return result;
}

const struct verb verb_delete = {
	.name = "delete",
	.arguments = "KIND/ID...",
	.arguments_min = 1,
	.arguments_max = INT_MAX,
	.summary = "delete objects nobody uses, forget stopped tasks",
	.help = "In the order given. An object that others use is refused, with its users, and\n"
		"ends the work; one that is not there does not, but the exit code is 4 then. A\n"
		"task must be STOPPED. KIND: vpc, subnet, sg, fs, tg, lb, task (or the long\n"
		"names).\n"
		"\n"
		"Example: penstockctl delete task/web-1 sg/web subnet/a vpc/main",
	.run = run_delete,
};
