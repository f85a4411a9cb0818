// SPDX-License-Identifier: Apache-2.0
// Scope-owned resources: what a variable holds is released when it goes out of
// scope, unless it is handed over with take_fd() or take_ptr().
//
//     scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
//     scoped_free char *text = strdup(name);
//     ...
//     *ret_fd = take_fd(&fd);     // the caller owns it now
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Closes *fd unless it is negative and sets it to -1. errno is kept. close() is
// never retried: on Linux the descriptor is gone even after EINTR.
static inline void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void free_pointer(void *pointer)
{
	free(*(void **)pointer);
}

static inline void close_file(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline void close_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

static inline void *take_pointer(void *pointer)
{
	void **place = pointer;
	void *taken = *place;

	*place = NULL;
	return taken;
}

// `unused`: some things are only held, a lock for instance.
#define scoped(release)  __attribute__((cleanup(release), unused))
#define scoped_fd        scoped(close_fd)
#define scoped_free      scoped(free_pointer)
#define scoped_file      scoped(close_file)
#define scoped_directory scoped(close_directory)
#define take_ptr(place)  ((__typeof__(*(place)))take_pointer(place))

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
