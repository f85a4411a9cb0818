// SPDX-License-Identifier: Apache-2.0
// The agent's /metrics, read by penstockctl: the samples of one metric after the other.
//
//     scoped(client_reply_release) struct client_reply reply = {0};
//     struct sample sample = {0};
//     if (exposition_get(ctl, &reply) == EXIT_DONE)
//             while (sample_next(&reply, "penstock_ipam_addresses", &sample))
//                     if (sample_has_label(&sample, "subnet", "a"))
//                             total += sample.value;
//
// Source of the format: Prometheus, "Exposition formats", text format 0.0.4.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/ctl/ctl.h"

struct sample {
	const char *labels; // `state="used",subnet="a"`, in the reply's body
	size_t labels_length;
	double value;
	const char *next; // where the search goes on
};

// The exit code. The caller releases the reply.
int exposition_get(const struct ctl *ctl, struct client_reply *ret_reply);

// The next sample of the metric, from `sample->next` (NULL: from the beginning). False: no more.
bool sample_next(const struct client_reply *reply, const char *name, struct sample *sample);

// Whether a label has this value. Values that need an escape (no id does) are never equal.
bool sample_has_label(const struct sample *sample, const char *label, const char *value);

// Copies the label's value, "" when the sample has no such label.
void sample_label(const struct sample *sample, const char *label, char *ret_value, size_t size);
