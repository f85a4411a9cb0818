// SPDX-License-Identifier: Apache-2.0
// What init itself mounts, below INIT_BASE:
//
//     disk/                   the ephemeral disk
//     disk/containers/<i>/    upper, work: the container's writable layer; etc: its resolv.conf
//     disk/volumes/<v>/       a directory volume
//     image/<n>/              an image, once, however many containers use it
//     root/<i>/               a container's overlay
//     volume/<v>/             a volume of a file server
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "agent/guest/init.h"

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/scope.h"

enum { LOOP_MAJOR = 7, LOOP_DEADLINE_US = 30000000, DEVICE_PATH_SIZE = 300 };

static int make_directory(const char *path, struct error *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "make %s", path);
	return 0;
}

// ---------------------------------------------------------------- block devices

// Finds the disk with that serial number among the virtio disks.
static int find_disk(const char *serial, char path[DEVICE_PATH_SIZE], struct error *err)
{
	scoped_directory DIR *directory = opendir("/sys/block");
	const struct dirent *entry;

	if (!directory)
		return error_errno(err, "open /sys/block");
	while ((entry = readdir(directory))) {
		char name[DEVICE_PATH_SIZE];
		scoped_free char *found = NULL;
		struct error ignored;

		if (strncmp(entry->d_name, "vd", 2) != 0)
			continue;
		snprintf(name, sizeof(name), "/sys/block/%s/serial", entry->d_name);
		if (file_read(AT_FDCWD, name, 64, &found, NULL, &ignored) < 0)
			continue;
		found[strcspn(found, "\n")] = '\0';
		if (strcmp(found, serial) == 0) {
			snprintf(path, DEVICE_PATH_SIZE, "/dev/%s", entry->d_name);
			return 0;
		}
	}
	return error_set(err, ENODEV, "there is no disk with the serial number %s", serial);
}

// The node is ours: a host's /dev may not have one for every loop device.
static int open_loop(int index, char path[DEVICE_PATH_SIZE], int *ret_fd, struct error *err)
{
	snprintf(path, DEVICE_PATH_SIZE, INIT_BASE "/loop%d", index);
	if (mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)index)) < 0 &&
	    errno != EEXIST)
		return error_errno(err, "make %s", path);
	*ret_fd = open(path, O_RDWR | O_CLOEXEC);
	if (*ret_fd < 0)
		return error_errno(err, "open %s", path);
	return 0;
}

// A pause of one to eight milliseconds: many tasks that start at once ask for the same device.
static void pause_at_random(void)
{
	uint8_t bits = 0;

	if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) < 0)
		bits = (uint8_t)getpid();
	nanosleep(&(struct timespec){.tv_nsec = (1 + bits % 8) * 1000000L}, NULL);
}

// Attaches `disk` to a free loop device; it frees itself at the last close or unmount. The kernel
// names a free device, but does not hold it: another process may take it in between (EBUSY), or it
// may still be on its way out. Then the next one is asked for.
static int attach_loop(int disk_fd, char path[DEVICE_PATH_SIZE], int *ret_fd, struct error *err)
{
	scoped_fd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int64_t until_us = clock_monotonic_us() + LOOP_DEADLINE_US;
	struct loop_config config = {
		.fd = (unsigned)disk_fd,
		.block_size = 4096,
		.info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO},
	};

	if (control < 0)
		return error_errno(err, "open /dev/loop-control");
	while (clock_monotonic_us() < until_us) {
		scoped_fd int fd = -1;
		int index = ioctl(control, LOOP_CTL_GET_FREE);
		int result = index < 0 ? error_errno(err, "find a free loop device")
				       : open_loop(index, path, &fd, err);

		if (result == 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
			*ret_fd = take_fd(&fd);
			return 0;
		}
		if (result == 0)
			result = error_errno(err, "configure loop device %d", index);
		unlink(path);
		if (result == -EINVAL && config.info.lo_flags & LO_FLAGS_DIRECT_IO)
			config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		else if (result == -EBUSY || result == -ENXIO || result == -ENODEV)
			pause_at_random();
		else
			return result;
		error_clear(err);
	}
	return error_set(err, EBUSY, "no free loop device within %d s", LOOP_DEADLINE_US / 1000000);
}

