// SPDX-License-Identifier: Apache-2.0
#include "agent/cell/protocol.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/base/utf8.h"

enum {
	IMAGE_BIT_FIRST = 16, // above every other attachment
	CHILD_FD_MAX = 255,
	EXIT_CODE_MAX = 255,
};

static const uint64_t allowed_namespaces =
	CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP;

_Static_assert((int)VMM_ATTACH_COUNT <= (int)IMAGE_BIT_FIRST, "attachments meet the image bits");
_Static_assert((int)IMAGE_BIT_FIRST + (int)VMM_IMAGES_MAX <= 64, "image bits do not fit");

uint64_t shim_slot_bit(enum vmm_attachment attachment, unsigned index)
{
	if (attachment == VMM_ATTACH_IMAGE)
		return UINT64_C(1) << (IMAGE_BIT_FIRST + index);
	return UINT64_C(1) << attachment;
}

static bool slot_is_valid(uint32_t attachment, uint32_t index)
{
	if (attachment >= VMM_ATTACH_COUNT)
		return false;
	return index < (attachment == VMM_ATTACH_IMAGE ? (uint32_t)VMM_IMAGES_MAX : 1U);
}

static int check_attach(const struct shim_attach *attach, size_t fd_count, struct error *err)
{
	if (attach->count == 0 || attach->count > MESSAGE_FDS_MAX || attach->count != fd_count)
		return error_set(err, EBADMSG, "attach: %u slots with %zu descriptors",
				 attach->count, fd_count);
	for (uint32_t i = 0; i < attach->count; i++) {
		const struct shim_slot *slot = &attach->slots[i];

		if (!slot_is_valid(slot->attachment, slot->index) ||
		    slot->attachment == VMM_ATTACH_QMP)
			return error_set(err, EBADMSG, "attach: no slot %u.%u", slot->attachment,
					 slot->index);
	}
	return 0;
}

static int check_launch_fds(const struct vmm_launch *launch, struct error *err)
{
	if (launch->fd_count > VMM_FDS_MAX)
		return error_set(err, EBADMSG, "launch: %u descriptors, at most %d",
				 launch->fd_count, VMM_FDS_MAX);
	for (uint32_t i = 0; i < launch->fd_count; i++) {
		const struct vmm_fd *fd = &launch->fds[i];

		if (!slot_is_valid(fd->attachment, fd->index) ||
		    fd->attachment == VMM_ATTACH_LISTENER)
			return error_set(err, EBADMSG, "launch: no slot %u.%u for a child",
					 fd->attachment, fd->index);
		if (fd->number < VMM_FD_FIRST || fd->number > CHILD_FD_MAX)
			return error_set(err, EBADMSG, "launch: descriptor number %d", fd->number);
		for (uint32_t j = 0; j < i; j++)
			if (launch->fds[j].number == fd->number)
				return error_set(err, EBADMSG, "launch: descriptor %d twice",
						 fd->number);
	}
	return 0;
}

// A bool that came as bytes may hold neither 0 nor 1: it must not be read as a bool before.
static bool is_flag(const bool *flag)
{
	unsigned char byte;

	memcpy(&byte, flag, 1);
	return byte <= 1;
}

static int check_launch(const struct vmm_launch *launch, struct error *err)
{
	const char *argv[VMM_ARGUMENTS_MAX + 1];

	if (!is_flag(&launch->enter_link) || !is_flag(&launch->wants_qmp) ||
	    !is_flag(&launch->drop_identity))
		return error_set(err, EBADMSG, "launch: a flag is neither 0 nor 1");
	if (launch->namespaces & ~allowed_namespaces)
		return error_set(err, EBADMSG, "launch: namespaces 0x%llx",
				 (unsigned long long)launch->namespaces);
	if (vmm_launch_argv(launch, argv, err) < 0)
		return error_wrap(err, "launch");
	if (!argv[0] || argv[0][0] != '/')
		return error_set(err, EBADMSG, "launch: the program is no absolute path");
	return check_launch_fds(launch, err);
}

int shim_request_check(const struct shim_request *request, size_t fd_count, struct error *err)
{
	if (request->version != SHIM_PROTOCOL_VERSION)
		return error_set(err, EBADMSG, "request version %u, expected %d", request->version,
				 SHIM_PROTOCOL_VERSION);
	if (request->kind < SHIM_ATTACH || request->kind >= SHIM_REQUEST_KIND_END)
		return error_set(err, EBADMSG, "request kind %u", request->kind);
	if (request->kind == SHIM_ATTACH)
		return check_attach(&request->attach, fd_count, err);
	if (fd_count != 0)
		return error_set(err, EBADMSG, "request kind %u with %zu descriptors",
				 request->kind, fd_count);
	return request->kind == SHIM_LAUNCH ? check_launch(&request->launch, err) : 0;
}

