// SPDX-License-Identifier: Apache-2.0
// The manifest document. A `container` line opens a container; argument, environment,
// mount, dependency, health and health-argument lines belong to the last one.
#include <errno.h>
#include <string.h>

#include "agent/guest/lines.h"
#include "agent/guest/protocol.h"

#include "agent/base/scope.h"

static const char title[] = "penstock-manifest 1";

#define STRING(type, member, name)        LINE_FIELD(type, member, name, LINE_STRING, 0, NULL)
#define NUMBER(type, member, name, limit) LINE_FIELD(type, member, name, LINE_U32, limit, NULL)
#define FLAG(type, member, name)          LINE_FIELD(type, member, name, LINE_FLAG, 0, NULL)
#define FORM(keyword, fields)                                                                      \
	{                                                                                          \
		keyword, fields, ARRAY_LENGTH(fields)                                              \
	}

static const char *const volume_kinds[] = {"directory", "nfs"};
static const char *const conditions[] = {"START", "COMPLETE", "SUCCESS", "HEALTHY"};

static const struct line_field task_fields[] = {
	STRING(struct guest_manifest, task_id, "id"),
	STRING(struct guest_manifest, hostname, "hostname"),
	STRING(struct guest_manifest, domain, "domain"),
};
static const struct line_field volume_fields[] = {
	STRING(struct guest_volume, name, "name"),
	LINE_FIELD(struct guest_volume, kind, "kind", LINE_WORD, ARRAY_LENGTH(volume_kinds),
		   volume_kinds),
	STRING(struct guest_volume, server, "server"),
	NUMBER(struct guest_volume, port, "port", UINT16_MAX),
	STRING(struct guest_volume, path, "path"),
	NUMBER(struct guest_volume, deadline_ms, "deadline-ms", 3600 * 1000),
};
static const struct line_field container_fields[] = {
	STRING(struct guest_container, name, "name"),
	STRING(struct guest_container, id, "id"),
	NUMBER(struct guest_container, image, "image", GUEST_IMAGES_MAX - 1),
	FLAG(struct guest_container, essential, "essential"),
	STRING(struct guest_container, user, "user"),
	STRING(struct guest_container, directory, "directory"),
	FLAG(struct guest_container, read_only_root, "read-only-root"),
	NUMBER(struct guest_container, start_timeout_s, "start-timeout", 86400),
	NUMBER(struct guest_container, stop_timeout_s, "stop-timeout", 86400),
	NUMBER(struct guest_container, stop_signal, "stop-signal", 64),
	NUMBER(struct guest_container, memory_mib, "memory-mib", 1024 * 1024),
};
static const struct line_field mount_fields[] = {
	NUMBER(struct guest_mount, volume, "volume", GUEST_VOLUMES_MAX - 1),
	STRING(struct guest_mount, path, "path"),
	FLAG(struct guest_mount, read_only, "read-only"),
	FLAG(struct guest_mount, copy_image, "copy-image"),
};
static const struct line_field dependency_fields[] = {
	NUMBER(struct guest_dependency, container, "container", GUEST_CONTAINERS_MAX - 1),
	LINE_FIELD(struct guest_dependency, condition, "condition", LINE_WORD,
		   ARRAY_LENGTH(conditions), conditions),
};
static const struct line_field health_fields[] = {
	NUMBER(struct guest_health_check, interval_s, "interval", 86400),
	NUMBER(struct guest_health_check, timeout_s, "timeout", 86400),
	NUMBER(struct guest_health_check, retries, "retries", 1000),
	NUMBER(struct guest_health_check, start_period_s, "start-period", 86400),
};

// Lines that carry one string.
struct text_line {
	const char *text;
};
static const struct line_field value_fields[] = {STRING(struct text_line, text, "value")};
static const struct line_field address_fields[] = {STRING(struct text_line, text, "address")};

static const struct line_form task_form = FORM("task", task_fields);
static const struct line_form nameserver_form = FORM("nameserver", address_fields);
static const struct line_form volume_form = FORM("volume", volume_fields);
static const struct line_form container_form = FORM("container", container_fields);
static const struct line_form argument_form = FORM("argument", value_fields);
static const struct line_form environment_form = FORM("environment", value_fields);
static const struct line_form mount_form = FORM("mount", mount_fields);
static const struct line_form dependency_form = FORM("dependency", dependency_fields);
static const struct line_form health_form = FORM("health", health_fields);
static const struct line_form health_argument_form = FORM("health-argument", value_fields);

// ---------------------------------------------------------------- encode

static void write_texts(struct buffer *document, const struct line_form *form,
			const char *const *texts, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		line_write(document, form, &(struct text_line){texts[i]});
}

