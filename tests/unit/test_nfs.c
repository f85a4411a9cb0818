// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "agent/base/scope.h"
#include "nfs/nfs.h"

static struct error err;

static struct nfs_volume volume_with(const char *export_path, const char *root_directory)
{
	return (struct nfs_volume){.server = "10.0.3.5",
				   .port = 2049,
				   .export_path = export_path,
				   .root_directory = root_directory,
				   .client_address = "10.0.1.7"};
}

static void test_plan(void **state)
{
	struct nfs_volume volume = volume_with("/fs-1", "/web");
	struct nfs_mount mount;

	(void)state;
	assert_int_equal(nfs_mount_plan(&volume, &mount, &err), 0);
	assert_string_equal(mount.type, "nfs4");
	assert_string_equal(mount.source, "10.0.3.5:/fs-1/web");
	assert_string_equal(mount.options,
			    "nfsvers=4.1,proto=tcp,rsize=1048576,wsize=1048576,hard,timeo=600,"
			    "retrans=2,noresvport,port=2049,addr=10.0.3.5,clientaddr=10.0.1.7");
	assert_int_equal(mount.flags, MS_NOSUID | MS_NODEV);
	volume.read_only = true;
	volume.port = 12049;
	assert_int_equal(nfs_mount_plan(&volume, &mount, &err), 0);
	assert_int_equal(mount.flags, MS_NOSUID | MS_NODEV | MS_RDONLY);
	assert_non_null(strstr(mount.options, ",port=12049,"));
}

static void test_join(void **state)
{
	static const struct {
		const char *export_path, *root_directory, *source;
	} cases[] = {
		{"/", NULL, "10.0.3.5:/"},
		{"/", "/", "10.0.3.5:/"},
		{"/", "/a", "10.0.3.5:/a"},
		{"/", "/a/", "10.0.3.5:/a"},
		{"/fs-1", NULL, "10.0.3.5:/fs-1"},
		{"/fs-1", "/", "10.0.3.5:/fs-1"},
		{"/fs-1/", "/", "10.0.3.5:/fs-1"},
		{"/fs-1/", "/a/b/", "10.0.3.5:/fs-1/a/b"},
		{"/fs-1", "/a, b:c", "10.0.3.5:/fs-1/a, b:c"},
		{"/fs-1", "/...", "10.0.3.5:/fs-1/..."},
		{"/fs-1", "/.hidden/..x", "10.0.3.5:/fs-1/.hidden/..x"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct nfs_volume volume =
			volume_with(cases[i].export_path, cases[i].root_directory);
		struct nfs_mount mount;

		assert_int_equal(nfs_mount_plan(&volume, &mount, &err), 0);
		assert_string_equal(mount.source, cases[i].source);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *path, *message;
	} cases[] = {
		{"", "rootDirectory \"\": must begin with \"/\""},
		{"web", "rootDirectory \"web\": must begin with \"/\""},
		{"/..", "rootDirectory \"/..\": \"..\" is not allowed"},
		{"/../", "rootDirectory \"/../\": \"..\" is not allowed"},
		{"/a/../../b", "rootDirectory \"/a/../../b\": \"..\" is not allowed"},
		{"/a/./b", "rootDirectory \"/a/./b\": \".\" is not allowed"},
		{"//", "rootDirectory \"//\": \"//\" is not allowed"},
		{"/a//b", "rootDirectory \"/a//b\": \"//\" is not allowed"},
		{"/a\nb", "rootDirectory: control character 0x0a at byte 2"},
		{"/a\x7f", "rootDirectory: control character 0x7f at byte 2"},
	};
	struct nfs_mount mount;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct nfs_volume volume = volume_with("/fs-1", cases[i].path);

		assert_int_equal(nfs_mount_plan(&volume, &mount, &err), -EINVAL);
		assert_string_equal(err.message, cases[i].message);
	}
}

static void test_lengths(void **state)
{
	char path[NFS_PATH_MAX + 1] = "", name[300];
	struct nfs_volume volume = volume_with("/fs-1", path);
	struct nfs_mount mount;

	(void)state;
	for (size_t i = 0; i < NFS_PATH_MAX; i++)
		path[i] = i % 100 == 0 ? '/' : 'a';
	path[NFS_PATH_MAX] = '\0';
	assert_int_equal(nfs_mount_plan(&volume, &mount, &err), -EINVAL);
	path[NFS_PATH_MAX - 1] = '\0'; // alone it would do
	assert_int_equal(nfs_path_validate("rootDirectory", path, &err), 0);
	assert_int_equal(nfs_mount_plan(&volume, &mount, &err), -EINVAL);
	assert_string_equal(err.message, "exportPath and rootDirectory: 1028 bytes together, "
					 "at most 1023 are allowed");
	path[NFS_PATH_MAX - 6] = '\0';
	assert_int_equal(nfs_mount_plan(&volume, &mount, &err), 0);
	assert_int_equal(strlen(mount.source), strlen("10.0.3.5:") + NFS_PATH_MAX - 1);

	memset(name, 'n', sizeof(name));
	name[0] = '/';
	name[256] = '\0';
	assert_int_equal(nfs_path_validate("rootDirectory", name, &err), 0);
	name[256] = 'n';
	name[257] = '\0';
	assert_int_equal(nfs_path_validate("rootDirectory", name, &err), -EINVAL);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {NULL,  "",       "10.0.3",   "010.0.0.1",
					  "::1", "server", "1.2.3.4,x"};
	struct nfs_mount mount;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		struct nfs_volume volume = volume_with("/fs-1", NULL);

		volume.server = bad[i];
		assert_int_equal(nfs_mount_plan(&volume, &mount, &err), -EINVAL);
		volume = volume_with("/fs-1", NULL);
		volume.client_address = bad[i];
		assert_int_equal(nfs_mount_plan(&volume, &mount, &err), -EINVAL);
	}
}

static void test_failures(void **state)
{
	char path[NFS_READ_AHEAD_PATH_SIZE];

	(void)state;
	assert_int_equal(nfs_mount_failure("10.0.3.5:/fs-1/web", ENOENT, &err), -ENOENT);
	assert_string_equal(err.message,
			    "mount 10.0.3.5:/fs-1/web: no such directory on the server "
			    "(exportPath, rootDirectory)");
	assert_int_equal(nfs_mount_failure("10.0.3.5:/", -ETIMEDOUT, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.message, "no answer in time"));
	assert_true(nfs_mount_may_pass(ECONNREFUSED) && nfs_mount_may_pass(-ETIMEDOUT));
	assert_false(nfs_mount_may_pass(ENOENT) || nfs_mount_may_pass(EACCES) ||
		     nfs_mount_may_pass(EXDEV));
	nfs_mount_failure("10.0.3.5:/", EXDEV, &err);
	assert_non_null(strstr(err.message, strerror(EXDEV)));
	nfs_read_ahead_path(0, 47, path);
	assert_string_equal(path, "/sys/class/bdi/0:47/read_ahead_kb");
	assert_int_equal(NFS_READ_AHEAD_KIB, 15360);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan),      cmocka_unit_test(test_join),
		cmocka_unit_test(test_refused),   cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
