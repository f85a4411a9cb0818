// SPDX-License-Identifier: Apache-2.0
// What the files of `penstockctl doctor` share: doctor.c looks at the host, doctor_agent.c asks the
// agent.
#pragma once

#include "agent/base/error.h"
#include "agent/ctl/ctl.h"
#include "agent/model/config.h"

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

struct finding {
	enum verdict verdict;
	char text[320], advice[320];
};

struct host {
	const struct ctl *ctl;
	struct config config;
	struct error config_error;
	int config_result;
};

// The finding's verdict and its text; how to put it right.
__attribute__((format(printf, 3, 4))) void
finding_say(struct finding *finding, enum verdict verdict, const char *format, ...);
__attribute__((format(printf, 2, 3))) void finding_advise(struct finding *finding,
							  const char *format, ...);

// Each makes one finding.
void doctor_check_agent(const struct host *host, struct finding *finding);
void doctor_check_objects(const struct host *host, struct finding *finding);
void doctor_check_neighbours(const struct host *host, struct finding *finding);
void doctor_check_guests(const struct host *host, struct finding *finding);
void doctor_check_targets(const struct host *host, struct finding *finding);
