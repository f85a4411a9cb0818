// SPDX-License-Identifier: Apache-2.0
// Small files and directories. Calls block on the local disk.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/base/error.h"

// Reads all of `path` (relative to `directory_fd`, or AT_FDCWD) into memory the
// caller frees, NUL-terminated. -EFBIG when it is larger than `max_bytes`. A FIFO is no trap: it
// is read as empty.
int file_read(int directory_fd, const char *path, size_t max_bytes, char **ret_text,
	      size_t *ret_length, struct error *err);

// The same of an open file; `path` is for messages.
int file_read_fd(int fd, const char *path, size_t max_bytes, char **ret_text, size_t *ret_length,
		 struct error *err);

// Replaces `path`: temporary file beside it, rename. At any time either the old or the new content
// is there, whole; after the end of the host too if it is durable (fsync of file and directory).
struct file_replacement {
	mode_t mode;
	gid_t gid; // (gid_t)-1: as it comes
	bool durable;
};

int file_replace(int directory_fd, const char *path, const void *bytes, size_t length,
		 const struct file_replacement *how, struct error *err);
// The same for a value that is replaced again and again: it is written over the value before last,
// in <path>.spare, and takes the place of the last one. From the third time on a value that did not
// grow needs no room on the disk.
int file_swap(int directory_fd, const char *path, const void *bytes, size_t length, bool durable,
	      struct error *err);
// Durable, as it comes.
int file_write_atomic(int directory_fd, const char *path, const void *bytes, size_t length,
		      mode_t mode, struct error *err);

// Writes a short text to an existing kernel file (cgroup, sysctl, proc) in one write.
int file_write_kernel(int directory_fd, const char *path, const char *text, struct error *err);

// Creates `path` and its missing parents (mode 0755 for parents, `mode` for the last).
// An existing directory is fine.
int directory_make(const char *path, mode_t mode, struct error *err);

// Removes `path` and everything below it, however deep, without following symbolic links or
// crossing a mount point (-EBUSY). A missing path is success. Unlinking a large file may take
// seconds: in penstockd call it from a janitor process only.
int directory_remove(int directory_fd, const char *path, struct error *err);
// The same with what is below `path`; the directory stays.
int directory_clear(const char *path, struct error *err);
