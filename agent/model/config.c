// SPDX-License-Identifier: Apache-2.0
#include "agent/model/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

enum { CONFIG_FILE_MAX_BYTES = 64 * 1024 };

enum kind { TEXT, PATH, ID, CHOICE, NUMBER };

static const struct key {
	const char *name;
	enum kind kind;
	size_t offset, size;
	const char *initial;
	const char *choices; // "a|b|c", for CHOICE
	uint32_t min, max;   // for NUMBER
	const char *meaning;
} keys[] = {
#define FIELD(field) offsetof(struct config, field), sizeof(((struct config *)0)->field)
	{"install", ID, FIELD(install), "main", NULL, 0, 0,
	 "the name that every kernel object, directory and process of this agent carries"},
	{"state_directory", PATH, FIELD(state_directory), "/var/lib/penstock", NULL, 0, 0,
	 "database, cells, disks, metering"},
	{"runtime_directory", PATH, FIELD(runtime_directory), "/run/penstock", NULL, 0, 0,
	 "lock file"},
	{"image_directory", PATH, FIELD(image_directory), "/var/lib/penstock/images", NULL, 0, 0,
	 "container images: <name>.squashfs and optionally <name>.json"},
	{"guest_directory", PATH, FIELD(guest_directory), "/var/lib/penstock/guest", NULL, 0, 0,
	 "the guest's kernel and initramfs"},
	{"program_directory", PATH, FIELD(program_directory), PENSTOCK_PROGRAM_DIRECTORY, NULL, 0,
	 0, "penstock-shim, penstock-probe, penstock-init"},
	{"socket", PATH, FIELD(socket), "/run/penstock/api.sock", NULL, 0, 0, "the API's socket"},
	{"writer_group", TEXT, FIELD(writer_group), "", NULL, 0, 0,
	 "members of this group may change things, as root may"},
	{"reader_group", TEXT, FIELD(reader_group), "", NULL, 0, 0,
	 "members of this group may read"},
	{"driver", CHOICE, FIELD(driver), "qemu", "qemu|netns", 0, 0,
	 "what runs tasks: microVMs, or namespaces (for test harnesses)"},
	{"accel", CHOICE, FIELD(accel), "auto", "auto|tcg|kvm", 0, 0, "QEMU's accelerator"},
	{"log_to", CHOICE, FIELD(log_to), "auto", "auto|stderr", 0, 0,
	 "auto: journald where it runs, else stderr"},
	{"log_level", CHOICE, FIELD(log_level), "info", "debug|info|warning|error", 0, 0,
	 "lowest level"},
	{"uid_first", NUMBER, FIELD(uid_first), "700000", NULL, 1000, 4000000000U,
	 "first of the uids that tasks run as"},
	{"uid_count", NUMBER, FIELD(uid_count), "10000", NULL, 1, 1000000,
	 "how many uids there are; health checks run as the next one behind them"},
	{"cpu_units", NUMBER, FIELD(cpu_units), "0", NULL, 0, 1024 * 1024,
	 "CPU to promise, 1024 a core; 0: four times what the host has"},
	{"memory_mib", NUMBER, FIELD(memory_mib), "0", NULL, 0, 64 * 1024 * 1024,
	 "memory to promise; 0: 90 % of the host's"},
	{"disk_gib", NUMBER, FIELD(disk_gib), "0", NULL, 0, 1024 * 1024,
	 "disk to promise; 0: the file system's size"},
	{"disk_headroom_gib", NUMBER, FIELD(disk_headroom_gib), "2", NULL, 0, 1024,
	 "disk that is never promised"},
	{"stopped_retention_seconds", NUMBER, FIELD(stopped_retention_seconds), "3600", NULL, 0,
	 30 * 86400, "how long a stopped task can be asked for"},
	{"event_retention_count", NUMBER, FIELD(event_retention_count), "10000", NULL, 10, 10000000,
	 "how many events are kept"},
	{"cooldown_seconds", NUMBER, FIELD(cooldown_seconds), "60", NULL, 1, 86400,
	 "how long a released address rests"},
	{"log_file_mib", NUMBER, FIELD(log_file_mib), "16", NULL, 1, 4096,
	 "a container's log is rotated at this size; two files of each are in the ledger of the "
	 "disk"},
	{"guest_silence_seconds", NUMBER, FIELD(guest_silence_seconds), "60", NULL, 1, 86400,
	 "a task whose guest has not spoken for so long is reported: guestSilentSince; one whose "
	 "shim is "
	 "silent after a restart of the agent, too: shimError, and if it is to stop its cell is "
	 "killed"},
	{"watchdog_seconds", NUMBER, FIELD(watchdog_seconds), "30", NULL, 2, 3600,
	 "an agent whose event loop stands still for so long ends itself; tasks go on"},
#undef FIELD
};

