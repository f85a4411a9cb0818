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
#include "agent/ctl/doctor.h"
#include "agent/task/fsck.h"

void finding_say(struct finding *finding, enum verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->text, sizeof(finding->text), format, args);
	va_end(args);
	finding->verdict = verdict;
}

void finding_advise(struct finding *finding, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->advice, sizeof(finding->advice), format, args);
	va_end(args);
}

static void check_privilege(const struct host *host, struct finding *finding)
{
	(void)host;
	finding_say(finding, geteuid() == 0 ? VERDICT_OK : VERDICT_WARN, "running as uid %u",
		    (unsigned)geteuid());
	if (geteuid() != 0)
		finding_advise(finding,
			       "some checks need root to be right: sudo penstockctl doctor");
}

static void check_config(const struct host *host, struct finding *finding)
{
	if (host->config_result == 0)
		finding_say(finding, VERDICT_OK, "configuration read, install \"%s\"",
			    host->config.install);
	else if (host->config_result == -ENOENT)
		finding_say(finding, VERDICT_OK,
			    "no configuration file: the defaults, install \"%s\"",
			    host->config.install);
	else
		finding_say(finding, VERDICT_FAIL, "%s", host->config_error.message);
}

static void check_tun(const struct host *host, struct finding *finding)
{
	scoped_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		finding_say(finding, VERDICT_OK, "/dev/net/tun opens");
		return;
	}
	finding_say(finding,
		    strcmp(host->config.driver, "netns") == 0 ? VERDICT_WARN : VERDICT_FAIL,
		    "/dev/net/tun: %s", strerror(errno));
	finding_advise(finding, "modprobe tun, and let the agent open the device");
}

// What counts is that KVM answers; whether guests run fast enough only a guest can show.
static void check_kvm(const struct host *host, struct finding *finding)
{
	scoped_fd int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version = fd >= 0 ? ioctl(fd, KVM_GET_API_VERSION, 0) : -1;
	bool wanted = strcmp(host->config.accel, "kvm") == 0;

	if (version == KVM_API_VERSION) {
		finding_say(finding, VERDICT_OK, "/dev/kvm answers; %saccel = %s%s",
			    wanted ? "" : "not used: ", host->config.accel,
			    strcmp(host->config.accel, "auto") == 0
				    ? " means tcg, accel = kvm asks for it"
				    : "");
		return;
	}
	finding_say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN, "/dev/kvm: %s",
		    fd < 0 ? strerror(errno) : "speaks another version of its API");
	finding_advise(finding,
		       "guests are emulated (accel = tcg): a boot takes some 2 s of CPU, and they "
		       "run slowly");
}

static void check_nftables(const struct host *host, struct finding *finding)
{
	scoped_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	(void)host;
	if (fd >= 0 && access("/proc/net/nf_conntrack", F_OK) == 0) {
		finding_say(finding, VERDICT_OK, "netfilter and connection tracking are there");
		return;
	}
	if (fd >= 0) {
		// Without the proc file it may still be there (CONFIG_NF_CONNTRACK_PROCFS=n).
		bool tracks = access("/proc/sys/net/netfilter/nf_conntrack_max", F_OK) == 0;

		finding_say(finding, tracks ? VERDICT_OK : VERDICT_WARN, "netfilter is there%s",
			    tracks ? ", with connection tracking"
				   : "; connection tracking is not loaded yet");
		return;
	}
	finding_say(finding, VERDICT_FAIL, "netfilter: %s", strerror(errno));
	finding_advise(finding, "the kernel needs nf_tables and nf_conntrack");
}

static void check_cgroups(const struct host *host, struct finding *finding)
{
	struct statfs status;

	(void)host;
	if (statfs("/sys/fs/cgroup", &status) < 0) {
		finding_say(finding, VERDICT_FAIL, "/sys/fs/cgroup: %s", strerror(errno));
		finding_advise(finding, "mount cgroup2 on /sys/fs/cgroup");
	} else if (status.f_type == CGROUP2_SUPER_MAGIC) {
		finding_say(finding, VERDICT_OK, "cgroup v2");
	} else if (access("/sys/fs/cgroup/cpu", F_OK) == 0 &&
		   access("/sys/fs/cgroup/memory", F_OK) == 0) {
		finding_say(finding, VERDICT_OK, "cgroup v1 hierarchies (v2 is preferred)");
	} else {
		finding_say(finding, VERDICT_WARN, "no cgroup tree with cpu and memory");
		finding_advise(finding, "CPU and memory limits of tasks would not be enforced");
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
		finding_say(finding, VERDICT_OK, "%u to %u, one for each task", first, last);
		return;
	}
	finding_say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN,
		    "%u to %u are not all mapped in this user namespace", first, last);
	finding_advise(
		finding,
		wanted ? "map them, or run as real root: a VMM has no uid to run as"
		       : "map them, or run as real root: health checks have no uid to run as");
}