static void write_container(struct buffer *document, const struct guest_container *container)
{
	line_write(document, &container_form, container);
	write_texts(document, &argument_form, container->arguments, container->argument_count);
	write_texts(document, &environment_form, container->environment,
		    container->environment_count);
	for (uint32_t i = 0; i < container->mount_count; i++)
		line_write(document, &mount_form, &container->mounts[i]);
	for (uint32_t i = 0; i < container->dependency_count; i++)
		line_write(document, &dependency_form, &container->dependencies[i]);
	if (!container->health.argument_count)
		return;
	line_write(document, &health_form, &container->health);
	write_texts(document, &health_argument_form, container->health.arguments,
		    container->health.argument_count);
}

static bool container_fits(const struct guest_container *container)
{
	return container->argument_count <= GUEST_ARGUMENTS_MAX &&
	       container->environment_count <= GUEST_ENVIRONMENT_MAX &&
	       container->mount_count <= GUEST_MOUNTS_MAX &&
	       container->dependency_count <= GUEST_CONTAINERS_MAX &&
	       container->health.argument_count <= GUEST_ARGUMENTS_MAX;
}

int guest_manifest_encode(const struct guest_manifest *manifest, struct buffer *document,
			  struct error *err)
{
	size_t before = document->length;

	if (manifest->container_count > GUEST_CONTAINERS_MAX ||
	    manifest->volume_count > GUEST_VOLUMES_MAX ||
	    manifest->nameserver_count > GUEST_NAMESERVERS_MAX)
		return error_set(err, E2BIG,
				 "manifest: too many containers, volumes or nameservers");
	buffer_addf(document, "%s\n", title);
	line_write(document, &task_form, manifest);
	write_texts(document, &nameserver_form, manifest->nameservers, manifest->nameserver_count);
	for (uint32_t i = 0; i < manifest->volume_count; i++)
		line_write(document, &volume_form, &manifest->volumes[i]);
	for (uint32_t i = 0; i < manifest->container_count; i++) {
		const struct guest_container *container = &manifest->containers[i];

		if (!container_fits(container))
			return error_set(err, E2BIG,
					 "container %s: too many arguments, variables, mounts or "
					 "dependencies",
					 container->name);
		write_container(document, container);
	}
	buffer_adds(document, "end\n");
	if (document->length - before > GUEST_MANIFEST_MAX)
		return error_set(err, E2BIG, "manifest of %zu bytes, at most %d fit",
				 document->length - before, GUEST_MANIFEST_MAX);
	return 0;
}

// ---------------------------------------------------------------- decode

struct manifest_reader {
	struct line_reader lines;
	struct guest_manifest *manifest;
	struct guest_container *container; // the last one, NULL before the first
	bool has_task;
};

static int read_text(struct manifest_reader *reader, const struct line_form *form,
		     const char **texts, uint32_t *count, uint32_t max, struct error *err)
{
	struct text_line line = {0};
	int result;

	if (*count == max)
		return line_reader_fault(&reader->lines, err, "more than %u %s lines", max,
					 form->keyword);
	result = line_reader_fields(&reader->lines, form, &line, err);
	if (result == 0)
		texts[(*count)++] = line.text;
	return result;
}

static int read_task(struct manifest_reader *reader, struct error *err)
{
	if (reader->has_task)
		return line_reader_fault(&reader->lines, err, "a second task line");
	reader->has_task = true;
	return line_reader_fields(&reader->lines, &task_form, reader->manifest, err);
}

static int read_nameserver(struct manifest_reader *reader, struct error *err)
{
	return read_text(reader, &nameserver_form, reader->manifest->nameservers,
			 &reader->manifest->nameserver_count, GUEST_NAMESERVERS_MAX, err);
}

static int read_volume(struct manifest_reader *reader, struct error *err)
{
	struct guest_manifest *manifest = reader->manifest;

	if (manifest->volume_count == GUEST_VOLUMES_MAX)
		return line_reader_fault(&reader->lines, err, "more than %d volumes",
					 GUEST_VOLUMES_MAX);
	return line_reader_fields(&reader->lines, &volume_form,
				  &manifest->volumes[manifest->volume_count++], err);
}

static int read_container(struct manifest_reader *reader, struct error *err)
{
	struct guest_manifest *manifest = reader->manifest;
	struct guest_container *container;

	if (manifest->container_count == GUEST_CONTAINERS_MAX)
		return line_reader_fault(&reader->lines, err, "more than %d containers",
					 GUEST_CONTAINERS_MAX);
	container = &manifest->containers[manifest->container_count++];
	reader->container = container;
	// One place more than counted: both lists end in NULL, as execve wants them.
	container->arguments =
		arena_array(reader->lines.arena, const char *, GUEST_ARGUMENTS_MAX + 1);
	container->environment =
		arena_array(reader->lines.arena, const char *, GUEST_ENVIRONMENT_MAX + 1);
	container->health.arguments =
		arena_array(reader->lines.arena, const char *, GUEST_ARGUMENTS_MAX + 1);
	return line_reader_fields(&reader->lines, &container_form, container, err);
}

