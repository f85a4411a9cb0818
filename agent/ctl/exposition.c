// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/exposition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int exposition_get(const struct ctl *ctl, struct client_reply *ret_reply)
{
	const struct client_request request = {
		.socket_path = ctl->socket_path, .method = "GET", .path = "/metrics"};

	if (client_perform(&request, ret_reply) < 0 || ret_reply->status != 200)
		return reply_fail(ctl, NULL, ret_reply);
	return EXIT_DONE;
}

// A line `name{labels} value`, or `name value`. False: a comment, or a sample of another metric.
static bool line_parse(const char *line, const char *name, struct sample *sample)
{
	size_t length = strlen(name);
	const char *rest = line + length, *end;

	if (strncmp(line, name, length) != 0 || (*rest != '{' && *rest != ' '))
		return false;
	sample->labels = rest;
	sample->labels_length = 0;
	if (*rest == '{') {
		end = strstr(rest, "} ");
		if (!end)
			return false;
		sample->labels = rest + 1;
		sample->labels_length = (size_t)(end - rest - 1);
		rest = end + 1;
	}
	sample->value = strtod(rest, NULL);
	return true;
}

bool sample_next(const struct client_reply *reply, const char *name, struct sample *sample)
{
	const char *line = sample->next ? sample->next : buffer_text(&reply->body);
	bool found = false;

	while (*line && !found) {
		found = line_parse(line, name, sample);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	sample->next = line;
	return found;
}

// Where the value of the label begins, behind its quotation mark; NULL: there is no such label.
static const char *label_find(const struct sample *sample, const char *label)
{
	const char *end = sample->labels + sample->labels_length;
	size_t length = strlen(label);

	for (const char *at = sample->labels; at + length + 2 < end; at++)
		if ((at == sample->labels || at[-1] == ',') && memcmp(at, label, length) == 0 &&
		    at[length] == '=' && at[length + 1] == '"')
			return at + length + 2;
	return NULL;
}

bool sample_has_label(const struct sample *sample, const char *label, const char *value)
{
	const char *found = label_find(sample, label);
	size_t length = strlen(value);

	return found && strncmp(found, value, length) == 0 && found[length] == '"';
}

void sample_label(const struct sample *sample, const char *label, char *ret_value, size_t size)
{
	const char *found = label_find(sample, label);

	snprintf(ret_value, size, "%.*s", found ? (int)strcspn(found, "\"") : 0,
		 found ? found : "");
}