static void check_program(struct finding *finding, const char *program, bool wanted,
			  const char *package)
{
	if (access(program, X_OK) == 0) {
		finding_say(finding, VERDICT_OK, "%s", program);
		return;
	}
	finding_say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN, "%s: %s", program,
		    strerror(errno));
	finding_advise(finding, "apt-get install %s", package);
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
	finding_say(finding, VERDICT_OK, "%s is complete", directory);
	for (size_t i = 0; files[i]; i++) {
		char path[CONFIG_PATH_MAX + 32];

		snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
		if (access(path, mode) == 0)
			continue;
		finding_say(finding, wanted ? VERDICT_FAIL : VERDICT_WARN, "%s: %s", path,
			    strerror(errno));
		finding_advise(finding, "%s", advice);
		return;
	}
}

static void check_guest(const struct host *host, struct finding *finding)
{
	static const char *const files[] = {"vmlinux", "initramfs.cpio", NULL};
	char advice[sizeof(finding->advice)];

	snprintf(advice, sizeof(advice),
		 "%.90s/build-guest.sh %.90s %.80s/penstock-init builds them",
		 host->config.program_directory, host->config.guest_directory,
		 host->config.program_directory);
	check_files(finding, host->config.guest_directory, files, R_OK,
		    strcmp(host->config.driver, "qemu") == 0, advice);
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
		finding_say(finding, VERDICT_WARN, "%s: %s", directory, strerror(errno));
	else
		finding_say(finding, count ? VERDICT_OK : VERDICT_WARN, "%s has %d images",
			    directory, count);
	if (count <= 0)
		finding_advise(finding, "put container images there: <name>.squashfs");
}

static void check_state(const struct host *host, struct finding *finding)
{
	struct statfs status;
	double free_gib;

	if (statfs(host->config.state_directory, &status) < 0) {
		finding_say(finding, errno == ENOENT ? VERDICT_WARN : VERDICT_FAIL, "%s: %s",
			    host->config.state_directory, strerror(errno));
		finding_advise(finding, "the agent makes it when it starts");
		return;
	}
	free_gib = (double)status.f_bavail * (double)status.f_bsize / (1024.0 * 1024 * 1024);
	finding_say(finding, free_gib < 21 ? VERDICT_WARN : VERDICT_OK, "%s has %.1f GiB free",
		    host->config.state_directory, free_gib);
	if (free_gib < 21)
		finding_advise(finding, "one task's ephemeral disk alone is 20 GiB");
}

static void check_group(const char *name, const char *key, struct finding *finding)
{
	if (!name[0])
		finding_say(finding, VERDICT_OK, "%s is not set: nobody but root", key);
	else if (getgrnam(name))
		finding_say(finding, VERDICT_OK, "%s = %s", key, name);
	else {
		finding_say(finding, VERDICT_FAIL, "%s = %s: there is no such group", key, name);
		finding_advise(finding, "groupadd --system %s", name);
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

// What records own and the host lacks, as fsck says.
static void check_missing(const struct host *host, struct finding *finding)
{
	scoped(arena_release) struct arena arena = {0};
	struct fsck_report report;
	struct error err = {0};
	size_t first = 0;

	if (geteuid() != 0) {
		finding_say(finding, VERDICT_WARN, "not known: only root may look");
		return;
	}
	if (fsck_run(&host->config, false, &arena, &report, &err) < 0) {
		finding_say(finding, VERDICT_WARN, "not known: %s", err.message);
		return;
	}
	if (report.missing == 0) {
		finding_say(finding, VERDICT_OK, "nothing that a record owns");
		return;
	}
	while (!report.findings[first].missing)
		first++;
	finding_say(finding, VERDICT_WARN, "%s %.100s of %.100s", report.findings[first].kind,
		    report.findings[first].name, report.findings[first].owner);
	finding_advise(finding,
		       "%zu things that records own are not there: penstockctl fsck lists them; a "
		       "running agent makes them again",
		       report.missing);
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
	{"agent", doctor_check_agent},
	{"objects", doctor_check_objects},
	{"neighbours", doctor_check_neighbours},
	{"guests", doctor_check_guests},
	{"targets", doctor_check_targets},
	{"missing", check_missing},
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
