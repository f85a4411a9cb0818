// SPDX-License-Identifier: Apache-2.0
// doctor: is this host fit to run tasks? Looks only, changes nothing.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/magic.h>

#include "agent/base/scope.h"
#include "agent/ctl/ctl.h"
#include "agent/model/config.h"
#include "agent/model/model.h"

enum { AGENT_TIMEOUT_SECONDS = 5 };

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

__attribute__((format(printf, 3, 4))) static void say(struct finding *finding, enum verdict verdict,
						      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->text, sizeof(finding->text), format, args);
	va_end(args);
	finding->verdict = verdict;
}

__attribute__((format(printf, 2, 3))) static void advise(struct finding *finding,
							 const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->advice, sizeof(finding->advice), format, args);
	va_end(args);
}

static void check_privilege(const struct host *host, struct finding *finding)
{
	(void)host;
	say(finding, geteuid() == 0 ? VERDICT_OK : VERDICT_WARN, "running as uid %u",
	    (unsigned)geteuid());
	if (geteuid() != 0)
		advise(finding, "some checks need root to be right: sudo penstockctl doctor");
}

static void check_config(const struct host *host, struct finding *finding)
{
	if (host->config_result == 0)
		say(finding, VERDICT_OK, "configuration read, install \"%s\"",
		    host->config.install);
	else if (host->config_result == -ENOENT)
		say(finding, VERDICT_OK, "no configuration file: the defaults, install \"%s\"",
		    host->config.install);
	else
		say(finding, VERDICT_FAIL, "%s", host->config_error.message);
}

static void check_tun(const struct host *host, struct finding *finding)
{
	scoped_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		say(finding, VERDICT_OK, "/dev/net/tun opens");
		return;
	}
	say(finding, strcmp(host->config.driver, "netns") == 0 ? VERDICT_WARN : VERDICT_FAIL,
	    "/dev/net/tun: %s", strerror(errno));
	advise(finding, "modprobe tun, and let the agent open the device");
}

// What counts is that KVM answers; whether guests run fast enough only a guest can show.
static void check_kvm(const struct host *host, struct finding *finding)
{
	scoped_fd int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version = fd >= 0 ? ioctl(fd, KVM_GET_API_VERSION, 0) : -1;
	bool wanted = strcmp(host->config.accel, "kvm") == 0;

	if (version == KVM_API_VERSION) {
		say(finding, VERDICT_OK, "/dev/kvm answers; %saccel = %s%s",
		    wanted ? "" : "not used: ", host->config.accel,
		    strcmp(host->config.accel, "auto") == 0 ? " means tcg, accel = kvm asks for it"
							    : "");
		return;
	}
	say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN, "/dev/kvm: %s",
	    fd < 0 ? strerror(errno) : "speaks another version of its API");
	advise(finding, "guests are emulated (accel = tcg): a boot takes some 2 s of CPU, and they "
			"run slowly");
}

static void check_nftables(const struct host *host, struct finding *finding)
{
	scoped_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	(void)host;
	if (fd >= 0 && access("/proc/net/nf_conntrack", F_OK) == 0) {
		say(finding, VERDICT_OK, "netfilter and connection tracking are there");
		return;
	}
	if (fd >= 0) {
		// Without the proc file it may still be there (CONFIG_NF_CONNTRACK_PROCFS=n).
		bool tracks = access("/proc/sys/net/netfilter/nf_conntrack_max", F_OK) == 0;

		say(finding, tracks ? VERDICT_OK : VERDICT_WARN, "netfilter is there%s",
		    tracks ? ", with connection tracking"
			   : "; connection tracking is not loaded yet");
		return;
	}
	say(finding, VERDICT_FAIL, "netfilter: %s", strerror(errno));
	advise(finding, "the kernel needs nf_tables and nf_conntrack");
}

