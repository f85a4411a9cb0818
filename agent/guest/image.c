// SPDX-License-Identifier: Apache-2.0
#include "agent/guest/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "agent/base/file.h"
#include "agent/base/number.h"
#include "agent/base/scope.h"

static const char component_bytes[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:";

static int check_component(const char *reference, const char *component, size_t length,
			   struct error *err)
{
	if (!length)
		return error_set(err, EINVAL, "image \"%s\": an empty path component", reference);
	if (component[0] == '.' || component[0] == '-' || component[0] == ':')
		return error_set(err, EINVAL, "image \"%s\": a component begins with '%c'",
				 reference, component[0]);
	if (strspn(component, component_bytes) < length)
		return error_set(err, EINVAL,
				 "image \"%.*s\": only letters, digits, '.', '_', '-', ':' and '/' "
				 "may stand in a reference",
				 IMAGE_REFERENCE_MAX, reference);
	return 0;
}

int image_reference_check(const char *reference, struct error *err)
{
	const char *component = reference;

	if (!*reference || strlen(reference) >= IMAGE_REFERENCE_MAX)
		return error_set(err, EINVAL, "an image reference has 1 to %d characters",
				 IMAGE_REFERENCE_MAX - 1);
	if (strchr(reference, '@'))
		return error_set(err, EINVAL, "image \"%s\": digests are not supported, name a tag",
				 reference);
	for (;;) {
		size_t length = strcspn(component, "/");
		int result = check_component(reference, component, length, err);

		if (result < 0)
			return result;
		if (!component[length])
			return 0;
		component += length + 1;
	}
}

// Where there is no openat2 (before Linux 5.6, and under valgrind): one component at a time,
// and no symbolic link at all.
static int open_by_component(int directory_fd, const char *path)
{
	scoped_fd int parent = -1;

	for (;;) {
		size_t length = strcspn(path, "/");
		char component[IMAGE_REFERENCE_MAX + 16];
		int next;

		if (path[length] == '\0')
			return openat(parent < 0 ? directory_fd : parent, path,
				      O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
		snprintf(component, sizeof(component), "%.*s", (int)length, path);
		next = openat(parent < 0 ? directory_fd : parent, component,
			      O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (next < 0)
			return -1;
		close_fd(&parent);
		parent = next;
		path += length + 1;
	}
}

static int open_beneath(int directory_fd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};

	int fd = (int)syscall(SYS_openat2, directory_fd, path, &how, sizeof(how));

	return fd < 0 && errno == ENOSYS ? open_by_component(directory_fd, path) : fd;
}

// "busybox" -> busybox:latest.squashfs, else busybox.squashfs; a tag of "latest" may be left out.
static void image_stems(const char *reference, char stems[2][IMAGE_REFERENCE_MAX + 8])
{
	const char *slash = strrchr(reference, '/');
	const char *tag = strchr(slash ? slash : reference, ':');

	stems[1][0] = '\0';
	if (!tag) {
		snprintf(stems[0], sizeof(stems[0]), "%s:latest", reference);
		snprintf(stems[1], sizeof(stems[1]), "%s", reference);
		return;
	}
	snprintf(stems[0], sizeof(stems[0]), "%s", reference);
	if (strcmp(tag, ":latest") == 0)
		snprintf(stems[1], sizeof(stems[1]), "%.*s", (int)(tag - reference), reference);
}

static int describe(struct image *image, const char *reference, struct error *err)
{
	char place[64], content[64];
	struct stat status;

	if (fstat(image->fd, &status) < 0)
		return error_errno(err, "image %s", reference);
	if (!S_ISREG(status.st_mode) || status.st_size == 0)
		return error_set(err, EINVAL, "image %s: not a regular file with content",
				 reference);
	image->size_bytes = (unsigned long long)status.st_size;
	snprintf(place, sizeof(place), "%" PRIx64 ":%" PRIx64, (uint64_t)status.st_dev,
		 (uint64_t)status.st_ino);
	snprintf(content, sizeof(content), "%" PRIx64 ":%" PRIx64 ":%" PRIx64,
		 (uint64_t)status.st_size, (uint64_t)status.st_mtim.tv_sec,
		 (uint64_t)status.st_mtim.tv_nsec);
	snprintf(image->identity, sizeof(image->identity), "%016" PRIx64 "%016" PRIx64,
		 hash_pair(place, content), hash_pair(content, place));
	return 0;
}

static int read_config(int directory_fd, const char *stem, struct image *image, struct error *err)
{
	char name[IMAGE_REFERENCE_MAX + 16], self[32];
	scoped_fd int fd = -1;
	struct stat status;

	snprintf(name, sizeof(name), "%s.json", stem);
	fd = open_beneath(directory_fd, name);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return error_errno(err, "image configuration %s", name);
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return error_set(err, EINVAL, "image configuration %s: not a regular file", name);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (file_read(AT_FDCWD, self, IMAGE_CONFIG_MAX, &image->config, &image->config_length,
		      err) < 0)
		return error_wrap(err, "image configuration %s", name);
	return 0;
}

static int open_stem(int directory_fd, const char *stem, const char *reference,
		     struct image *ret_image, struct error *err)
{
	scoped(image_close) struct image image = IMAGE_NONE;
	char name[IMAGE_REFERENCE_MAX + 24];
	int result;

	snprintf(name, sizeof(name), "%s.squashfs", stem);
	image.fd = open_beneath(directory_fd, name);
	if (image.fd < 0)
		return error_errno(err, "image %s: %s", reference, name);
	result = describe(&image, reference, err);
	if (result == 0)
		result = read_config(directory_fd, stem, &image, err);
	if (result < 0)
		return result;
	*ret_image = image;
	image = IMAGE_NONE;
	return 0;
}

int image_open(const char *directory, const char *reference, struct image *ret_image,
	       struct error *err)
{
	char stems[2][IMAGE_REFERENCE_MAX + 8];
	scoped_fd int directory_fd = -1;
	int result = image_reference_check(reference, err);

	if (result < 0)
		return result;
	directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory_fd < 0)
		return error_errno(err, "image directory %s", directory);
	image_stems(reference, stems);
	result = open_stem(directory_fd, stems[0], reference, ret_image, err);
	if (result == -ENOENT && stems[1][0])
		result = open_stem(directory_fd, stems[1], reference, ret_image, err);
	if (result == -ENOENT)
		return error_set(err, ENOENT, "image %s: no %s.squashfs in %s", reference,
				 stems[1][0] ? stems[1] : stems[0], directory);
	return result;
}

void image_close(struct image *image)
{
	close_fd(&image->fd);
	free(image->config);
	image->config = NULL;
}

int image_unpacked(const char *state_directory, const char *identity, char ret_path[PATH_MAX],
		   bool *ret_ready, struct error *err)
{
	struct stat status;

	if (snprintf(ret_path, PATH_MAX, "%s/images/%s", state_directory, identity) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "state directory %s", state_directory);
	*ret_ready = stat(ret_path, &status) == 0;
	if (!*ret_ready && errno != ENOENT)
		return error_errno(err, "unpacked image %s", ret_path);
	return 0;
}

int image_unpack_prepare(const char *state_directory, const char *identity, int child_fd,
			 struct image_unpack *ret_unpack, struct error *err)
{
	struct image_unpack *unpack = ret_unpack;
	char parent[PATH_MAX];
	int result;

	if (snprintf(unpack->partial, PATH_MAX, "%s/images/%s.part", state_directory, identity) >=
	    PATH_MAX)
		return error_set(err, ENAMETOOLONG, "state directory %s", state_directory);
	snprintf(parent, sizeof(parent), "%s/images", state_directory);
	result = directory_make(parent, 0700, err);
	if (result == 0)
		result = directory_remove(AT_FDCWD, unpack->partial, err);
	if (result < 0)
		return result;
	snprintf(unpack->source, sizeof(unpack->source), "/proc/self/fd/%d", child_fd);
	const char *argv[IMAGE_UNPACK_ARGUMENTS] = {
		"/usr/bin/unsquashfs", "-no-progress", "-quiet", "-processors", "1", "-dest",
		unpack->partial,       unpack->source,
	};
	memcpy(unpack->argv, argv, sizeof(argv));
	return 0;
}

int image_unpack_commit(const char *state_directory, const char *identity, struct error *err)
{
	char partial[PATH_MAX], whole[PATH_MAX];
	bool ready;
	int result = image_unpacked(state_directory, identity, whole, &ready, err);

	if (result < 0 || ready)
		return result;
	if (snprintf(partial, PATH_MAX, "%s/images/%s.part", state_directory, identity) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "state directory %s", state_directory);
	if (rename(partial, whole) < 0)
		return error_errno(err, "rename %s", partial);
	return 0;
}
