// SPDX-License-Identifier: Apache-2.0
// What the files of penstockctl share. One file per group of verbs; main.c has the table.
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buffer.h"
#include "agent/ctl/client.h"

// Stable: scripts may rely on them.
enum exit_code {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,     // the agent refused, or the thing failed
	EXIT_USAGE = 2,       // the command line or a file it names is wrong
	EXIT_UNREACHABLE = 3, // no agent answers on the socket
	EXIT_NOT_FOUND = 4,
	EXIT_NOT_REACHED = 5, // the awaited state did not come in time
};

#define CTL_DEFAULT_SOCKET "/run/penstock/api.sock"

struct ctl {
	const char *socket_path;
	bool json; // -o json
};

// A verb gets its own arguments, argv[0] being its name, and returns an exit code.
struct verb {
	const char *name;
	const char *arguments; // "TASK [CONTAINER]"
	const char *summary;   // one line
	const char *help;      // what it does, its options, examples
	int (*run)(const struct ctl *ctl, int argc, char **argv);
};

extern const struct verb verb_apply, verb_delete, verb_run, verb_ps, verb_describe, verb_logs,
	verb_stop, verb_timeline, verb_events, verb_sg, verb_lb, verb_eni, verb_host, verb_doctor,
	verb_fsck, verb_shutdown;

// --- options.c ---

struct option_value {
	const char *name;       // "--reason"
	const char *short_name; // "-f", or NULL
	const char **text;      // where its value goes; NULL: a flag
	bool *flag;
};

// Takes the options out of argv: positional arguments stay, in order. Returns how many there are
// (argv[0] not counted), or -1 after saying what is wrong.
int options_take(const struct verb *verb, int argc, char **argv, const struct option_value *options,
		 size_t option_count);
int usage_error(const struct verb *verb, const char *message, const char *what);
void verb_help(const struct verb *verb);

// --- objects.c ---

// "sg/web" -> path "/v1/security-groups/web" and its kind. A bare id is a task's. False after
// saying what is wrong.
bool object_path(const char *name, struct buffer *ret_path, const char **ret_kind);
const char *kind_path(const char *kind); // NULL: no such kind
int kind_order(const char *kind);        // what others refer to comes first

// --- output.c ---

// Says what an unsuccessful reply (or connection) means; returns the exit code.
int reply_fail(const struct client_reply *reply);
// A GET whose reply is parsed; the exit code, EXIT_DONE with *ret_document (cJSON_Delete).
int document_get(const struct ctl *ctl, const char *path, cJSON **ret_document);
void document_print(const cJSON *document); // indented JSON
void document_release(cJSON **document);

// Text of a member, numbers printed; "-" when absent. Valid until the member's document goes or the
// eighth next call.
const char *member_text(const cJSON *object, const char *path);
const cJSON *member_at(const cJSON *object, const char *path); // "status.network.vpcId"

enum { TABLE_COLUMNS_MAX = 12 };

struct table {
	const char *const *headings;
	size_t columns, rows;
	char **cells;
};

void table_add(struct table *table, const char *const *cells);
void table_print(struct table *table); // and releases it
// "5m12s" since an RFC 3339 time, "-" when there is none.
const char *age_text(const char *rfc3339, char *buffer, size_t size);
