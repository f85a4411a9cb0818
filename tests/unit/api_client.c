// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/api_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/base/buffer.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"

enum { READ_DEADLINE_MS = 60000, CONNECT_ATTEMPTS = 6000 };

static int try_connect(const struct api_test *test)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", test->socket_path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close_fd(&fd);
	return -1;
}

void api_test_start(struct api_test *test, struct api_fake_options options)
{
	int fd = -1;

	snprintf(test->directory, sizeof(test->directory), "/tmp/test-api-XXXXXX");
	assert_non_null(mkdtemp(test->directory));
	snprintf(test->socket_path, sizeof(test->socket_path), "%s/api.sock", test->directory);
	options.directory = test->directory;
	assert_int_equal(chmod(test->directory, 0755), 0);
	fflush(NULL);
	test->server = fork();
	assert_true(test->server >= 0);
	if (test->server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(api_fake_serve(&options)); // not _exit: the leak checker looks too
	}
	// The child is the only one to know when it listens: look until then, a minute at most.
	for (int i = 0; i < CONNECT_ATTEMPTS && fd < 0; i++) {
		fd = try_connect(test);
		if (fd < 0)
			poll(NULL, 0, 10);
	}
	assert_true(fd >= 0);
	close(fd);
}

void api_test_stop(struct api_test *test)
{
	struct error err = {0};
	int status = 0;

	kill(test->server, SIGTERM);
	assert_int_equal(waitpid(test->server, &status, 0), test->server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_not_equal(access(test->socket_path, F_OK), 0);
	assert_int_equal(directory_remove(AT_FDCWD, test->directory, &err), 0);
}

int api_test_connect(const struct api_test *test)
{
	int fd = try_connect(test);

	if (fd < 0)
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

void api_test_send(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		ssize_t count = send(fd, text, left, MSG_NOSIGNAL);

		if (count < 0 && errno == EPIPE)
			return; // refused early: the answer says why
		assert_true(count > 0);
		text += count;
		left -= (size_t)count;
	}
}

char *api_test_read(int fd, const char *until)
{
	struct buffer text = {0};
	char bytes[16 * 1024];

	while (!until || !strstr(buffer_text(&text), until)) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		ssize_t count;

		if (poll(&ready, 1, READ_DEADLINE_MS) != 1)
			fail_msg("nothing comes; so far: %.2000s", buffer_text(&text));
		count = read(fd, bytes, sizeof(bytes));
		if (count <= 0)
			break;
		buffer_add(&text, bytes, (size_t)count);
	}
	return buffer_take(&text);
}

struct api_answer api_test_request(const struct api_test *test, const char *method,
				   const char *path, const char *headers, const char *body)
{
	scoped(buffer_release) struct buffer request = {0};
	struct api_answer answer = {0};
	scoped_free char *text = NULL;
	scoped_fd int fd = api_test_connect(test);
	char *end;

	buffer_addf(
		&request,
		"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
		method, path, headers, strlen(body));
	buffer_adds(&request, body);
	api_test_send(fd, buffer_text(&request));
	text = api_test_read(fd, NULL);
	end = strstr(text, "\r\n\r\n");
	if (!end) {
		fail_msg("no answer to %s %s: %.500s", method, path, text);
		return answer;
	}
	assert_int_equal(sscanf(text, "HTTP/1.1 %d", &answer.status), 1);
	answer.body = strdup(end + 4);
	*end = '\0';
	answer.head = strdup(text);
	return answer;
}

void api_answer_release(struct api_answer *answer)
{
	free(answer->head);
	free(answer->body);
}

static int simple(const struct api_test *test, const char *method, const char *path,
		  const char *body, char **ret_body)
{
	struct api_answer answer = api_test_request(test, method, path, "", body);

	free(answer.head);
	if (ret_body)
		*ret_body = answer.body;
	else
		free(answer.body);
	return answer.status;
}

int api_test_put(const struct api_test *test, const char *path, const char *body, char **ret_body)
{
	return simple(test, "PUT", path, body, ret_body);
}

int api_test_get(const struct api_test *test, const char *path, char **ret_body)
{
	return simple(test, "GET", path, "", ret_body);
}

int api_test_status(const struct api_test *test, const char *method, const char *path)
{
	return simple(test, method, path, "", NULL);
}

int api_test_begin_get(const struct api_test *test, const char *path)
{
	int fd = api_test_connect(test);
	scoped(buffer_release) struct buffer request = {0};

	buffer_addf(&request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
	api_test_send(fd, buffer_text(&request));
	return fd;
}

void api_test_expect_text(int fd, const char *text)
{
	scoped_free char *read_text = api_test_read(fd, text);

	if (!strstr(read_text, text))
		fail_msg("no \"%s\" in %.1000s", text, read_text);
}

void api_test_expect(const struct api_test *test, const char *method, const char *path,
		     const char *headers, const char *body, int status, const char *const *texts)
{
	scoped(api_answer_release) struct api_answer answer =
		api_test_request(test, method, path, headers, body);

	if (answer.status != status)
		fail_msg("%s %s: %d instead of %d: %s", method, path, answer.status, status,
			 answer.body);
	for (; *texts; texts++)
		if (!answer.body || (!strstr(answer.body, *texts) && !strstr(answer.head, *texts)))
			fail_msg("%s %s: no \"%s\" in %s\n%s", method, path, *texts, answer.head,
				 answer.body);
}

void api_test_make_network(const struct api_test *test)
{
	assert_int_equal(
		api_test_put(test, "/v1/vpcs/main", "{\"cidrBlock\":\"10.0.0.0/16\"}", NULL), 201);
	assert_int_equal(api_test_put(test, "/v1/subnets/a",
				      "{\"vpcId\":\"main\",\"cidrBlock\":\"10.0.1.0/24\"}", NULL),
			 201);
	assert_int_equal(
		api_test_put(test, "/v1/security-groups/web", "{\"vpcId\":\"main\"}", NULL), 201);
}
