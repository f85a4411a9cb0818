// SPDX-License-Identifier: Apache-2.0
// What penstockctl prints: errors, JSON, aligned tables.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

void document_release(cJSON **document)
{
	cJSON_Delete(*document);
}

static int unreachable(const struct client_reply *reply)
{
	fprintf(stderr, "penstockctl: %s\n", reply->err.message);
	if (reply->err.code == ENOENT || reply->err.code == ECONNREFUSED)
		fprintf(stderr, "Is penstockd running? Another socket: --socket PATH or "
				"PENSTOCK_SOCKET.\n");
	if (reply->err.code == EACCES)
		fprintf(stderr, "Only root and the configured groups may use the socket.\n");
	return EXIT_UNREACHABLE;
}

static void print_details(const cJSON *details)
{
	const cJSON *detail;

	cJSON_ArrayForEach(detail, details) {
		const char *pointer = member_text(detail, "pointer");
		bool whole = pointer[0] != '/' || strncmp(pointer, "/v1/", 4) == 0;

		fprintf(stderr, "  %s%s%s\n", whole ? "" : pointer, whole ? "" : ": ",
			member_text(detail, "message"));
	}
}

int reply_fail(const struct client_reply *reply)
{
	scoped(document_release) cJSON *document = NULL;
	const char *message, *first;
	const cJSON *details;
	bool repeated;

	if (reply->err.code)
		return unreachable(reply);
	document = cJSON_Parse(buffer_text(&reply->body));
	if (!document) {
		fprintf(stderr, "penstockctl: the agent answers %d\n", reply->status);
		return EXIT_REFUSED;
	}
	details = cJSON_GetObjectItemCaseSensitive(document, "details");
	message = member_text(document, "message");
	first = details ? member_text(details->child, "message") : "-";
	// A message that only repeats the first detail is said once, with its place.
	repeated = strcmp(message, first) == 0;
	fprintf(stderr, "penstockctl: %s:%s%s\n", member_text(document, "code"),
		repeated ? "" : " ", repeated ? "" : message);
	print_details(details);
	return reply->status == 404 ? EXIT_NOT_FOUND : EXIT_REFUSED;
}

int document_get(const struct ctl *ctl, const char *path, cJSON **ret_document)
{
	const struct client_request request = {
		.socket_path = ctl->socket_path, .method = "GET", .path = path};
	scoped(client_reply_release) struct client_reply reply;
	cJSON *document;

	if (client_perform(&request, &reply) < 0 || reply.status != 200)
		return reply_fail(&reply);
	document = cJSON_Parse(buffer_text(&reply.body));
	if (!document) {
		fprintf(stderr, "penstockctl: the agent's reply is not JSON\n");
		return EXIT_REFUSED;
	}
	*ret_document = document;
	return EXIT_DONE;
}

void document_print(const cJSON *document)
{
	scoped_free char *text = cJSON_Print(document);

	puts(text ? text : "");
}

const cJSON *member_at(const cJSON *object, const char *path)
{
	char name[64];

	while (object && *path) {
		size_t length = strcspn(path, ".");

		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		object = cJSON_GetObjectItemCaseSensitive(object, name);
		path += length + (path[length] == '.');
	}
	return object;
}

const char *member_text(const cJSON *object, const char *path)
{
	static char numbers[8][32];
	static unsigned next;
	const cJSON *member = member_at(object, path);
	char *text;

	if (cJSON_IsString(member))
		return member->valuestring;
	if (cJSON_IsBool(member))
		return cJSON_IsTrue(member) ? "true" : "false";
	if (!cJSON_IsNumber(member))
		return "-";
	text = numbers[next++ % ARRAY_LENGTH(numbers)];
	snprintf(text, sizeof(numbers[0]), "%.15g", member->valuedouble);
	return text;
}

void table_add(struct table *table, const char *const *cells)
{
	char **grown =
		realloc(table->cells, (table->rows + 1) * table->columns * sizeof(*table->cells));

	if (!grown)
		abort();
	table->cells = grown;
	for (size_t i = 0; i < table->columns; i++) {
		char *cell = strdup(cells[i] && cells[i][0] ? cells[i] : "-");

		if (!cell)
			abort();
		table->cells[table->rows * table->columns + i] = cell;
	}
	table->rows++;
}

static void print_row(const struct table *table, const char *const *cells, const size_t *widths)
{
	for (size_t i = 0; i < table->columns; i++)
		if (i + 1 < table->columns)
			printf("%-*s  ", (int)widths[i], cells[i]);
		else
			printf("%s\n", cells[i]);
}

void table_print(struct table *table)
{
	size_t widths[TABLE_COLUMNS_MAX] = {0};
	size_t count = table->rows * table->columns;

	for (size_t i = 0; i < table->columns; i++)
		widths[i] = strlen(table->headings[i]);
	for (size_t i = 0; i < count; i++)
		if (strlen(table->cells[i]) > widths[i % table->columns])
			widths[i % table->columns] = strlen(table->cells[i]);
	print_row(table, table->headings, widths);
	for (size_t i = 0; i < table->rows; i++)
		print_row(table, (const char *const *)&table->cells[i * table->columns], widths);
	for (size_t i = 0; i < count; i++)
		free(table->cells[i]);
	free(table->cells);
	table->cells = NULL;
	table->rows = 0;
}

const char *age_text(const char *rfc3339, char *buffer, size_t size)
{
	struct tm when = {0};
	long seconds;

	if (!strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &when))
		return "-";
	seconds = (long)(time(NULL) - timegm(&when));
	if (seconds < 0)
		seconds = 0;
	if (seconds < 60)
		snprintf(buffer, size, "%lds", seconds);
	else if (seconds < 3600)
		snprintf(buffer, size, "%ldm%02lds", seconds / 60, seconds % 60);
	else
		snprintf(buffer, size, "%ldh%02ldm", seconds / 3600, seconds / 60 % 60);
	return buffer;
}
