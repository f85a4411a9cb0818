// SPDX-License-Identifier: Apache-2.0
// The configuration file: defaults, every kind of value, every kind of fault with its line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/file.h"
#include "agent/base/scope.h"
#include "agent/model/config.h"

static char path[] = "/tmp/penstock-config-XXXXXX";

static int read_text(const char *text, struct config *ret_config, struct error *err)
{
	struct error write_error = {0};

	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, &write_error),
			 0);
	return config_read(path, ret_config, err);
}

static void test_defaults_stand_in_an_empty_file(void **state)
{
	struct config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(read_text("# nothing\n\n   \n", &config, &err), 0);
	assert_string_equal(config.install, "main");
	assert_string_equal(config.driver, "qemu");
	assert_int_equal(config.stopped_retention_seconds, 3600);
	assert_int_equal(config.uid_count, 10000);
}

static void test_values_are_taken(void **state)
{
	struct config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(read_text("install=blue-1\n  memory_mib =  4096 # half\r\n"
				   "writer_group = deploy\ndriver = netns",
				   &config, &err),
			 0);
	assert_string_equal(config.install, "blue-1");
	assert_int_equal(config.memory_mib, 4096);
	assert_string_equal(config.writer_group, "deploy");
	assert_string_equal(config.driver, "netns");
}

static void test_faults_name_line_and_cure(void **state)
{
	static const struct {
		const char *text, *message;
	} faults[] = {
		{"install main\n", ":1: expected \"key = value\""},
		{"\nspeed = 3\n", ":2: unknown key \"speed\""},
		{"memory_mib = 1\nmemory_mib = 2\n", ":2: memory_mib stands twice"},
		{"memory_mib = lots\n", ":1: memory_mib must be a number from 0 to"},
		{"memory_mib = -1\n", ":1: memory_mib must be a number from 0 to"},
		{"memory_mib = 99999999999\n", ":1: memory_mib must be a number from 0 to"},
		{"uid_first = 0\n", ":1: uid_first must be a number from 1000 to"},
		{"driver = firecracker\n", ":1: driver must be one of qemu|netns"},
		{"driver = qem\n", ":1: driver must be one of qemu|netns"},
		{"driver =\n", ":1: driver must be one of qemu|netns"},
		{"socket = api.sock\n", ":1: socket must be an absolute path"},
		{"install = Blue\n", ":1: install must be 1 to 24 of a-z, 0-9 and -"},
		{"install = a-name-that-is-much-too-long\n", ":1: install must be 1 to 24"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(faults); i++) {
		struct config config = {.memory_mib = 7};
		struct error err = {0};

		assert_int_equal(read_text(faults[i].text, &config, &err), -EINVAL);
		assert_non_null(strstr(err.message, faults[i].message));
		assert_non_null(strstr(err.message, path));
		assert_int_equal(config.memory_mib, 7); // set on success only
	}
}

static void test_missing_file(void **state)
{
	struct config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_read("/nonexistent/penstock.conf", &config, &err), -ENOENT);
	assert_int_equal(config_load("/nonexistent/penstock.conf", &config, &err), -EINVAL);
}

// What --explain-config prints is a file that reads back as the defaults.
static void test_explanation_reads_back(void **state)
{
	struct config config, defaults;
	struct error err = {0};
	FILE *out = fopen(path, "we");

	(void)state;
	assert_non_null(out);
	config_explain(out);
	fclose(out);
	config_defaults(&defaults);
	assert_int_equal(config_read(path, &config, &err), 0);
	assert_memory_equal(&config, &defaults, sizeof(config));
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	return fd < 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_stand_in_an_empty_file),
		cmocka_unit_test(test_values_are_taken),
		cmocka_unit_test(test_faults_name_line_and_cure),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_explanation_reads_back),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
