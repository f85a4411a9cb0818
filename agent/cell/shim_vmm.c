// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/base/clock.h"
#include "agent/base/sandbox.h"
#include "agent/base/scope.h"
#include "agent/cell/shim.h"

enum {
	CONSOLE_CHUNK_BYTES = 16384,
	CONSOLE_LAST_CHUNKS = 65536 / CONSOLE_CHUNK_BYTES,
	QMP_CHUNK_BYTES = 4096,
	EXIT_NOT_STARTED = 127,
};

void shim_vmm_open(struct shim *shim)
{
	struct shim_vmm *vmm = &shim->vmm;

	vmm->process = PROCESS_NONE;
	for (size_t i = 0; i < ARRAY_LENGTH(vmm->attached); i++)
		vmm->attached[i] = -1;
	for (size_t i = 0; i < ARRAY_LENGTH(vmm->images); i++)
		vmm->images[i] = -1;
	vmm->console_fd = vmm->qmp_fd = -1;
	log_file_open(&vmm->console, shim->shim_fd, CELL_CONSOLE_LOG, shim->log_max_bytes);
}

// --- Attachments ---

static int *slot_of(struct shim_vmm *vmm, enum vmm_attachment attachment, unsigned index)
{
	return attachment == VMM_ATTACH_IMAGE ? &vmm->images[index] : &vmm->attached[attachment];
}

void shim_vmm_attach(struct shim *shim, const struct shim_slot *slot, int fd)
{
	int *place = slot_of(&shim->vmm, slot->attachment, slot->index);

	if (slot->attachment == VMM_ATTACH_LISTENER)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	close_fd(place);
	*place = fd;
	shim->status.attached |= shim_slot_bit(slot->attachment, slot->index);
}

// --- Starting ---

struct boot {
	int null, console_write, qmp_child; // the child's ends
	int console_read, qmp;              // ours
	struct spawn_fd fds[3 + VMM_FDS_MAX];
	size_t fd_count;
};

static void close_boot(struct boot *boot)
{
	int *fds[] = {&boot->null, &boot->console_write, &boot->qmp_child, &boot->console_read,
		      &boot->qmp};

	for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
		close_fd(fds[i]);
}

