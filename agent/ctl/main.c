// SPDX-License-Identifier: Apache-2.0
// penstockctl: the agent's API for people and scripts.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static const struct verb *const verbs[] = {
	&verb_apply,  &verb_delete, &verb_run,    &verb_ps,       &verb_describe, &verb_logs,
	&verb_wait,   &verb_stop,   &verb_prune,  &verb_timeline, &verb_events,   &verb_vpc,
	&verb_subnet, &verb_sg,     &verb_lb,     &verb_tg,       &verb_fs,       &verb_eni,
	&verb_drops,  &verb_host,   &verb_doctor, &verb_fsck,     &verb_adopt,    &verb_shutdown,
};

static const char about[] =
	"penstockctl drives penstockd, the data plane of one host, over its Unix socket.\n"
	"\n"
	"usage: penstockctl [--socket PATH] [-o table|json] VERB [ARGUMENTS]\n"
	"       penstockctl VERB --help (or: penstockctl help VERB)\n";

// clang-format off
static const char epilogue[] =
	"\n"
	"Options (also behind the verb):\n"
	"  --socket PATH     the agent's socket; default $PENSTOCK_SOCKET or " CTL_DEFAULT_SOCKET "\n"
	"  -o table|json     for people (default) or for programs\n"
	"  --version, --help\n"
	"\n"
	"With -o json standard output is the result alone. What the agent refuses stands on\n"
	"standard error as {\"code\", \"message\", \"details\"}, an object per line; wrong usage is\n"
	"told as text.\n"
	"\n"
	"Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no agent answers,\n"
	"            4 not found, 5 the awaited state did not come in time.\n"
	"\n"
	"First steps:\n"
	"  penstockctl doctor                      is this host fit?\n"
	"  penstockctl apply -f network.json       a VPC, subnets, security groups ...\n"
	"  penstockctl run web-1 -f task.json      a task, waiting until it is RUNNING\n"
	"  penstockctl ps                          what runs, where, since when\n"
	"  penstockctl logs -f web-1 web           what its container \"web\" says\n"
	"  penstockctl stop web-1 --wait           drained first, then stopped\n";
// clang-format on

static void help(void)
{
	fputs(about, stdout);
	fputs("\nVerbs:\n", stdout);
	for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++)
		printf("  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
	fputs(epilogue, stdout);
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(verbs); i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

static int verb_run_named(const struct globals *globals, int argc, char **argv)
{
	const struct verb *verb = verb_find(argv[0]);

	if (!verb)
		return usage_error(NULL, "unknown verb ", argv[0]);
	if (!globals->help)
		return verb->run(&globals->ctl, argc, argv);
	verb_help(verb);
	return EXIT_DONE;
}

static int run(struct globals *globals, int argc, char **argv)
{
	if (argc > 0 && strcmp(argv[0], "help") == 0) {
		globals->help = true;
		argc--;
		argv++;
	}
	if (globals->version)
		puts("penstockctl " PENSTOCK_VERSION);
	else if (argc > 0)
		return verb_run_named(globals, argc, argv);
	else if (globals->help)
		help();
	else
		return usage_error(NULL, "which verb?", "");
	return EXIT_DONE;
}

// A result that could not be written is none.
static int output_end(int result)
{
	bool failed = ferror(stdout);

	errno = 0;
	if (fflush(stdout) == 0 && !failed)
		return result;
	fprintf(stderr, "penstockctl: standard output: %s\n",
		errno ? strerror(errno) : "write error");
	return EXIT_REFUSED;
}

int main(int argc, char **argv)
{
	const char *socket_path = getenv("PENSTOCK_SOCKET");
	struct globals globals = {.ctl.socket_path =
					  socket_path && *socket_path ? socket_path : NULL};

	signal(SIGPIPE, SIG_DFL);
	argc = globals_take(&globals, argc, argv);
	globals.ctl.socket_default = !globals.ctl.socket_path;
	if (globals.ctl.socket_default)
		globals.ctl.socket_path = CTL_DEFAULT_SOCKET;
	return output_end(run(&globals, argc - 1, argv + 1));
}
