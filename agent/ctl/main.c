// SPDX-License-Identifier: Apache-2.0
// penstockctl: the agent's API for people and scripts.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"

static const struct verb *const verbs[] = {
	&verb_apply, &verb_delete,   &verb_run,    &verb_ps,       &verb_describe, &verb_logs,
	&verb_stop,  &verb_timeline, &verb_events, &verb_sg,       &verb_lb,       &verb_eni,
	&verb_host,  &verb_doctor,   &verb_fsck,   &verb_shutdown,
};

static const char about[] =
	"penstockctl drives penstockd, the data plane of one host, over its Unix socket.\n"
	"\n"
	"usage: penstockctl [--socket PATH] [-o table|json] VERB [ARGUMENTS]\n"
	"       penstockctl VERB --help (or: penstockctl help VERB)\n";

static const char epilogue[] =
	"\n"
	"Options (also behind the verb):\n"
	"  --socket PATH     the agent's socket; default $PENSTOCK_SOCKET or " CTL_DEFAULT_SOCKET
	"\n"
	"  -o table|json     for people (default) or for programs\n"
	"  --version, --help\n"
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

static int bad_usage(const char *message, const char *what)
{
	fprintf(stderr, "penstockctl: %s%s\n\n%s\nMore: penstockctl --help\n", message, what,
		about);
	return EXIT_USAGE;
}

struct globals {
	struct ctl ctl;
	bool help, version;
};

// Takes the global options out of argv, wherever they stand before "--". Returns the new argc, or
// -1 after saying what is wrong.
static int globals_take(struct globals *globals, int argc, char **argv)
{
	const char *format = NULL;
	const struct {
		const char *name;
		const char **text;
		bool *flag;
	} options[] = {
		{"--socket", &globals->ctl.socket_path, NULL},
		{"-o", &format, NULL},
		{"--help", NULL, &globals->help},
		{"-h", NULL, &globals->help},
		{"--version", NULL, &globals->version},
	};
	int kept = 1;

	for (int i = 1; i < argc; i++) {
		size_t found = 0;

		while (found < ARRAY_LENGTH(options) && strcmp(options[found].name, argv[i]) != 0)
			found++;
		if (found == ARRAY_LENGTH(options))
			argv[kept++] = argv[i];
		else if (options[found].flag)
			*options[found].flag = true;
		else if (i + 1 == argc) {
			bad_usage("a value is missing behind ", argv[i]);
			return -1;
		} else
			*options[found].text = argv[++i];
	}
	if (format && strcmp(format, "json") != 0 && strcmp(format, "table") != 0) {
		bad_usage("-o takes table or json, not ", format);
		return -1;
	}
	globals->ctl.json = format && strcmp(format, "json") == 0;
	return kept;
}

int main(int argc, char **argv)
{
	const char *environment = getenv("PENSTOCK_SOCKET");
	struct globals globals = {.ctl.socket_path =
					  environment ? environment : CTL_DEFAULT_SOCKET};
	const struct verb *verb;

	signal(SIGPIPE, SIG_DFL);
	argc = globals_take(&globals, argc, argv);
	if (argc < 0)
		return EXIT_USAGE;
	if (globals.version) {
		puts("penstockctl " PENSTOCK_VERSION);
		return EXIT_DONE;
	}
	if (argc < 2) {
		if (!globals.help)
			return bad_usage("which verb?", "");
		help();
		return EXIT_DONE;
	}
	if (strcmp(argv[1], "help") == 0) {
		globals.help = true;
		argc--;
		argv++;
	}
	if (argc < 2) {
		help();
		return EXIT_DONE;
	}
	verb = verb_find(argv[1]);
	if (!verb)
		return bad_usage("unknown verb ", argv[1]);
	if (globals.help) {
		verb_help(verb);
		return EXIT_DONE;
	}
	return verb->run(&globals.ctl, argc - 1, argv + 1);
}
