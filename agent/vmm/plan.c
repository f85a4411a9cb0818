// SPDX-License-Identifier: Apache-2.0
#include "agent/vmm/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/base/scope.h"

static void add_word(struct plan *plan, const char *format, va_list arguments)
{
	struct vmm_launch *launch = plan->launch;
	size_t room = sizeof(launch->arguments) - launch->argument_bytes;
	int length = vsnprintf(launch->arguments + launch->argument_bytes, room, format, arguments);

	if (length < 0 || (size_t)length >= room || launch->argument_count == VMM_ARGUMENTS_MAX) {
		plan->overflow = true;
		return;
	}
	launch->argument_bytes += (uint32_t)length + 1;
	launch->argument_count++;
}

void plan_argument(struct plan *plan, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add_word(plan, format, arguments);
	va_end(arguments);
}

void plan_option(struct plan *plan, const char *name, const char *format, ...)
{
	va_list arguments;

	plan_argument(plan, "%s", name);
	va_start(arguments, format);
	add_word(plan, format, arguments);
	va_end(arguments);
}

int plan_fd(struct plan *plan, enum vmm_attachment attachment, unsigned index)
{
	struct vmm_launch *launch = plan->launch;
	struct vmm_fd *fd;

	if (launch->fd_count == VMM_FDS_MAX) {
		plan->overflow = true;
		return -1;
	}
	fd = &launch->fds[launch->fd_count];
	*fd = (struct vmm_fd){attachment, index, VMM_FD_FIRST + (int)launch->fd_count};
	launch->fd_count++;
	return fd->number;
}

int plan_finish(const struct plan *plan, struct error *err)
{
	if (plan->overflow)
		return error_set(
			err, E2BIG,
			"the VMM's command needs more than %d words, %d bytes or %d descriptors",
			VMM_ARGUMENTS_MAX, VMM_ARGUMENT_BYTES, VMM_FDS_MAX);
	return 0;
}

void plan_network(char *text, size_t size, const struct vmm_request *request)
{
	char ip[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &request->ip, ip, sizeof(ip));
	inet_ntop(AF_INET, &request->gateway, gateway, sizeof(gateway));
	snprintf(text, size,
		 "penstock.ip=%s penstock.gateway=%s penstock.gateway_mac=%s penstock.mtu=%u", ip,
		 gateway, request->gateway_mac, request->mtu);
}

const struct vmm_ops *vmm_find(const char *name)
{
	static const struct vmm_ops *const drivers[] = {&vmm_qemu, &vmm_netns};

	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++)
		if (strcmp(drivers[i]->name, name) == 0)
			return drivers[i];
	return NULL;
}

int vmm_launch_argv(const struct vmm_launch *launch, const char **ret_argv, struct error *err)
{
	uint32_t at = 0;

	if (!launch->argument_count || launch->argument_count > VMM_ARGUMENTS_MAX ||
	    !launch->argument_bytes || launch->argument_bytes > VMM_ARGUMENT_BYTES)
		return error_set(err, EBADMSG, "launch: %u words in %u bytes",
				 launch->argument_count, launch->argument_bytes);
	for (uint32_t i = 0; i < launch->argument_count; i++) {
		const char *word = launch->arguments + at;
		size_t left = launch->argument_bytes - at;
		size_t length = strnlen(word, left);

		if (length == left)
			return error_set(err, EBADMSG, "launch: word %u has no end", i);
		ret_argv[i] = word;
		at += (uint32_t)length + 1;
	}
	if (at != launch->argument_bytes || launch->arguments[0] != '/')
		return error_set(err, EBADMSG, "launch: no list of words that begins with a path");
	ret_argv[launch->argument_count] = NULL;
	return 0;
}
