// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "agent/guest/image.h"

#include "agent/base/file.h"
#include "agent/base/scope.h"

static int open_file(int directory_fd, const char *directory, const char *name, int *ret_fd,
		     struct error *err)
{
	*ret_fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (*ret_fd >= 0)
		return 0;
	return error_errno(err, "guest file %s/%s (made by build-guest.sh)", directory, name);
}

// Finds "<key> value" in the lines of `text`.
static bool find_line(const char *text, const char *key, char *ret_value, size_t size)
{
	size_t key_length = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, key_length) == 0 && line[key_length] == ' ') {
			const char *value = line + key_length + 1;
			size_t length = strcspn(value, "\n");

			if (length >= size)
				return false;
			memcpy(ret_value, value, length);
			ret_value[length] = '\0';
			return true;
		}
	}
	return false;
}

int guest_bundle_open(const char *directory, struct guest_bundle *ret_bundle, struct error *err)
{
	scoped(guest_bundle_close) struct guest_bundle bundle = GUEST_BUNDLE_NONE;
	scoped_fd int directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	scoped_free char *version = NULL;
	int result;

	if (directory_fd < 0)
		return error_errno(err, "guest directory %s (made by build-guest.sh)", directory);
	result = file_read(directory_fd, "guest.version", 4096, &version, NULL, err);
	if (result < 0)
		return error_wrap(err, "guest directory %s", directory);
	if (!find_line(version, "kernel", bundle.kernel_release, sizeof(bundle.kernel_release)) ||
	    !find_line(version, "build", bundle.build, sizeof(bundle.build)))
		return error_set(err, EINVAL, "%s/guest.version: no kernel or build line",
				 directory);
	result = open_file(directory_fd, directory, "vmlinux", &bundle.kernel_fd, err);
	if (result == 0)
		result = open_file(directory_fd, directory, "initramfs.cpio", &bundle.initramfs_fd,
				   err);
	if (result < 0)
		return result;
	*ret_bundle = bundle;
	bundle = GUEST_BUNDLE_NONE;
	return 0;
}

void guest_bundle_close(struct guest_bundle *bundle)
{
	close_fd(&bundle->kernel_fd);
	close_fd(&bundle->initramfs_fd);
}