// Terminated, and one line of text: a terminal of an operator shows it and obeys none of it.
static bool is_text(const char *text, size_t size)
{
	const char *end = memchr(text, '\0', size);

	while (end && text < end) {
		size_t bytes = utf8_printable_length(text, (size_t)(end - text));

		if (bytes == 0)
			return false;
		text += bytes;
	}
	return end;
}

// The text may be cut within a character, and may quote a name that is no text.
void cell_status_fail(struct cell_status *status, const char *format, ...)
{
	size_t left, bytes;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(status->vmm_failure, sizeof(status->vmm_failure), format, arguments);
	va_end(arguments);
	left = strlen(status->vmm_failure);
	for (char *c = status->vmm_failure; left > 0; c += bytes, left -= bytes) {
		bytes = utf8_printable_length(c, left);
		if (bytes == 0) {
			*c = '?';
			bytes = 1;
		}
	}
}

static bool is_time(int64_t wall_ms)
{
	return wall_ms >= 0 && wall_ms <= CLOCK_WALL_MS_MAX;
}

static int check_container(const struct guest_container_status *container, struct error *err)
{
	if (container->state > GUEST_CONTAINER_STOPPED ||
	    container->health > GUEST_HEALTH_UNHEALTHY)
		return error_set(err, EBADMSG, "state %d, health %d", (int)container->state,
				 (int)container->health);
	if (container->exit_code < GUEST_EXIT_NONE || container->exit_code > EXIT_CODE_MAX)
		return error_set(err, EBADMSG, "exit code %d", container->exit_code);
	if (!is_time(container->started_ms) || !is_time(container->finished_ms))
		return error_set(err, EBADMSG, "a time before 1970 or after 9999");
	if (!is_text(container->reason, sizeof(container->reason)))
		return error_set(err, EBADMSG, "reason is no text");
	return 0;
}

static int check_guest(const struct guest_status *guest, struct error *err)
{
	if (guest->phase > GUEST_PHASE_ENDED)
		return error_set(err, EBADMSG, "guest phase %d", (int)guest->phase);
	if (guest->container_count > GUEST_CONTAINERS_MAX)
		return error_set(err, EBADMSG, "%u containers", guest->container_count);
	if (!is_text(guest->failure, sizeof(guest->failure)))
		return error_set(err, EBADMSG, "failure is no text");
	for (uint32_t i = 0; i < GUEST_CONTAINERS_MAX; i++)
		if (check_container(&guest->containers[i], err) < 0)
			return error_wrap(err, "container %u", i);
	return 0;
}

static int check_vmm(const struct cell_status *status, struct error *err)
{
	if (status->vmm > VMM_EXITED || status->stop_requested > 1)
		return error_set(err, EBADMSG, "VMM state %u, stop %u", status->vmm,
				 status->stop_requested);
	if (status->vmm_pid < 0 || status->vmm_exit_code < 0 ||
	    status->vmm_exit_code > EXIT_CODE_MAX)
		return error_set(err, EBADMSG, "VMM pid %d, exit code %d", status->vmm_pid,
				 status->vmm_exit_code);
	if (!is_text(status->vmm_failure, sizeof(status->vmm_failure)))
		return error_set(err, EBADMSG, "VMM failure is no text");
	if (!is_time(status->vmm_started_ms) || !is_time(status->vmm_exited_ms) ||
	    !is_time(status->guest_connected_ms) || !is_time(status->guest_running_ms) ||
	    !is_time(status->guest_silent_since_ms))
		return error_set(err, EBADMSG, "a time before 1970 or after 9999");
	if (status->vmm_exited_at.ms > BOOT_TIME_MS_MAX || status->changed_at.ms > BOOT_TIME_MS_MAX)
		return error_set(err, EBADMSG, "a time too long after the boot");
	return 0;
}

int cell_status_check(const struct cell_status *status, struct error *err)
{
	if (status->magic != CELL_STATUS_MAGIC || status->version != SHIM_PROTOCOL_VERSION)
		return error_set(err, EBADMSG, "cell status: magic 0x%x, version %u", status->magic,
				 status->version);
	if (check_vmm(status, err) < 0 || check_guest(&status->guest, err) < 0)
		return error_wrap(err, "cell status");
	return 0;
}

const char *vmm_state_name(uint32_t state)
{
	static const char *const names[] = {"NOT_STARTED", "RUNNING", "EXITED"};

	return state < ARRAY_LENGTH(names) ? names[state] : "UNKNOWN";
}
