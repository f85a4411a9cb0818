// SPDX-License-Identifier: Apache-2.0
// Structured log lines, to journald where it runs, else to stderr as
// `time level task=... eni=... message`.
//
//     log_info(&(struct log_context){.task = id, .eni = eni}, "running after %lld ms", ms);
//     log_warning(NULL, "host: %s", err.message);
//
// Never blocks for long: a line the journal does not take goes to stderr.
#pragma once

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

struct log_context {
	const char *task; // task id or NULL
	const char *eni;  // ENI id or NULL
};

// Names the process in every line and chooses the destination. `journal` asks
// for journald; without a journal socket it is stderr all the same.
void log_open(const char *process, enum log_level lowest, int journal);

__attribute__((format(printf, 3, 4))) void
log_write(enum log_level level, const struct log_context *context, const char *format, ...);

#define log_debug(context, ...)   log_write(LOG_LEVEL_DEBUG, context, __VA_ARGS__)
#define log_info(context, ...)    log_write(LOG_LEVEL_INFO, context, __VA_ARGS__)
#define log_warning(context, ...) log_write(LOG_LEVEL_WARNING, context, __VA_ARGS__)
#define log_error(context, ...)   log_write(LOG_LEVEL_ERROR, context, __VA_ARGS__)
