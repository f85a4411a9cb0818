// SPDX-License-Identifier: Apache-2.0
// Removing directories that somebody made to be hard to remove.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"

// Few descriptors stand for a deeper tree.
enum { DEPTH = 500, DESCRIPTORS = 16 };

static char root[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(root, "/tmp/penstock-file-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	struct error err = {0};

	(void)state;
	return directory_remove(AT_FDCWD, root, &err);
}

static void make_file(int directory_fd, const char *name)
{
	scoped_fd int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
}

// Each level has a file, two directories, and a name as the removal itself gives them.
static void make_deep(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < DEPTH; i++) {
		int next;

		make_file(fd, "file");
		assert_int_equal(mkdirat(fd, ".removed-0", 0700), 0);
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	close(fd);
}

static void test_deeper_than_descriptors(void **state)
{
	struct rlimit before, few;
	struct error err = {0};
	struct stat status;

	(void)state;
	make_deep(root);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){DESCRIPTORS, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(directory_clear(root, &err), 0);
	assert_int_equal(stat(root, &status), 0);
	assert_int_equal(status.st_nlink, 2); // it stays, empty
	make_deep(root);
	assert_int_equal(directory_remove(AT_FDCWD, root, &err), 0);
	assert_int_equal(directory_remove(AT_FDCWD, root, &err), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(stat(root, &status), -1);
}

static void test_links_are_not_followed(void **state)
{
	char victim[96], link[96], file[128];
	struct error err = {0};
	struct stat status;

	(void)state;
	snprintf(victim, sizeof(victim), "%s/victim", root);
	snprintf(file, sizeof(file), "%s/file", victim);
	snprintf(link, sizeof(link), "%s/tree", root);
	assert_int_equal(mkdir(victim, 0700), 0);
	make_file(AT_FDCWD, file);
	assert_int_equal(symlink(victim, link), 0);
	assert_int_equal(directory_remove(AT_FDCWD, link, &err), 0);
	assert_int_equal(mkdir(link, 0700), 0);
	snprintf(link, sizeof(link), "%s/tree/link", root);
	assert_int_equal(symlink(victim, link), 0);
	snprintf(link, sizeof(link), "%s/tree", root);
	assert_int_equal(directory_remove(AT_FDCWD, link, &err), 0);
	assert_int_equal(stat(file, &status), 0);
}

// Returns 0 when what is bound over `place` is still there after an attempt to remove `tree`.
static int try_mounted(const char *victim, const char *place, const char *tree)
{
	char file[160];
	struct error err = {0};
	struct stat status;

	snprintf(file, sizeof(file), "%s/file", victim);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount(victim, place, NULL, MS_BIND, NULL) < 0)
		return 1;
	if (directory_remove(AT_FDCWD, tree, &err) != -EBUSY || stat(file, &status) < 0)
		return 2;
	return 0;
}

// The same file system, mounted there once more: its device number does not tell.
static void test_mounts_are_left_alone(void **state)
{
	static const char *const places[] = {"tree", "tree/a", "tree/a/b", "tree/a/b/c"};
	char victim[96], file[128], tree[96], place[128];
	struct error err = {0};

	(void)state;
	if (geteuid() != 0)
		skip();
	snprintf(victim, sizeof(victim), "%s/victim", root);
	snprintf(file, sizeof(file), "%s/file", victim);
	snprintf(tree, sizeof(tree), "%s/tree", root);
	assert_int_equal(mkdir(victim, 0700), 0);
	make_file(AT_FDCWD, file);
	for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
		int status;
		pid_t pid;

		snprintf(place, sizeof(place), "%s/tree/a/b/c", root);
		assert_int_equal(directory_make(place, 0700, &err), 0);
		snprintf(place, sizeof(place), "%s/%s", root, places[i]);
		pid = fork();
		if (pid == 0)
			_exit(try_mounted(victim, place, tree));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_int_equal(directory_remove(AT_FDCWD, tree, &err), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_deeper_than_descriptors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links_are_not_followed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mounts_are_left_alone, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
