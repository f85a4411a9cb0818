// SPDX-License-Identifier: Apache-2.0
// The directories of the pool and what stands in them.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"
#include "ephemeral/internal.h"

static int open_directory(int state_fd, const char *name, int *ret_fd, struct error *err)
{
	int fd;

	if (mkdirat(state_fd, name, 0700) < 0 && errno != EEXIST)
		return error_errno(err, "make directory %s", name);
	fd = openat(state_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, "open directory %s", name);
	*ret_fd = fd;
	return 0;
}

int ephemeral_open(const char *state_directory, struct ephemeral *ret_pool, struct error *err)
{
	scoped(ephemeral_close) struct ephemeral pool = EPHEMERAL_NONE;
	scoped_fd int state_fd = -1;

	if (directory_make(state_directory, 0700, err) < 0)
		return -err->code;
	state_fd = open(state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state_fd < 0)
		return error_errno(err, "open %s", state_directory);
	if (open_directory(state_fd, "templates", &pool.templates_fd, err) < 0 ||
	    open_directory(state_fd, "disks", &pool.disks_fd, err) < 0 ||
	    open_directory(state_fd, "trash", &pool.trash_fd, err) < 0)
		return error_wrap(err, "ephemeral storage in %s", state_directory);
	*ret_pool = pool;
	pool = EPHEMERAL_NONE;
	return 0;
}

void ephemeral_close(struct ephemeral *pool)
{
	close_fd(&pool->templates_fd);
	close_fd(&pool->disks_fd);
	close_fd(&pool->trash_fd);
}

// Directory streams move the offset of their descriptor: each reader opens its own.
static DIR *read_directory(int directory_fd)
{
	scoped_fd int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (directory)
		take_fd(&fd);
	return directory;
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

struct list {
	struct ephemeral_entry *entries;
	size_t count, capacity;
	bool builder_alive; // unfinished templates are then somebody's work
};

static void list_release(struct list *list)
{
	free(list->entries);
}

// "t-1.img" is the disk of t-1.
static enum ephemeral_kind disk_kind(const char *name, char ret_task_id[64])
{
	size_t length = strlen(name);

	if (strncmp(name, EPHEMERAL_UNFINISHED_PREFIX, strlen(EPHEMERAL_UNFINISHED_PREFIX)) == 0)
		return EPHEMERAL_UNFINISHED;
	if (length <= 4 || length - 4 >= 64 || strcmp(name + length - 4, ".img") != 0)
		return EPHEMERAL_FOREIGN;
	memcpy(ret_task_id, name, length - 4);
	ret_task_id[length - 4] = '\0';
	if (id_is_valid(ret_task_id))
		return EPHEMERAL_DISK;
	ret_task_id[0] = '\0';
	return EPHEMERAL_FOREIGN;
}

static enum ephemeral_kind template_kind(const char *name)
{
	char size[EPHEMERAL_NAME_SIZE], *version, *end;
	uint32_t number;

	if (strncmp(name, EPHEMERAL_UNFINISHED_PREFIX, strlen(EPHEMERAL_UNFINISHED_PREFIX)) == 0)
		return EPHEMERAL_UNFINISHED;
	// "20-v1.img", of any version: an older one may be removed.
	snprintf(size, sizeof(size), "%s", name);
	version = strstr(size, "-v");
	end = strstr(size, ".img");
	if (!version || !end || end < version || end[4] != '\0')
		return EPHEMERAL_FOREIGN;
	*version = *end = '\0';
	if (parse_u32(size, EPHEMERAL_SIZE_MAX_GIB, &number) < 0 ||
	    parse_u32(version + 2, UINT32_MAX, &number) < 0)
		return EPHEMERAL_FOREIGN;
	return EPHEMERAL_TEMPLATE;
}

static void classify(enum ephemeral_kind directory, struct ephemeral_entry *entry)
{
	if (directory == EPHEMERAL_DISK)
		entry->kind = disk_kind(entry->name, entry->task_id);
	else if (directory == EPHEMERAL_TEMPLATE)
		entry->kind = template_kind(entry->name);
	else
		entry->kind = EPHEMERAL_TRASH;
}

static struct ephemeral_entry *list_add(struct list *list)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		void *larger = reallocarray(list->entries, capacity, sizeof(*list->entries));

		if (!larger)
			return NULL;
		list->entries = larger;
		list->capacity = capacity;
	}
	memset(&list->entries[list->count], 0, sizeof(*list->entries));
	return &list->entries[list->count++];
}

