// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/guest/image.h"

struct place {
	char directory[64];
	char images[80];
	char state[80];
};

static void write_text(const char *directory, const char *name, const char *text)
{
	char path[256];
	scoped_file FILE *file = NULL;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fputs(text, file) >= 0, 1);
}

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	char sub[128];

	snprintf(place->directory, sizeof(place->directory), "/tmp/penstock-image-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	snprintf(place->images, sizeof(place->images), "%s/images", place->directory);
	snprintf(place->state, sizeof(place->state), "%s/state", place->directory);
	assert_return_code(mkdir(place->images, 0755), errno);
	snprintf(sub, sizeof(sub), "%s/registry.example", place->images);
	assert_return_code(mkdir(sub, 0755), errno);
	write_text(place->images, "busybox.squashfs", "plain");
	write_text(place->images, "busybox.json", "{}");
	write_text(place->images, "busybox:1.36.squashfs", "tagged");
	write_text(place->images, "registry.example/app:v1.squashfs", "deep");
	write_text(place->images, "empty.squashfs", "");
	write_text(place->directory, "outside.squashfs", "secret");
	snprintf(sub, sizeof(sub), "%s/escape.squashfs", place->images);
	assert_return_code(symlink("../outside.squashfs", sub), errno);
	snprintf(sub, sizeof(sub), "%s/inside.squashfs", place->images);
	assert_return_code(symlink("busybox.squashfs", sub), errno);
	snprintf(sub, sizeof(sub), "%s/fifo.squashfs", place->images);
	assert_return_code(mkfifo(sub, 0644), errno);
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	struct error err;

	directory_remove(AT_FDCWD, place->directory, &err);
	free(place);
	return 0;
}

static void test_references(void **state)
{
	static const char *const good[] = {"busybox", "busybox:1.36", "a/b/c:d", "A_b-c.d",
					   "registry.example:5000/x/y:tag"};
	static const char *const bad[] = {
		"",           "/busybox", "busybox/",          "a//b",        "..",
		"../busybox", "a/../b",   ".hidden",           "a/.hidden",   "-flag",
		"a b",        "a\nb",     "busybox@sha256:00", "caf\xc3\xa9", ":tag",
		"a,b",        "a;b"};
	char long_name[IMAGE_REFERENCE_MAX + 1];
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++)
		assert_int_equal(image_reference_check(good[i], &err), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		assert_int_equal(image_reference_check(bad[i], &err), -EINVAL);
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[IMAGE_REFERENCE_MAX] = '\0';
	assert_int_equal(image_reference_check(long_name, &err), -EINVAL);
	long_name[IMAGE_REFERENCE_MAX - 1] = '\0';
	assert_int_equal(image_reference_check(long_name, &err), 0);
}

static void assert_image(const struct place *place, const char *reference, const char *text,
			 bool configured)
{
	scoped(image_close) struct image image = IMAGE_NONE;
	struct error err = {0};
	char found[16] = "";

	assert_int_equal(image_open(place->images, reference, &image, &err), 0);
	assert_int_equal(read(image.fd, found, sizeof(found) - 1), strlen(text));
	assert_string_equal(found, text);
	assert_int_equal(image.size_bytes, strlen(text));
	assert_int_equal(strlen(image.identity), IMAGE_IDENTITY_SIZE - 1);
	assert_int_equal(image.config != NULL, configured);
}

static void test_open(void **state)
{
	const struct place *place = *state;

	assert_image(place, "busybox", "plain", true);
	assert_image(place, "busybox:latest", "plain", true);
	assert_image(place, "busybox:1.36", "tagged", false);
	assert_image(place, "registry.example/app:v1", "deep", false);
	assert_image(place, "inside", "plain", false);
}

static void test_open_refuses(void **state)
{
	static const struct {
		const char *reference;
		int result;
	} cases[] = {
		{"busybox:1.37", -ENOENT}, {"nothing", -ENOENT}, {"busybox/more", -ENOENT},
		{"escape", -EXDEV},        {"empty", -EINVAL},   {"fifo", -EINVAL},
		{"../outside", -EINVAL},
	};
	const struct place *place = *state;

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct image image = IMAGE_NONE;
		struct error err = {0};

		assert_int_equal(image_open(place->images, cases[i].reference, &image, &err),
				 cases[i].result);
		assert_int_equal(image.fd, -1);
	}
}

static void test_identity_follows_the_file(void **state)
{
	const struct place *place = *state;
	scoped(image_close) struct image first = IMAGE_NONE, again = IMAGE_NONE,
					 changed = IMAGE_NONE;
	struct error err = {0};

	assert_int_equal(image_open(place->images, "busybox", &first, &err), 0);
	assert_int_equal(image_open(place->images, "busybox:latest", &again, &err), 0);
	assert_string_equal(first.identity, again.identity);
	write_text(place->images, "busybox.squashfs", "changed");
	assert_int_equal(image_open(place->images, "busybox", &changed, &err), 0);
	assert_string_not_equal(first.identity, changed.identity);
}

static void test_unpack(void **state)
{
	static const char identity[] = "0123456789abcdef0123456789abcdef";
	const struct place *place = *state;
	struct image_unpack unpack;
	struct error err = {0};
	struct stat status;
	char path[PATH_MAX];
	bool ready;

	assert_int_equal(image_unpacked(place->state, identity, path, &ready, &err), 0);
	assert_false(ready);
	// Twice: the second finds what an interrupted first one left.
	for (int i = 0; i < 2; i++) {
		assert_int_equal(image_unpack_prepare(place->state, identity, 3, &unpack, &err), 0);
		assert_return_code(mkdir(unpack.partial, 0755), errno);
		write_text(unpack.partial, "file", "x");
	}
	assert_string_equal(unpack.argv[0], "/usr/bin/unsquashfs");
	snprintf(path, sizeof(path), "%s/images", place->state);
	assert_return_code(stat(path, &status), errno);
	assert_int_equal(status.st_mode & 0777, 0700); // images hold set-uid programs
	assert_int_equal(image_unpack_commit(place->state, identity, &err), 0);
	assert_int_equal(image_unpack_commit(place->state, identity, &err), 0);
	assert_int_equal(image_unpacked(place->state, identity, path, &ready, &err), 0);
	assert_true(ready);
}

static void test_bundle(void **state)
{
	const struct place *place = *state;
	scoped(guest_bundle_close) struct guest_bundle bundle = GUEST_BUNDLE_NONE;
	struct error err = {0};

	assert_int_equal(guest_bundle_open(place->images, &bundle, &err), -ENOENT);
	write_text(place->images, "guest.version", "kernel 6.1.0-1-cloud-amd64\nbuild 00ff\n");
	write_text(place->images, "vmlinux", "k");
	assert_int_equal(guest_bundle_open(place->images, &bundle, &err), -ENOENT);
	assert_non_null(strstr(err.message, "initramfs.cpio (made by build-guest.sh)"));
	write_text(place->images, "initramfs.cpio", "i");
	assert_int_equal(guest_bundle_open(place->images, &bundle, &err), 0);
	assert_string_equal(bundle.kernel_release, "6.1.0-1-cloud-amd64");
	assert_string_equal(bundle.build, "00ff");
	write_text(place->images, "guest.version", "kernels 6\n");
	struct guest_bundle broken = GUEST_BUNDLE_NONE;
	assert_int_equal(guest_bundle_open(place->images, &broken, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test_setup_teardown(test_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_open_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_identity_follows_the_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unpack, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bundle, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
