// SPDX-License-Identifier: Apache-2.0
// The step `image`: the container images are opened and kept open until the VMM has them; the netns
// driver wants them unpacked too.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "agent/base/clock.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

void images_close(struct task *task)
{
	for (unsigned i = 0; i < task->image_count; i++)
		image_close(&task->images[i].image);
	free(task->images);
	task->images = NULL;
	task->image_count = 0;
}

static int find_image(const struct task *task, const struct image *image)
{
	for (unsigned i = 0; i < task->image_count; i++)
		if (strcmp(task->images[i].image.identity, image->identity) == 0)
			return (int)i;
	return -1;
}

static int read_config(struct task *task, struct task_image *image, struct error *err)
{
	image_config_default(&image->config);
	if (!image->image.config)
		return 0;
	return image_config_parse(image->image.config, image->image.config_length, &task->arena,
				  &image->config, err);
}

static int pin_image(struct task *task, uint32_t container, struct error *err)
{
	const char *reference = task->spec->containers[container].image;
	struct image image = IMAGE_NONE;
	struct task_image *place;
	int known;

	if (image_open(task->engine->config->image_directory, reference, &image, err) < 0)
		return error_wrap(err, "CannotPullContainerError");
	task->status.containers[container].image_id = arena_strdup(&task->arena, image.identity);
	known = find_image(task, &image);
	if (known >= 0) {
		image_close(&image);
		task->image_of[container] = (unsigned)known;
		return 0;
	}
	place = &task->images[task->image_count];
	*place = (struct task_image){.image = image};
	task->image_of[container] = task->image_count++;
	if (read_config(task, place, err) < 0)
		return error_wrap(err, "CannotPullContainerError: image %s", reference);
	return 0;
}

static int pin_images(struct task *task, struct error *err)
{
	if (task->images)
		return 0;
	task->images = calloc(VMM_IMAGES_MAX, sizeof(*task->images));
	if (!task->images)
		return error_set(err, ENOMEM, "CannotPullContainerError: out of memory");
	for (uint32_t i = 0; i < task->spec->container_count; i++) {
		if (pin_image(task, i, err) < 0) {
			images_close(task); // all or none: the next call begins anew
			return -err->code;
		}
	}
	return 0;
}

// Held until it is closed: tasks that start together unpack an image once.
static int lock_unpacking(const char *state, struct error *err)
{
	char path[PATH_MAX];
	scoped_fd int fd = -1;

	snprintf(path, sizeof(path), "%.*s/unpack.lock", PATH_MAX - 16, state);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return error_errno(err, "lock %s", path);
	return take_fd(&fd);
}

// In a janitor: "<state> <identity>", the image as descriptor 3.
static int unpack_work(const char *argument, struct error *err)
{
	char state[PATH_MAX], identity[IMAGE_IDENTITY_SIZE], path[PATH_MAX];
	struct image_unpack unpack;
	const char *space = strrchr(argument, ' ');
	bool ready;

	if (!space)
		return error_set(err, EINVAL, "unpack: bad argument");
	snprintf(state, sizeof(state), "%.*s", (int)(space - argument), argument);
	snprintf(identity, sizeof(identity), "%s", space + 1);

	scoped_fd int lock = lock_unpacking(state, err);

	if (lock < 0 || image_unpacked(state, identity, path, &ready, err) < 0)
		return -err->code;
	if (ready)
		return 0;
	if (image_unpack_prepare(state, identity, 3, &unpack, err) < 0 ||
	    process_run_with(unpack.argv, 3, err) < 0)
		return -err->code;
	return image_unpack_commit(state, identity, err);
}

static int unpack_images(struct task *task, struct error *err)
{
	const char *state = task->engine->config->state_directory;
	char argument[JANITOR_ARGUMENT_MAX], path[PATH_MAX];
	bool ready;

	for (unsigned i = 0; i < task->image_count; i++) {
		struct image *image = &task->images[i].image;
		int result;

		if (image_unpacked(state, image->identity, path, &ready, err) < 0)
			return error_wrap(err, "CannotPullContainerError");
		snprintf(task->images[i].directory, sizeof(task->images[i].directory), "%s", path);
		if (ready)
			continue;
		snprintf(argument, sizeof(argument), "%s %s", state, image->identity);
		result = task_wait_for_janitor(task, argument, image->fd, unpack_work, err);
		return result < 0 ? error_wrap(err, "CannotPullContainerError") : result;
	}
	return 0;
}

int image_apply(void *object, struct error *err)
{
	struct task *task = object;
	int result;

	if (task->launched)
		return 0; // the VMM has them
	if (task->status.pull_started_ms == 0) {
		task->status.pull_started_ms = clock_wall_ms();
		task->status.boot_times.pull_started = clock_boot();
		task_changed(task);
	}
	result = pin_images(task, err);
	if (result == 0 && task->vmm->images == VMM_IMAGES_DIRECTORIES)
		result = unpack_images(task, err);
	if (result == 0)
		task->status.pull_stopped_ms = clock_wall_ms();
	return result;
}

int image_undo(void *object, struct error *err)
{
	images_close(object);
	return meter_task(object, err);
}