static void check_cgroups(const struct host *host, struct finding *finding)
{
	struct statfs status;

	(void)host;
	if (statfs("/sys/fs/cgroup", &status) < 0) {
		say(finding, VERDICT_FAIL, "/sys/fs/cgroup: %s", strerror(errno));
		advise(finding, "mount cgroup2 on /sys/fs/cgroup");
	} else if (status.f_type == CGROUP2_SUPER_MAGIC) {
		say(finding, VERDICT_OK, "cgroup v2");
	} else if (access("/sys/fs/cgroup/cpu", F_OK) == 0 &&
		   access("/sys/fs/cgroup/memory", F_OK) == 0) {
		say(finding, VERDICT_OK, "cgroup v1 hierarchies (v2 is preferred)");
	} else {
		say(finding, VERDICT_WARN, "no cgroup tree with cpu and memory");
		advise(finding, "CPU and memory limits of tasks would not be enforced");
	}
}

// "inside outside count" per line: whether first to last have a meaning here.
static bool ids_are_mapped(const char *map, uint32_t first, uint32_t last)
{
	scoped_file FILE *file = fopen(map, "re");
	unsigned long long inside, count;
	bool mapped = false;

	while (file && !mapped && fscanf(file, "%llu %*u %llu", &inside, &count) == 2)
		mapped = inside <= first && last < inside + count;
	return mapped;
}

// Root of a user namespace may have no other uids to give away. Health checks run as the one
// behind those of the tasks.
static void check_uids(const struct host *host, struct finding *finding)
{
	uint32_t first = host->config.uid_first, last = first + host->config.uid_count;
	bool wanted = strcmp(host->config.driver, "netns") != 0;

	if (ids_are_mapped("/proc/self/uid_map", first, last) &&
	    ids_are_mapped("/proc/self/gid_map", first, last)) {
		say(finding, VERDICT_OK, "%u to %u, one for each task", first, last);
		return;
	}
	say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN,
	    "%u to %u are not all mapped in this user namespace", first, last);
	advise(finding,
	       wanted ? "map them, or run as real root: a VMM has no uid to run as"
		      : "map them, or run as real root: health checks have no uid to run as");
}

static void check_program(struct finding *finding, const char *program, bool wanted,
			  const char *package)
{
	if (access(program, X_OK) == 0) {
		say(finding, VERDICT_OK, "%s", program);
		return;
	}
	say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN, "%s: %s", program, strerror(errno));
	advise(finding, "apt-get install %s", package);
}

static void check_qemu(const struct host *host, struct finding *finding)
{
	check_program(finding, "/usr/bin/qemu-system-x86_64",
		      strcmp(host->config.driver, "qemu") == 0, "qemu-system-x86");
}

static void check_mkfs(const struct host *host, struct finding *finding)
{
	(void)host;
	check_program(finding, "/sbin/mkfs.ext4", true, "e2fsprogs");
}

// Guests mount images themselves.
static void check_unsquashfs(const struct host *host, struct finding *finding)
{
	check_program(finding, "/usr/bin/unsquashfs", strcmp(host->config.driver, "netns") == 0,
		      "squashfs-tools");
}

static void check_files(struct finding *finding, const char *directory, const char *const *files,
			int mode, bool wanted, const char *advice)
{
	say(finding, VERDICT_OK, "%s is complete", directory);
	for (size_t i = 0; files[i]; i++) {
		char path[CONFIG_PATH_MAX + 32];

		snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
		if (access(path, mode) == 0)
			continue;
		say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN, "%s: %s", path, strerror(errno));
		advise(finding, "%s", advice);
		return;
	}
}

static void check_guest(const struct host *host, struct finding *finding)
{
	static const char *const files[] = {"vmlinux", "initramfs.cpio", NULL};

	check_files(finding, host->config.guest_directory, files, R_OK,
		    strcmp(host->config.driver, "qemu") == 0,
		    "build the guest's kernel and initramfs, or set guest_directory");
}

static void check_programs(const struct host *host, struct finding *finding)
{
	static const char *const files[] = {"penstock-shim", "penstock-probe", "penstock-init",
					    NULL};

	check_files(finding, host->config.program_directory, files, X_OK, true,
		    "install penstock, or set program_directory");
}

static int is_image(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && strcmp(dot, ".squashfs") == 0;
}

