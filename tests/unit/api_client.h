// SPDX-License-Identifier: Apache-2.0
// A raw HTTP client for the API's tests, and the fake agent as a child process.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/unit/api_fake.h"

struct api_test {
	char directory[64];
	char socket_path[96];
	pid_t server;
};

struct api_answer {
	int status;
	char *head, *body; // free both
};

// Starts the fake agent in a directory of its own (options->directory is set here).
void api_test_start(struct api_test *test, struct api_fake_options options);
// Ends it, checks that it ended well, removes the directory.
void api_test_stop(struct api_test *test);

int api_test_connect(const struct api_test *test); // fails the test, never returns -1
void api_test_send(int fd, const char *text);
// All that comes until the peer closes or `until` was seen (NULL: only then); "" on a cut
// connection. The test fails after a minute without a byte.
char *api_test_read(int fd, const char *until);

// One request on a connection of its own; headers are "Name: value\r\n" lines or "".
struct api_answer api_test_request(const struct api_test *test, const char *method,
				   const char *path, const char *headers, const char *body);
void api_answer_release(struct api_answer *answer);

// Shorthands: the status, and the body to be freed in *ret_body (may be NULL).
int api_test_put(const struct api_test *test, const char *path, const char *body, char **ret_body);
int api_test_get(const struct api_test *test, const char *path, char **ret_body);
int api_test_status(const struct api_test *test, const char *method, const char *path);

// A connection on which a GET was sent.
int api_test_begin_get(const struct api_test *test, const char *path);
// Reads until the text has come; the test fails without it.
void api_test_expect_text(int fd, const char *text);
// The test fails unless the answer has the status and every one of the texts in it.
void api_test_expect(const struct api_test *test, const char *method, const char *path,
		     const char *headers, const char *body, int status, const char *const *texts);
#define API_TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

// The VPC "main" (10.0.0.0/16), its subnet "a" (10.0.1.0/24) and its security group "web".
void api_test_make_network(const struct api_test *test);