static bool is_choice(const char *choices, const char *value)
{
	size_t length = strlen(value);

	for (const char *c = choices; c; c = strchr(c, '|')) {
		c += *c == '|';
		if (strncmp(c, value, length) == 0 && (c[length] == '|' || c[length] == '\0'))
			return length > 0;
	}
	return false;
}

static int set_text(struct config *config, const struct key *key, const char *value,
		    struct error *err)
{
	if (strlen(value) >= key->size)
		return error_set(err, EINVAL, "%s is longer than %zu characters", key->name,
				 key->size - 1);
	memset((char *)config + key->offset, 0, key->size);
	memcpy((char *)config + key->offset, value, strlen(value));
	return 0;
}

static int set_value(struct config *config, const struct key *key, const char *value,
		     struct error *err)
{
	uint32_t number;

	switch (key->kind) {
	case NUMBER:
		if (parse_u32(value, key->max, &number) < 0 || number < key->min)
			return error_set(err, EINVAL,
					 "%s must be a number from %u to %u, not \"%s\"", key->name,
					 key->min, key->max, value);
		memcpy((char *)config + key->offset, &number, sizeof(number));
		return 0;
	case CHOICE:
		if (!is_choice(key->choices, value))
			return error_set(err, EINVAL, "%s must be one of %s, not \"%s\"", key->name,
					 key->choices, value);
		break;
	case PATH:
		if (value[0] != '/')
			return error_set(err, EINVAL, "%s must be an absolute path, not \"%s\"",
					 key->name, value);
		break;
	case ID:
		if (!id_is_valid(value) || strlen(value) > 24)
			return error_set(err, EINVAL,
					 "%s must be 1 to 24 of a-z, 0-9 and -, not \"%s\"",
					 key->name, value);
		break;
	case TEXT:
		break;
	}
	return set_text(config, key, value, err);
}

void config_defaults(struct config *config)
{
	struct error err = {0};

	*config = (struct config){0};
	for (size_t i = 0; i < ARRAY_LENGTH(keys); i++)
		set_value(config, &keys[i], keys[i].initial, &err);
}

static char *trim(char *text)
{
	size_t length;

	text += strspn(text, " \t");
	length = strlen(text);
	while (length > 0 && strchr(" \t\r", text[length - 1]))
		text[--length] = '\0';
	return text;
}

static int read_line(struct config *config, char *line, bool *seen, struct error *err)
{
	char *equals, *name;

	line[strcspn(line, "#")] = '\0';
	name = trim(line);
	if (*name == '\0')
		return 0;
	equals = strchr(name, '=');
	if (!equals)
		return error_set(err, EINVAL, "expected \"key = value\"");
	*equals = '\0';
	name = trim(name);
	for (size_t i = 0; i < ARRAY_LENGTH(keys); i++) {
		if (strcmp(keys[i].name, name) != 0)
			continue;
		if (seen[i])
			return error_set(err, EINVAL, "%s stands twice", name);
		seen[i] = true;
		return set_value(config, &keys[i], trim(equals + 1), err);
	}
	return error_set(err, EINVAL, "unknown key \"%s\" (penstockd --explain-config lists them)",
			 name);
}

int config_read(const char *path, struct config *ret_config, struct error *err)
{
	scoped_free char *text = NULL;
	bool seen[ARRAY_LENGTH(keys)] = {false};
	struct config config;
	unsigned number = 1;

	config_defaults(&config);
	if (file_read(AT_FDCWD, path, CONFIG_FILE_MAX_BYTES, &text, NULL, err) < 0)
		return error_wrap(err, "configuration");
	for (char *line = text, *next; line; line = next, number++) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (read_line(&config, line, seen, err) < 0)
			return error_wrap(err, "%s:%u", path, number);
	}
	*ret_config = config;
	return 0;
}

int config_load(const char *path, struct config *ret_config, struct error *err)
{
	int result;

	if (path && !*path) // an environment variable, emptied
		path = NULL;
	config_defaults(ret_config);
	result = config_read(path ? path : CONFIG_DEFAULT_FILE, ret_config, err);
	return path && result == -ENOENT ? -EINVAL : result;
}

void config_explain(FILE *out)
{
	for (size_t i = 0; i < ARRAY_LENGTH(keys); i++) {
		fprintf(out, "# %s", keys[i].meaning);
		if (keys[i].choices)
			fprintf(out, " (%s)", keys[i].choices);
		fprintf(out, "\n%s%s = %s\n", keys[i].initial[0] ? "" : "# ", keys[i].name,
			keys[i].initial);
	}
}

enum log_level config_log_level(const struct config *config)
{
	static const char *const names[] = {"debug", "info", "warning", "error"};

	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		if (strcmp(config->log_level, names[i]) == 0)
			return (enum log_level)i;
	return LOG_LEVEL_INFO;
}