static void check_images(const struct host *host, struct finding *finding)
{
	const char *directory = host->config.image_directory;
	struct dirent **images = NULL;
	int count = scandir(directory, &images, is_image, NULL);

	for (int i = 0; i < count; i++)
		free(images[i]);
	free(images);
	if (count < 0)
		say(finding, VERDICT_WARN, "%s: %s", directory, strerror(errno));
	else
		say(finding, count ? VERDICT_OK : VERDICT_WARN, "%s has %d images", directory,
		    count);
	if (count <= 0)
		advise(finding, "put container images there: <name>.squashfs");
}

static void check_state(const struct host *host, struct finding *finding)
{
	struct statfs status;
	double free_gib;

	if (statfs(host->config.state_directory, &status) < 0) {
		say(finding, errno == ENOENT ? VERDICT_WARN : VERDICT_FAIL, "%s: %s",
		    host->config.state_directory, strerror(errno));
		advise(finding, "the agent makes it when it starts");
		return;
	}
	free_gib = (double)status.f_bavail * (double)status.f_bsize / (1024.0 * 1024 * 1024);
	say(finding, free_gib < 21 ? VERDICT_WARN : VERDICT_OK, "%s has %.1f GiB free",
	    host->config.state_directory, free_gib);
	if (free_gib < 21)
		advise(finding, "one task's ephemeral disk alone is 20 GiB");
}

static void check_group(const char *name, const char *key, struct finding *finding)
{
	if (!name[0])
		say(finding, VERDICT_OK, "%s is not set: nobody but root", key);
	else if (getgrnam(name))
		say(finding, VERDICT_OK, "%s = %s", key, name);
	else {
		say(finding, VERDICT_FAIL, "%s = %s: there is no such group", key, name);
		advise(finding, "groupadd --system %s", name);
	}
}

static void check_writer_group(const struct host *host, struct finding *finding)
{
	check_group(host->config.writer_group, "writer_group", finding);
}

static void check_reader_group(const struct host *host, struct finding *finding)
{
	check_group(host->config.reader_group, "reader_group", finding);
}

static const char *socket_of(const struct host *host)
{
	return host->ctl->socket_default ? host->config.socket : host->ctl->socket_path;
}

static int ask(const struct host *host, const char *path, struct client_reply *ret_reply)
{
	const struct client_request request = {
		.socket_path = socket_of(host),
		.method = "GET",
		.path = path,
		.timeout_seconds = AGENT_TIMEOUT_SECONDS,
	};

	return client_perform(&request, ret_reply);
}

static void say_refusal(struct finding *finding, const char *what, const struct client_reply *reply)
{
	scoped(document_release) cJSON *error = cJSON_Parse(buffer_text(&reply->body));
	const char *message = member_text(error, "message");

	say(finding, VERDICT_WARN, "%s: %s (%d)", what,
	    strcmp(message, "-") ? message : reply->reason, reply->status);
}

static void check_agent(const struct host *host, struct finding *finding)
{
	scoped(client_reply_release) struct client_reply reply = {0};

	if (ask(host, "/readyz", &reply) < 0) {
		say(finding, VERDICT_WARN, "no agent: %s", reply.err.message);
		advise(finding, reply.err.code == EACCES
					? "only root and the configured groups may use the socket"
					: "start penstockd, or say where it is: --socket PATH");
	} else if (reply.status != 200) {
		say_refusal(finding,
			    reply.status == 503 ? "the agent is not ready" : "the agent refuses",
			    &reply);
	} else {
		say(finding, VERDICT_OK, "the agent answers on %s and is ready", socket_of(host));
	}
}

// Adds the objects of a kind to both counts; the first that is not effective is told. False after
// saying why they are not known.
static bool count_objects(const struct host *host, enum model_kind kind, unsigned *total,
			  unsigned *ineffective, struct finding *finding)
{
	scoped(client_reply_release) struct client_reply reply = {0};
	scoped(document_release) cJSON *list = NULL;
	const cJSON *object;
	char path[64];

	snprintf(path, sizeof(path), "/v1/%s", model_kind_path(kind));
	if (ask(host, path, &reply) < 0) {
		say(finding, VERDICT_WARN, "not known: %s", reply.err.message);
		return false;
	}
	if (reply.status != 200) {
		say_refusal(finding, "not known", &reply);
		return false;
	}
	list = cJSON_Parse(buffer_text(&reply.body));
	cJSON_ArrayForEach(object, member_at(list, "items")) {
		++*total;
		if (member_at(object, "status.error") && ++*ineffective == 1)
			say(finding, VERDICT_WARN, "%s/%s is not effective: %s",
			    model_kind_name(kind), member_text(object, "id"),
			    member_text(object, "status.error"));
	}
	return true;
}