static int read_argument(struct manifest_reader *reader, struct error *err)
{
	return read_text(reader, &argument_form, reader->container->arguments,
			 &reader->container->argument_count, GUEST_ARGUMENTS_MAX, err);
}

static int read_environment(struct manifest_reader *reader, struct error *err)
{
	return read_text(reader, &environment_form, reader->container->environment,
			 &reader->container->environment_count, GUEST_ENVIRONMENT_MAX, err);
}

static int read_mount(struct manifest_reader *reader, struct error *err)
{
	struct guest_container *container = reader->container;

	if (container->mount_count == GUEST_MOUNTS_MAX)
		return line_reader_fault(&reader->lines, err, "more than %d mounts",
					 GUEST_MOUNTS_MAX);
	return line_reader_fields(&reader->lines, &mount_form,
				  &container->mounts[container->mount_count++], err);
}

static int read_dependency(struct manifest_reader *reader, struct error *err)
{
	struct guest_container *container = reader->container;

	if (container->dependency_count == GUEST_CONTAINERS_MAX)
		return line_reader_fault(&reader->lines, err, "more than %d dependencies",
					 GUEST_CONTAINERS_MAX);
	return line_reader_fields(&reader->lines, &dependency_form,
				  &container->dependencies[container->dependency_count++], err);
}

static int read_health(struct manifest_reader *reader, struct error *err)
{
	return line_reader_fields(&reader->lines, &health_form, &reader->container->health, err);
}

static int read_health_argument(struct manifest_reader *reader, struct error *err)
{
	struct guest_health_check *health = &reader->container->health;

	return read_text(reader, &health_argument_form, health->arguments, &health->argument_count,
			 GUEST_ARGUMENTS_MAX, err);
}

static const struct {
	const char *keyword;
	bool of_container;
	int (*read)(struct manifest_reader *reader, struct error *err);
} manifest_lines[] = {
	{"task", false, read_task},        {"nameserver", false, read_nameserver},
	{"volume", false, read_volume},    {"container", false, read_container},
	{"argument", true, read_argument}, {"environment", true, read_environment},
	{"mount", true, read_mount},       {"dependency", true, read_dependency},
	{"health", true, read_health},     {"health-argument", true, read_health_argument},
};

static int read_line(struct manifest_reader *reader, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LENGTH(manifest_lines); i++) {
		if (!line_reader_is(&reader->lines, manifest_lines[i].keyword))
			continue;
		if (manifest_lines[i].of_container && !reader->container)
			return line_reader_fault(&reader->lines, err, "%s before any container",
						 manifest_lines[i].keyword);
		return manifest_lines[i].read(reader, err);
	}
	return line_reader_fault(&reader->lines, err, "unknown keyword");
}

// What single lines cannot know: that indexes name something.
static int check_container(const struct guest_manifest *manifest, uint32_t index, struct error *err)
{
	const struct guest_container *container = &manifest->containers[index];

	if (!container->argument_count)
		return error_set(err, EBADMSG, "container %s has no arguments", container->name);
	for (uint32_t i = 0; i < container->mount_count; i++) {
		const struct guest_mount *mount = &container->mounts[i];

		if (mount->volume >= manifest->volume_count || mount->path[0] != '/')
			return error_set(err, EBADMSG, "container %s: bad mount %u",
					 container->name, i);
	}
	for (uint32_t i = 0; i < container->dependency_count; i++) {
		uint32_t other = container->dependencies[i].container;

		if (other >= manifest->container_count || other == index)
			return error_set(err, EBADMSG, "container %s: bad dependency %u",
					 container->name, i);
	}
	return 0;
}

int guest_manifest_decode(const char *document, size_t length, struct arena *arena,
			  struct guest_manifest *ret_manifest, struct error *err)
{
	struct guest_manifest *manifest = arena_new(arena, struct guest_manifest);
	struct manifest_reader reader = {.manifest = manifest};
	int result;

	if (length > GUEST_MANIFEST_MAX)
		return error_set(err, EBADMSG, "larger than %d bytes", GUEST_MANIFEST_MAX);
	result = line_reader_open(&reader.lines, document, length, title, arena, err);
	if (result < 0)
		return result;
	while ((result = line_reader_next(&reader.lines, err)) > 0) {
		result = read_line(&reader, err);
		if (result < 0)
			return result;
	}
	if (result == 0 && (!reader.has_task || !manifest->container_count))
		return error_set(err, EBADMSG, "no task or no container");
	for (uint32_t i = 0; result == 0 && i < manifest->container_count; i++)
		result = check_container(manifest, i, err);
	if (result == 0)
		*ret_manifest = *manifest;
	return result;
}
