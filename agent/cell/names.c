// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/names.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/number.h"
#include "agent/base/scope.h"

void name_list_add(struct name_list *list, const char *name)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		const char **names = arena_array(list->arena, const char *, capacity);

		if (list->count > 0)
			memcpy(names, list->names, list->count * sizeof(*names));
		list->names = names;
		list->capacity = capacity;
	}
	list->names[list->count++] = arena_strdup(list->arena, name);
}

static bool is_directory(int directory_fd, const struct dirent *entry)
{
	struct stat status;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(directory_fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(status.st_mode);
}

int name_list_add_directories(struct name_list *list, const char *path, struct error *err)
{
	scoped_directory DIR *directory = opendir(path);
	struct dirent *entry;

	if (!directory && errno == ENOENT)
		return 0;
	if (!directory)
		return error_errno(err, "list %s", path);
	while ((errno = 0, entry = readdir(directory)))
		if (id_is_valid(entry->d_name) && is_directory(dirfd(directory), entry))
			name_list_add(list, entry->d_name);
	return errno ? error_errno(err, "list %s", path) : 0;
}

static int compare_names(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

void name_list_finish(struct name_list *list, const char ***ret_names, size_t *ret_count)
{
	size_t kept = 0;

	if (!list->names)
		list->names = arena_array(list->arena, const char *, 1);
	qsort(list->names, list->count, sizeof(*list->names), compare_names);
	for (size_t i = 0; i < list->count; i++)
		if (i == 0 || strcmp(list->names[i], list->names[kept - 1]) != 0)
			list->names[kept++] = list->names[i];
	*ret_names = list->names;
	*ret_count = kept;
}