static void check_objects(const struct host *host, struct finding *finding)
{
	unsigned total = 0, ineffective = 0;

	for (int kind = 0; kind < MODEL_KIND_COUNT; kind++) {
		if (kind != MODEL_TASK &&
		    !count_objects(host, (enum model_kind)kind, &total, &ineffective, finding))
			return;
	}
	if (ineffective == 0)
		say(finding, VERDICT_OK, "%u, all effective", total);
	else
		advise(finding, "%u of %u; each is tried again every ten seconds", ineffective,
		       total);
}

static const struct {
	const char *name;
	void (*check)(const struct host *host, struct finding *finding);
} checks[] = {
	{"privilege", check_privilege},
	{"configuration", check_config},
	{"tap devices", check_tun},
	{"kvm", check_kvm},
	{"nftables", check_nftables},
	{"cgroups", check_cgroups},
	{"uids", check_uids},
	{"qemu", check_qemu},
	{"mkfs", check_mkfs},
	{"unsquashfs", check_unsquashfs},
	{"guest", check_guest},
	{"programs", check_programs},
	{"images", check_images},
	{"state", check_state},
	{"writers", check_writer_group},
	{"readers", check_reader_group},
	{"agent", check_agent},
	{"objects", check_objects},
};

static const char *const verdict_names[] = {"ok", "warn", "FAIL"};

static cJSON *finding_json(const char *name, const struct finding *finding)
{
	static const char *const words[] = {"ok", "warn", "fail"};
	cJSON *item = cJSON_CreateObject();

	cJSON_AddStringToObject(item, "check", name);
	cJSON_AddStringToObject(item, "verdict", words[finding->verdict]);
	cJSON_AddStringToObject(item, "text", finding->text);
	if (finding->advice[0])
		cJSON_AddStringToObject(item, "advice", finding->advice);
	return item;
}

static void finding_print(const char *name, const struct finding *finding)
{
	printf("%-5s %-14s %s\n", verdict_names[finding->verdict], name, finding->text);
	if (finding->advice[0])
		printf("%-5s %-14s -> %s\n", "", "", finding->advice);
}

static int run_doctor(const struct ctl *ctl, int argc, char **argv)
{
	const char *file = getenv("PENSTOCK_CONFIG");
	const struct option_value options[] = {{"--config", "-c", &file, NULL}};
	scoped(document_release) cJSON *document = cJSON_CreateArray();
	enum verdict worst = VERDICT_OK;
	struct host host = {.ctl = ctl};

	options_take(&verb_doctor, argc, argv, options, ARRAY_LENGTH(options));
	host.config_result = config_load(file, &host.config, &host.config_error);
	for (size_t i = 0; i < ARRAY_LENGTH(checks); i++) {
		struct finding finding = {0};

		checks[i].check(&host, &finding);
		if (finding.verdict > worst)
			worst = finding.verdict;
		if (ctl->json)
			cJSON_AddItemToArray(document, finding_json(checks[i].name, &finding));
		else
			finding_print(checks[i].name, &finding);
	}
	if (ctl->json)
		document_print(document);
	return worst == VERDICT_FAIL ? EXIT_REFUSED : EXIT_DONE;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.arguments = "[--config FILE]",
	.summary = "is this host fit to run tasks?",
	// clang-format off
	.help = "Looks at privileges, devices, kernel features, cgroups, programs, guest files and\n"
		"groups, and at the agent if one runs. Changes nothing. `warn` lines say what will\n"
		"be missing, FAIL lines what must be put right; exit code 1 when there is one.\n"
		"\n"
		"  -c, --config FILE    the agent's; default $PENSTOCK_CONFIG or " CONFIG_DEFAULT_FILE,
	// clang-format on
	.run = run_doctor,
};