static int pin(const char **path, int flags, struct arena *arena, struct error *err)
{
	int fd = open(*path, flags | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open %s", *path);
	*path = arena_printf(arena, "/proc/self/fd/%d", fd);
	return 0;
}

int init_mounts_prepare(struct init_settings *settings, struct arena *arena, struct error *err)
{
	int result = 0;

	if (settings->virtual_machine)
		return 0;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, "make the mounts private");
	result = pin(&settings->disk, O_RDWR, arena, err);
	for (int i = 0; result == 0 && i < GUEST_IMAGES_MAX; i++)
		if (settings->images[i])
			result = pin(&settings->images[i], O_PATH | O_DIRECTORY, arena, err);
	if (result == 0 && mount("tmpfs", INIT_BASE, "tmpfs", MS_NOSUID, "mode=0755,size=16m") < 0)
		return error_errno(err, "mount " INIT_BASE);
	return result;
}

static int open_disk(const struct init_settings *settings, char path[DEVICE_PATH_SIZE],
		     int *ret_loop_fd, struct error *err)
{
	scoped_fd int disk_fd = -1;

	if (settings->virtual_machine)
		return find_disk(GUEST_SERIAL_EPHEMERAL, path, err);
	disk_fd = open(settings->disk, O_RDWR | O_CLOEXEC);
	if (disk_fd < 0)
		return error_errno(err, "open the disk %s", settings->disk);
	return attach_loop(disk_fd, path, ret_loop_fd, err);
}

int init_mounts_disk(const struct init_settings *settings, struct error *err)
{
	static const char *const directories[] = {
		INIT_BASE "/disk",
		INIT_BASE "/image",
		INIT_BASE "/root",
		INIT_BASE "/volume",
	};
	char device[DEVICE_PATH_SIZE];
	scoped_fd int loop_fd = -1;
	int result = 0;

	for (size_t i = 0; result == 0 && i < ARRAY_LENGTH(directories); i++)
		result = make_directory(directories[i], err);
	if (result == 0)
		result = open_disk(settings, device, &loop_fd, err);
	if (result < 0)
		return result;
	// Inode tables that nobody uses stay holes in the host's sparse file.
	if (mount(device, INIT_BASE "/disk", "ext4", MS_NOSUID | MS_NODEV | MS_NOATIME,
		  "discard,noinit_itable") < 0)
		return error_errno(err, "mount the ephemeral disk %s", device);
	result = make_directory(INIT_BASE "/disk/containers", err);
	if (result == 0)
		result = make_directory(INIT_BASE "/disk/volumes", err);
	return result;
}

void init_mounts_close(const struct guest_manifest *manifest)
{
	char path[64];

	for (uint32_t i = 0; i < manifest->container_count; i++) {
		snprintf(path, sizeof(path), INIT_BASE "/root/%u", i);
		umount2(path, MNT_DETACH);
	}
	umount2(INIT_BASE "/disk", MNT_DETACH);
}

int init_mounts_usage(uint64_t *ret_size_bytes, uint64_t *ret_used_bytes)
{
	struct statvfs status;

	if (statvfs(INIT_BASE "/disk", &status) < 0)
		return -errno;
	*ret_size_bytes = (uint64_t)status.f_blocks * status.f_frsize;
	*ret_used_bytes = (uint64_t)(status.f_blocks - status.f_bfree) * status.f_frsize;
	return 0;
}

// ---------------------------------------------------------------- volumes

void init_mounts_volume_path(const struct guest_manifest *manifest, uint32_t volume, char *ret_path)
{
	bool on_disk = manifest->volumes[volume].kind == GUEST_VOLUME_DIRECTORY;

	snprintf(ret_path, PATH_MAX, INIT_BASE "%s/%u", on_disk ? "/disk/volumes" : "/volume",
		 volume);
}

int init_mounts_volume(const struct guest_manifest *manifest, uint32_t volume, struct error *err)
{
	char path[PATH_MAX];

	init_mounts_volume_path(manifest, volume, path);
	return make_directory(path, err);
}

