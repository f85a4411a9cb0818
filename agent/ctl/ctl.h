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
	bool socket_default; // neither --socket nor the environment named it
	bool json;           // -o json
};

// A verb gets its own arguments, argv[0] being its name, and returns an exit code.
struct verb {
	const char *name;
	const char *arguments; // "TASK [CONTAINER]"
	int arguments_min, arguments_max;
	const char *summary; // one line
	const char *help;    // what it does, its options, examples
	int (*run)(const struct ctl *ctl, int argc, char **argv);
};

extern const struct verb verb_apply, verb_delete, verb_run, verb_ps, verb_describe, verb_logs,
	verb_stop, verb_timeline, verb_events, verb_vpc, verb_subnet, verb_sg, verb_lb, verb_tg,
	verb_fs, verb_eni, verb_drops, verb_wait, verb_prune, verb_host, verb_doctor, verb_fsck,
	verb_adopt, verb_shutdown;

// --- options.c ---

struct option_value {
	const char *name;       // "--reason"
	const char *short_name; // "-f", or NULL
	const char **text;      // where its value goes; NULL: a flag
	bool *flag;
};

struct globals {
	struct ctl ctl;
	bool help, version;
};

// Both take options out of argv (up to "--") and end the program when the command line is wrong, as
// argp_parse() does. The first takes those of every verb, wherever they stand, and returns the new
// argc; the second those of a verb, and returns how many arguments there are (argv[0] not counted):
// as many as the verb wants.
int globals_take(struct globals *globals, int argc, char **argv);
int options_take(const struct verb *verb, int argc, char **argv, const struct option_value *options,
		 size_t option_count);
int usage_error(const struct verb *verb, const char *message, const char *what); // EXIT_USAGE
void verb_help(const struct verb *verb);

// --- objects.c ---

// "sg/web" -> its path "/v1/security-groups/web" and its kind's full name; a bare id is a task's.
// NULL after saying what is wrong.
const char *object_path(const char *name, struct buffer *ret_path);
// The same for a verb that takes tasks only.
bool task_path(const struct verb *verb, const char *name, struct buffer *ret_path);
const char *kind_name(const char *word); // "sg" -> "security-group"; NULL: no such kind
int kind_order(const char *word);        // what others refer to comes first; -1: no such kind

// --- network.c ---

// The targets of a group with their health, as a table; `task` not NULL: only those of this task.
// The exit code.
int targets_print(const struct ctl *ctl, const char *group, const char *task);

// --- drops.c ---

// A task's counters of dropped packets that are not 0, as a table. The exit code.
int task_drops_print(const struct ctl *ctl, const char *task);

// --- errors.c ---

// Both say on standard error what went wrong, in the API's form {code, message, details} with -o
// json, and return the exit code. `object` is what it is about ("sg/web"), or NULL.
// The first is for an unsuccessful reply or connection.
int reply_fail(const struct ctl *ctl, const char *object, const struct client_reply *reply);
// `result` is neither EXIT_DONE nor EXIT_USAGE; the hint may be NULL.
int fail(const struct ctl *ctl, int result, const char *object, const char *message,
	 const char *hint);
// What these do: an error of our own is made (the hint, or NULL, becomes its detail), and said.
cJSON *error_make(const char *code, const char *message, const char *hint);
void error_show(const struct ctl *ctl, const char *object, cJSON *error);

// --- watch.c ---

// `receive` of a stream, `context` being a struct lines: hands on each whole line.
struct lines {
	void (*take)(const char *line, void *context);
	void *context;
	struct buffer line; // to be released at the end
};
int lines_receive(const char *bytes, size_t count, void *context);

// --- output.c ---

// A GET whose reply is parsed; the exit code, EXIT_DONE with *ret_document (cJSON_Delete).
int document_get(const struct ctl *ctl, const char *path, cJSON **ret_document);
void document_print(const cJSON *document); // indented JSON
void line_print(const cJSON *document);     // JSON on one line
void document_release(cJSON **document);

// Text of a member for showing: numbers printed, control characters (a guest may have sent some to
// the terminal) replaced; "-" when it is absent or empty. Valid until the member's document goes or
// the eighth next call.
const char *member_text(const cJSON *object, const char *path);
const cJSON *member_at(const cJSON *object, const char *path); // "status.network.vpcId"

// Appends the member ("": the item itself) of each item of a list, separated by commas.
void list_text(const cJSON *list, const char *member, struct buffer *text);

enum { TABLE_COLUMNS_MAX = 12 };

struct table {
	const char *const *headings;
	size_t columns, rows;
	char **cells;
};

void table_add(struct table *table, const char *const *cells);
void table_print(struct table *table);                                  // and releases it
const char *duration_text(uint64_t seconds, char *buffer, size_t size); // "5m12s"