static int open_stdio(struct boot *boot, struct error *err)
{
	int console[2];

	boot->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (boot->null < 0 || pipe2(console, O_CLOEXEC) < 0)
		return error_errno(err, "open the console");
	boot->console_read = console[0];
	boot->console_write = console[1];
	if (fcntl(boot->console_read, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, "open the console");
	return 0;
}

static int open_qmp(struct boot *boot, struct error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, "open the VMM's control socket");
	boot->qmp = pair[0];
	boot->qmp_child = pair[1];
	if (fcntl(boot->qmp, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return error_errno(err, "open the VMM's control socket");
	return 0;
}

static void boot_add_fd(struct boot *boot, int from, int to)
{
	boot->fds[boot->fd_count++] = (struct spawn_fd){from, to};
}

static int choose_fds(struct shim_vmm *vmm, struct boot *boot, struct error *err)
{
	boot_add_fd(boot, boot->null, 0);
	boot_add_fd(boot, boot->console_write, 1);
	boot_add_fd(boot, boot->console_write, 2);
	for (uint32_t i = 0; i < vmm->launch->fd_count; i++) {
		const struct vmm_fd *wanted = &vmm->launch->fds[i];
		int from = wanted->attachment == VMM_ATTACH_QMP
				   ? boot->qmp_child
				   : *slot_of(vmm, wanted->attachment, wanted->index);

		if (from < 0)
			return error_set(err, EINVAL, "attachment %d.%u is missing",
					 (int)wanted->attachment, wanted->index);
		boot_add_fd(boot, from, wanted->number);
	}
	return 0;
}

// The disk is all that a VMM writes. Its descriptor alone would let one that was taken over go on
// behind the end, until the host's file system is full. In the netns driver containers run.
static int writable_bytes(const struct shim_vmm *vmm, uint64_t *ret_bytes, struct error *err)
{
	int disk = vmm->attached[VMM_ATTACH_DISK_WRITE];
	struct stat status = {0};

	if (vmm->launch->drop_identity && disk >= 0 && fstat(disk, &status) < 0)
		return error_errno(err, "the disk's size");
	*ret_bytes = (uint64_t)status.st_size;
	return 0;
}

static int spawn(struct shim *shim, const struct boot *boot, struct error *err)
{
	struct shim_vmm *vmm = &shim->vmm;
	const char *argv[VMM_ARGUMENTS_MAX + 1];
	int link = vmm->attached[VMM_ATTACH_LINK];
	struct spawn_options options = {
		.argv = argv,
		.fds = boot->fds,
		.fd_count = boot->fd_count,
		.namespaces = vmm->launch->namespaces,
		.netns_fd = vmm->launch->enter_link ? link : -1,
		.drop_identity = vmm->launch->drop_identity && geteuid() == 0 && shim->uid != 0,
		.uid = shim->uid,
		.gid = shim->gid,
		.die_with_parent = true,
		// The netns driver's program runs containers, which make any system call.
		.filter = vmm->launch->drop_identity ? sandbox_filter(SANDBOX_VMM) : NULL,
	};

	if (vmm->launch->enter_link && link < 0)
		return error_set(err, EINVAL, "the task's network namespace is not attached");
	if (vmm_launch_argv(vmm->launch, argv, err) < 0 ||
	    writable_bytes(vmm, &options.file_bytes_max, err) < 0)
		return -err->code;
	return process_spawn(&options, &vmm->process, err);
}

static int start(struct shim *shim, struct error *err)
{
	scoped(close_boot) struct boot boot = {-1, -1, -1, -1, -1, .fd_count = 0};
	struct shim_vmm *vmm = &shim->vmm;

	if (shim_guest_reset(shim, err) < 0 || open_stdio(&boot, err) < 0 ||
	    (vmm->launch->wants_qmp && open_qmp(&boot, err) < 0) ||
	    choose_fds(vmm, &boot, err) < 0 || spawn(shim, &boot, err) < 0)
		return -err->code;
	vmm->console_fd = take_fd(&boot.console_read);
	vmm->qmp_fd = take_fd(&boot.qmp);
	qmp_open(&vmm->qmp);
	vmm->boot_deadline_us =
		vmm->launch->boot_timeout_ms
			? clock_monotonic_us() + INT64_C(1000) * vmm->launch->boot_timeout_ms
			: 0;
	return 0;
}

static void report_not_started(struct shim *shim, const struct error *err)
{
	struct cell_status *status = &shim->status;

	cell_status_fail(status, "start VMM: %s", err->message);
	status->vmm = VMM_EXITED;
	status->vmm_exit_code = EXIT_NOT_STARTED;
	status->vmm_exited_ms = clock_wall_ms();
	status->vmm_exited_at = clock_boot();
	log_error(&shim->log, "%s", status->vmm_failure);
	shim_status_changed(shim, true);
}

static void boot(struct shim *shim)
{
	struct cell_status *status = &shim->status;
	struct error err = {0};

	status->boots++;
	status->vmm_started_ms = clock_wall_ms();
	if (start(shim, &err) < 0) {
		report_not_started(shim, &err);
		return;
	}
	status->vmm = VMM_RUNNING;
	status->vmm_pid = shim->vmm.process.pid;
	status->vmm_start_time = shim->vmm.process.start_time;
	log_info(&shim->log, "VMM started, pid %d", status->vmm_pid);
	shim_status_changed(shim, true);
}

void shim_vmm_launch(struct shim *shim, const struct vmm_launch *launch)
{
	struct shim_vmm *vmm = &shim->vmm;

	if (vmm->launch || vmm->forbidden)
		return;
	vmm->launch = malloc(sizeof(*launch));
	if (!vmm->launch)
		abort();
	*vmm->launch = *launch;
	boot(shim);
}

// --- Stopping ---

static void send_kill(struct shim_vmm *vmm)
{
	if (vmm->process.pidfd >= 0)
		syscall(SYS_pidfd_send_signal, vmm->process.pidfd, SIGKILL, NULL, 0);
}

void shim_vmm_kill(struct shim *shim)
{
	shim->vmm.forbidden = true;
	send_kill(&shim->vmm);
}

void shim_vmm_fail(struct shim *shim, const struct error *err)
{
	if (!shim->status.vmm_failure[0])
		cell_status_fail(&shim->status, "%s", err->message);
	log_error(&shim->log, "%s", err->message);
	shim_vmm_kill(shim);
}

void shim_vmm_stop(struct shim *shim)
{
	struct shim_vmm *vmm = &shim->vmm;

	vmm->forbidden = true;
	if (vmm->qmp_fd >= 0)
		qmp_powerdown(&vmm->qmp);
	else if (vmm->process.pidfd >= 0 && vmm->launch && vmm->launch->enter_link)
		syscall(SYS_pidfd_send_signal, vmm->process.pidfd, SIGTERM, NULL, 0);
}

void shim_vmm_guest_spoke(struct shim *shim)
{
	shim->vmm.boot_deadline_us = 0;
}

void shim_vmm_boot_timeout(struct shim *shim)
{
	struct shim_vmm *vmm = &shim->vmm;

	vmm->boot_deadline_us = 0;
	vmm->boot_again = shim->status.boots < SHIM_BOOTS_MAX && !shim->confined;
	log_warning(&shim->log, "the guest did not speak within %u ms of boot %u",
		    vmm->launch->boot_timeout_ms, shim->status.boots);
	if (!vmm->boot_again)
		cell_status_fail(&shim->status, "the guest did not speak within %u ms, in %u boots",
				 vmm->launch->boot_timeout_ms, shim->status.boots);
	send_kill(vmm);
}

static void release_process(struct shim *shim)
{
	struct shim_vmm *vmm = &shim->vmm;

	for (int i = 0; i < CONSOLE_LAST_CHUNKS; i++) // what the pipe still holds, at most
		shim_vmm_handle_console(shim, POLLIN);
	close_fd(&vmm->console_fd);
	close_fd(&vmm->qmp_fd);
	qmp_close(&vmm->qmp);
	process_close(&vmm->process);
	vmm->boot_deadline_us = 0;
	shim->guest.silence_due_us = 0; // it has ended
	shim_guest_drop_all(shim);
}

void shim_vmm_handle_exit(struct shim *shim, short revents)
{
	struct shim_vmm *vmm = &shim->vmm;
	struct cell_status *status = &shim->status;
	siginfo_t info = {0};

	(void)revents;
	if (waitid(P_PIDFD, (id_t)vmm->process.pidfd, &info, WEXITED | WNOHANG) < 0 ||
	    info.si_pid == 0)
		return;
	release_process(shim);
	if (vmm->boot_again && !vmm->forbidden) {
		vmm->boot_again = false;
		boot(shim);
		return;
	}
	status->vmm = VMM_EXITED;
	status->vmm_exit_code =
		info.si_code == CLD_EXITED ? info.si_status & 0xff : 128 + info.si_status;
	status->vmm_exited_ms = clock_wall_ms();
	status->vmm_exited_at = clock_boot();
	if (status->vmm_exit_code == 128 + SIGSYS)
		cell_status_fail(status,
				 "the VMM was ended for a system call that its filter forbids");
	log_info(&shim->log, "VMM ended with %d", status->vmm_exit_code);
	shim_status_changed(shim, true);
}

// --- Console and QMP ---

void shim_vmm_handle_console(struct shim *shim, short revents)
{
	struct shim_vmm *vmm = &shim->vmm;
	char bytes[CONSOLE_CHUNK_BYTES];
	struct error ignored = {0}; // a full disk costs console output, nothing else
	ssize_t count;

	(void)revents;
	if (vmm->console_fd < 0)
		return;
	count = read(vmm->console_fd, bytes, sizeof(bytes));
	if (count > 0)
		log_file_write(&vmm->console, bytes, (size_t)count, &ignored);
	else if (count == 0 || errno != EAGAIN)
		close_fd(&vmm->console_fd);
}

bool shim_vmm_has_qmp_output(const struct shim *shim)
{
	const char *text;

	return shim->vmm.qmp_fd >= 0 && qmp_output(&shim->vmm.qmp, &text) > 0;
}

static void send_qmp(struct shim_vmm *vmm)
{
	const char *text;
	size_t pending = qmp_output(&vmm->qmp, &text);
	ssize_t sent;

	if (pending == 0)
		return;
	sent = send(vmm->qmp_fd, text, pending, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent > 0)
		qmp_sent(&vmm->qmp, (size_t)sent);
	else if (errno != EAGAIN)
		close_fd(&vmm->qmp_fd);
}

static bool receive_qmp(struct shim_vmm *vmm)
{
	char bytes[QMP_CHUNK_BYTES];
	ssize_t count = recv(vmm->qmp_fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (count < 0)
		return errno == EAGAIN;
	return count > 0 && qmp_feed(&vmm->qmp, bytes, (size_t)count);
}

void shim_vmm_handle_qmp(struct shim *shim, short revents)
{
	struct shim_vmm *vmm = &shim->vmm;

	if ((revents & (POLLIN | POLLHUP | POLLERR)) && !receive_qmp(vmm)) {
		log_warning(&shim->log, "the VMM's control socket is closed");
		close_fd(&vmm->qmp_fd);
	}
	if (vmm->qmp_fd >= 0)
		send_qmp(vmm);
}