// ---------------------------------------------------------------- containers

static int mount_image(const struct init_settings *settings, uint32_t image, char path[PATH_MAX],
		       struct error *err)
{
	char serial[32], device[DEVICE_PATH_SIZE];
	int result;

	if (!settings->virtual_machine) {
		if (!settings->images[image])
			return error_set(err, ENOENT, "no setting penstock.image%u=", image);
		snprintf(path, PATH_MAX, "%s", settings->images[image]);
		return 0;
	}
	snprintf(path, PATH_MAX, INIT_BASE "/image/%u", image);
	if (mkdir(path, 0755) < 0) // made with its mount, by the first container that has it
		return errno == EEXIST ? 0 : error_errno(err, "make %s", path);
	snprintf(serial, sizeof(serial), "%s%u", GUEST_SERIAL_IMAGE, image);
	result = find_disk(serial, device, err);
	if (result == 0 &&
	    mount(device, path, "squashfs", MS_RDONLY | MS_NODEV | MS_NOATIME, NULL) < 0)
		result = error_errno(err, "mount image %u", image);
	if (result < 0)
		rmdir(path);
	return result;
}

static int mount_overlay(const char *image, uint32_t index, struct error *err)
{
	char options[PATH_MAX + 256], target[64];

	snprintf(target, sizeof(target), INIT_BASE "/root/%u", index);
	snprintf(options, sizeof(options),
		 "lowerdir=%s,upperdir=" INIT_BASE "/disk/containers/%u/upper,workdir=" INIT_BASE
		 "/disk/containers/%u/work",
		 image, index, index);
	if (make_directory(target, err) < 0)
		return -err->code;
	if (mount("overlay", target, "overlay", MS_NODEV, options) < 0)
		return error_errno(err, "mount the overlay");
	return 0;
}

static int write_file(uint32_t index, const char *name, const char *text, struct error *err)
{
	char path[96];
	scoped_fd int fd = -1;
	size_t length = strlen(text);

	snprintf(path, sizeof(path), INIT_BASE "/disk/containers/%u/etc/%s", index, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, length) != (ssize_t)length)
		return error_errno(err, "write %s", name);
	return 0;
}

static int write_names(const struct init_settings *settings, const struct guest_manifest *manifest,
		       uint32_t index, struct error *err)
{
	scoped(buffer_release) struct buffer hosts = {0}, resolv = {0}, hostname = {0};
	char ip[INET_ADDRSTRLEN];
	int result;

	inet_ntop(AF_INET, &settings->ip, ip, sizeof(ip));
	buffer_addf(&hosts, "127.0.0.1 localhost\n%s %s\n", ip, manifest->hostname);
	buffer_addf(&hostname, "%s\n", manifest->hostname);
	for (uint32_t i = 0; i < manifest->nameserver_count; i++)
		buffer_addf(&resolv, "nameserver %s\n", manifest->nameservers[i]);
	if (manifest->domain[0])
		buffer_addf(&resolv, "search %s\n", manifest->domain);
	result = write_file(index, "hosts", buffer_text(&hosts), err);
	if (result == 0)
		result = write_file(index, "hostname", buffer_text(&hostname), err);
	if (result == 0)
		result = write_file(index, "resolv.conf", buffer_text(&resolv), err);
	return result;
}

int init_mounts_container(const struct init_settings *settings,
			  const struct guest_manifest *manifest, uint32_t index, struct error *err)
{
	static const char *const directories[] = {"", "/upper", "/work", "/etc"};
	char image[PATH_MAX], path[96];
	int result = 0;

	for (size_t i = 0; result == 0 && i < ARRAY_LENGTH(directories); i++) {
		snprintf(path, sizeof(path), INIT_BASE "/disk/containers/%u%s", index,
			 directories[i]);
		result = make_directory(path, err);
	}
	if (result == 0)
		result = mount_image(settings, manifest->containers[index].image, image, err);
	if (result == 0)
		result = mount_overlay(image, index, err);
	if (result == 0)
		result = write_names(settings, manifest, index, err);
	return result;
}
