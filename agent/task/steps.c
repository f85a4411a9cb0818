// SPDX-License-Identifier: Apache-2.0
// The way of a task: one table of reversible steps, and what is told of each of them.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/scope.h"
#include "agent/task/internal.h"

#define ENI_LATE "Timeout waiting for network interface provisioning to complete."

const struct walk_step task_steps[TASK_STEP_COUNT] = {
	[STEP_IMAGE] = {"image", image_apply, image_undo, 120000,
			"CannotPullContainerError: unpacking the images took too long", 0},
	[STEP_CELL] = {"cell", cell_apply, cell_undo, 10000, NULL, 30000},
	[STEP_DISK] = {"disk", disk_apply, disk_undo, 60000,
		       "ResourceInitializationError: ephemeral disk: took too long", 30000},
	[STEP_ENI] = {"eni", eni_apply, eni_undo, 10000, ENI_LATE, 30000},
	// A batch is sent in the turn that made it; only who runs already waits for its VPC.
	[STEP_POLICY] = {"policy", policy_apply, policy_undo, 0, NULL, 30000},
	[STEP_LINK] = {"link", link_apply, link_undo, 10000, ENI_LATE, 30000},
	[STEP_VOLUMES] = {"volumes", volumes_apply, volumes_undo, 10000, NULL, 30000},
	[STEP_VMM] = {"vmm", vmm_apply, vmm_undo, 30000,
		      "ResourceInitializationError: the guest did not start", 30000},
	// These have deadlines of their own: startTimeout, stopTimeout, the drain.
	[STEP_GUEST] = {"guest", guest_apply, guest_undo, 0, NULL, 0},
	[STEP_TARGETS] = {"targets", targets_apply, targets_undo, 10000, NULL, 0},
};

static void observe_phase(struct task *task, enum metric_id metric, int64_t since_us, size_t step)
{
	metrics_observe(task->engine->metrics, metric,
			(double)(clock_monotonic_us() - since_us) / 1e6,
			(const char *[]){task_steps[step].name});
}

// What an adopted task did before stays as it was.
static void step_applied(struct task *task, size_t step, const struct walk_time *time)
{
	struct task_progress *progress = &task->status.progress[step];
	int64_t started_us = clock_monotonic_us() - task->created_us - time->duration_us;

	if (progress->applied)
		return;
	*progress = (struct task_progress){
		.applied = true,
		.started_us = started_us > 0 ? (uint64_t)started_us : 0,
		.duration_us = (uint64_t)time->duration_us,
		.own_us = (uint64_t)time->own_us,
	};
	observe_phase(task, METRIC_TASK_START_DURATION_SECONDS, task->created_us, step);
}

static void step_undone(struct task *task, size_t step)
{
	task->status.progress[step].applied = false;
	if (task->stop_us)
		observe_phase(task, METRIC_TASK_STOP_DURATION_SECONDS, task->stop_us, step);
}

static void start_failed(struct task *task, size_t step, const struct error *err)
{
	const struct log_context context = {task->id, task->status.network.eni_id};

	log_warning(&context, "step %s: %s", task_steps[step].name, err->message);
	if (task->walk.direction == WALK_UP)
		return; // it gets another chance
	task_stop(task, STOP_CODE_TASK_FAILED_TO_START, err->message);
}

static void undo_failed(struct task *task, size_t step, const struct error *err)
{
	const struct log_context context = {task->id, task->status.network.eni_id};

	task->status.retries++;
	snprintf(task->status.undo_error, sizeof(task->status.undo_error), "%s: %.960s",
		 task_steps[step].name, err->message);
	metrics_add(task->engine->metrics, METRIC_RECONCILE_ERRORS, 1,
		    (const char *[]){task_steps[step].name});
	log_warning(&context, "undo of %s, tried again: %s", task_steps[step].name, err->message);
}

static void step_succeeded(struct task *task, size_t step, enum walk_direction direction,
			   const struct walk_time *time)
{
	const char *labels[] = {task_steps[step].name, direction == WALK_UP ? "apply" : "undo"};

	task->status.undo_error[0] = '\0';
	metrics_observe(task->engine->metrics, METRIC_STEP_DURATION_SECONDS,
			(double)time->own_us / 1e6, labels);
	if (direction == WALK_UP)
		step_applied(task, step, time);
	else
		step_undone(task, step);
}

static void on_stepped(void *object, size_t step, enum walk_direction direction,
		       const struct walk_time *time, int result, const struct error *err)
{
	struct task *task = object;
	// A step that was applied before and is only looked at again changes nothing of the record:
	// a repair of many tasks' network must not push other changes out of the history.
	bool looked_at = result == 0 && direction == WALK_UP &&
			 task->status.progress[step].applied && !task->status.undo_error[0];

	if (!looked_at)
		task_changed(task);
	if (result == 0)
		step_succeeded(task, step, direction, time);
	else if (direction == WALK_UP)
		start_failed(task, step, err);
	else
		undo_failed(task, step, err);
}

// --- Faults on demand, for the tests of the crash rule ---

// PENSTOCK_FAULT="<step>:<apply|undo>:<fail|kill|spin>": the step does its work, then fails, or
// the agent dies before anything of it is recorded, or its loop never comes round again.
int fault_plan_read(struct fault_plan *ret_plan, struct error *err)
{
	const char *text = getenv("PENSTOCK_FAULT");
	char step[16], direction[16], how[16];
	struct fault_plan plan = {.step = -1};

	*ret_plan = plan;
	if (!text)
		return 0;
	if (sscanf(text, "%15[a-z]:%15[a-z]:%15[a-z]", step, direction, how) == 3)
		for (int i = 0; i < TASK_STEP_COUNT; i++)
			if (strcmp(task_steps[i].name, step) == 0)
				plan.step = i;
	if (plan.step < 0)
		return error_set(err, EINVAL,
				 "PENSTOCK_FAULT=%s: expected STEP:apply|undo:fail|kill|spin",
				 text);
	plan.direction = strcmp(direction, "undo") == 0 ? WALK_DOWN : WALK_UP;
	plan.die = strcmp(how, "kill") == 0;
	plan.spin = strcmp(how, "spin") == 0;
	*ret_plan = plan;
	return 0;
}

static int judge(void *object, size_t step, enum walk_direction direction, struct error *err)
{
	struct task *task = object;
	struct fault_plan *plan = &task->engine->fault;

	if (plan->step != (int)step || plan->direction != direction)
		return 0;
	if (plan->die)
		kill(getpid(), SIGKILL);
	while (plan->spin)
		;
	if (direction == WALK_DOWN)
		plan->step = -1; // an undo fails once, then its retry succeeds
	return error_set(err, EIO, "ResourceInitializationError: fault injected at %s",
			 task_steps[step].name);
}

const struct walk_observer task_observer = {.stepped = on_stepped, .judge = judge};