static int list_file(struct list *list, int directory_fd, enum ephemeral_kind directory,
		     const char *name, struct error *err)
{
	struct ephemeral_entry *entry;
	struct stat status;

	if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : error_errno(err, "stat %s", name);
	entry = list_add(list);
	if (!entry)
		return error_set(err, ENOMEM, "list disks: out of memory");
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	classify(directory, entry);
	if (!S_ISREG(status.st_mode) || strlen(name) >= sizeof(entry->name))
		entry->kind = EPHEMERAL_FOREIGN;
	entry->size_bytes = (uint64_t)status.st_size;
	entry->used_bytes = (uint64_t)status.st_blocks * 512;
	entry->uid = status.st_uid;
	if (entry->kind == EPHEMERAL_UNFINISHED && directory == EPHEMERAL_TEMPLATE &&
	    list->builder_alive)
		list->count--;
	return 0;
}

static int list_directory(struct list *list, int directory_fd, enum ephemeral_kind kind,
			  struct error *err)
{
	scoped_directory DIR *directory = read_directory(directory_fd);
	struct dirent *entry;

	if (!directory)
		return error_errno(err, "list disks");
	while ((errno = 0, entry = readdir(directory)))
		if (!is_dot(entry->d_name) &&
		    list_file(list, directory_fd, kind, entry->d_name, err) < 0)
			return -err->code;
	return errno ? error_errno(err, "list disks") : 0;
}

int ephemeral_list(const struct ephemeral *pool, struct ephemeral_entry **ret_entries,
		   size_t *ret_count, struct error *err)
{
	scoped(list_release) struct list list = {0};
	scoped_fd int lock_fd = -1;

	list.builder_alive =
		ephemeral_templates_lock(pool, LOCK_SH | LOCK_NB, &lock_fd) == -EWOULDBLOCK;
	if (list_directory(&list, pool->disks_fd, EPHEMERAL_DISK, err) < 0 ||
	    list_directory(&list, pool->trash_fd, EPHEMERAL_TRASH, err) < 0 ||
	    list_directory(&list, pool->templates_fd, EPHEMERAL_TEMPLATE, err) < 0)
		return -err->code;
	*ret_entries = take_ptr(&list.entries);
	*ret_count = list.count;
	return 0;
}

static int unlink_in(int directory_fd, const char *name, struct error *err)
{
	if (unlinkat(directory_fd, name, 0) < 0 && errno != ENOENT)
		return error_errno(err, "unlink %s", name);
	return 0;
}

int ephemeral_remove(const struct ephemeral *pool, const struct ephemeral_entry *entry,
		     struct error *err)
{
	switch (entry->kind) {
	case EPHEMERAL_DISK:
		return ephemeral_disk_destroy(pool, entry->task_id, err);
	case EPHEMERAL_TRASH:
		return unlink_in(pool->trash_fd, entry->name, err);
	case EPHEMERAL_TEMPLATE:
		return unlink_in(pool->templates_fd, entry->name, err);
	case EPHEMERAL_UNFINISHED: // one of the two, both names are the module's own
		if (unlink_in(pool->disks_fd, entry->name, err) < 0)
			return -err->code;
		return unlink_in(pool->templates_fd, entry->name, err);
	case EPHEMERAL_FOREIGN:
		break;
	}
	return error_set(err, EPERM, "%s: not made by penstock", entry->name);
}

int ephemeral_reap(const struct ephemeral *pool, struct error *err)
{
	scoped_directory DIR *directory = read_directory(pool->trash_fd);
	struct dirent *entry;

	if (!directory)
		return error_errno(err, "open the trash");
	while ((errno = 0, entry = readdir(directory)))
		if (!is_dot(entry->d_name) && unlink_in(pool->trash_fd, entry->d_name, err) < 0)
			return -err->code;
	return errno ? error_errno(err, "list the trash") : 0;
}

bool ephemeral_trash_is_empty(const struct ephemeral *pool)
{
	scoped_directory DIR *directory = read_directory(pool->trash_fd);
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		if (!is_dot(entry->d_name))
			return false;
	return true;
}

int ephemeral_pool_size_gib(const struct ephemeral *pool, unsigned *ret_gib, struct error *err)
{
	scoped_free struct ephemeral_entry *entries = NULL;
	struct statvfs status;
	uint64_t bytes;
	size_t count = 0;

	if (fstatvfs(pool->disks_fd, &status) < 0)
		return error_errno(err, "size of the file system of the disks");
	if (ephemeral_list(pool, &entries, &count, err) < 0)
		return -err->code;
	bytes = (uint64_t)status.f_bavail * status.f_frsize;
	for (size_t i = 0; i < count; i++)
		bytes += entries[i].used_bytes;
	*ret_gib = (unsigned)(bytes / EPHEMERAL_GIB);
	return 0;
}
