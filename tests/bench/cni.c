// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/cni.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "agent/base/scope.h"

enum { PATH_SIZE = 512, CONFIG_SIZE = 8192, RESULT_SIZE = 4096 };

struct call {
	const char *command, *container, *netns_path;
};

static int write_config(char config[CONFIG_SIZE], const struct cni_chain *chain, const char *type,
			const char *previous)
{
	if (strcmp(type, "bridge") == 0)
		return snprintf(config, CONFIG_SIZE,
				"{\"cniVersion\":\"0.4.0\",\"name\":\"bench\",\"type\":\"bridge\","
				"\"bridge\":\"cni0\",\"isGateway\":true,\"ipMasq\":false,"
				"\"ipam\":{\"type\":\"host-local\",\"dataDir\":\"%s\","
				"\"ranges\":[[{\"subnet\":\"10.77.0.0/16\"}]]}}",
				chain->state_directory);
	return snprintf(config, CONFIG_SIZE,
			"{\"cniVersion\":\"0.4.0\",\"name\":\"bench\",\"type\":\"%s\","
			"\"backend\":\"iptables\",\"prevResult\":%s}",
			type, *previous ? previous : "{\"cniVersion\":\"0.4.0\"}");
}

static int memory_file(const char *text, int *ret_fd, struct error *err)
{
	scoped_fd int fd = memfd_create("cni", MFD_CLOEXEC);
	size_t length = strlen(text);

	if (fd < 0 || write(fd, text, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "memfd");
	*ret_fd = take_fd(&fd);
	return 0;
}

static int run_plugin(const char *path, const struct call *call, const char *plugin_directory,
		      int in, int out, struct error *err)
{
	char command[32], container[128], netns[PATH_SIZE], plugins[PATH_SIZE];
	char *const envp[] = {command, container,         netns,
			      plugins, "CNI_IFNAME=eth0", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
			      NULL};
	char *const argv[] = {(char *)path, NULL};
	posix_spawn_file_actions_t actions;
	int status, code;
	pid_t pid;

	snprintf(command, sizeof(command), "CNI_COMMAND=%s", call->command);
	snprintf(container, sizeof(container), "CNI_CONTAINERID=%s", call->container);
	snprintf(netns, sizeof(netns), "CNI_NETNS=%s", call->netns_path);
	snprintf(plugins, sizeof(plugins), "CNI_PATH=%s", plugin_directory);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	code = posix_spawn(&pid, path, &actions, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	if (code)
		return error_code(err, code, "spawn %s", path);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(err, "wait for %s", path);
	return status == 0 ? 0 : -EIO;
}

// Runs one plugin; its result replaces `result`.
static int call_plugin(const struct cni_chain *chain, const char *type, const struct call *call,
		       char result[RESULT_SIZE], struct error *err)
{
	scoped_fd int in = -1, out = -1;
	char config[CONFIG_SIZE], path[PATH_SIZE];
	ssize_t length;
	int code;

	if (write_config(config, chain, type, result) >= CONFIG_SIZE)
		return error_set(err, E2BIG, "configuration of %s", type);
	snprintf(path, sizeof(path), "%s/%s", chain->plugin_directory, type);
	if (memory_file(config, &in, err) < 0 || memory_file("", &out, err) < 0)
		return -err->code;
	code = run_plugin(path, call, chain->plugin_directory, in, out, err);
	length = pread(out, result, RESULT_SIZE - 1, 0);
	result[length > 0 ? length : 0] = '\0';
	if (code == -EIO)
		return error_set(err, EIO, "CNI plugin %s %s: %s", type, call->command, result);
	return code;
}

int cni_add(const struct cni_chain *chain, const char *container, const char *netns_path,
	    struct error *err)
{
	const struct call call = {"ADD", container, netns_path};
	char result[RESULT_SIZE] = "";

	if (call_plugin(chain, "bridge", &call, result, err) < 0)
		return -err->code;
	return call_plugin(chain, "firewall", &call, result, err);
}

int cni_delete(const struct cni_chain *chain, const char *container, const char *netns_path,
	       struct error *err)
{
	const struct call call = {"DEL", container, netns_path};
	char result[RESULT_SIZE] = "";

	if (call_plugin(chain, "firewall", &call, result, err) < 0)
		return -err->code;
	result[0] = '\0';
	return call_plugin(chain, "bridge", &call, result, err);
}
