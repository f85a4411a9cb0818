// SPDX-License-Identifier: Apache-2.0
// What penstockctl prints: JSON, aligned tables.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

void document_release(cJSON **document)
{
	cJSON_Delete(*document);
}

int document_get(const struct ctl *ctl, const char *path, cJSON **ret_document)
{
	const struct client_request request = {
		.socket_path = ctl->socket_path, .method = "GET", .path = path};
	scoped(client_reply_release) struct client_reply reply;
	cJSON *document;

	if (client_perform(&request, &reply) < 0 || reply.status != 200)
		return reply_fail(ctl, NULL, &reply);
	document = cJSON_Parse(buffer_text(&reply.body));
	if (!document)
		return fail(ctl, EXIT_REFUSED, NULL, "the agent's reply is not JSON", NULL);
	*ret_document = document;
	return EXIT_DONE;
}

void document_print(const cJSON *document)
{
	scoped_free char *text = cJSON_Print(document);

	puts(text ? text : "");
}

void line_print(const cJSON *document)
{
	scoped_free char *text = cJSON_PrintUnformatted(document);

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

// U+0000 to U+001F, U+007F, and U+0080 to U+009F, which is two bytes in UTF-8.
static char *controls_replace(char *text)
{
	for (unsigned char *byte = (unsigned char *)text; *byte; byte++) {
		if (*byte < 0x20 || *byte == 0x7f)
			*byte = '?';
		else if (byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f)
			byte[0] = byte[1] = '?';
	}
	return text;
}

const char *member_text(const cJSON *object, const char *path)
{
	static char numbers[8][32];
	static unsigned next;
	const cJSON *member = member_at(object, path);
	char *text;

	if (cJSON_IsString(member))
		return member->valuestring[0] ? controls_replace(member->valuestring) : "-";
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

const char *duration_text(uint64_t seconds, char *buffer, size_t size)
{
	if (seconds < 60)
		snprintf(buffer, size, "%llus", (unsigned long long)seconds);
	else if (seconds < 3600)
		snprintf(buffer, size, "%llum%02us", (unsigned long long)(seconds / 60),
			 (unsigned)(seconds % 60));
	else
		snprintf(buffer, size, "%lluh%02um", (unsigned long long)(seconds / 3600),
			 (unsigned)(seconds / 60 % 60));
	return buffer;
}

void list_text(const cJSON *list, const char *member, struct buffer *text)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		buffer_addf(text, "%s%s", text->length ? "," : "", member_text(item, member));
	}
}
