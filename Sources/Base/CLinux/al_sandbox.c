#define _GNU_SOURCE
#include "include/al_sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/loop.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* One request at a time: `turn` orders callers, `lock` guards everything below. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static enum { IDLE, ASKED, ANSWERED } phase = IDLE;
static int want_namespace, want_family, result, failure;
static int started, home = -1;

static void *serve(void *unused)
{
    (void)unused;
    int lost = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (phase != ASKED) pthread_cond_wait(&asked, &lock);
        result = -1;
        if (setns(want_namespace, CLONE_NEWNET) == 0) {
            result = socket(want_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            failure = errno;
            lost = setns(home, CLONE_NEWNET) != 0;
        } else {
            failure = errno;
        }
        phase = ANSWERED;
        pthread_cond_signal(&answered);
        if (lost) break;
    }
    /* A thread that could not come back makes no socket for anybody else: the next caller starts another one. */
    started = 0;
    close(home);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static int start_server(void)
{
    if (started) return 0;
    home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) return -1;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, serve, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        close(home);
        errno = error;
        return -1;
    }
    pthread_detach(thread);
    started = 1;
    return 0;
}

int al_socket_in_namespace(int network_namespace, int family)
{
    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
    if (start_server() < 0) {
        int error = errno;
        pthread_mutex_unlock(&lock);
        pthread_mutex_unlock(&turn);
        errno = error;
        return -1;
    }
    want_namespace = network_namespace;
    want_family = family;
    phase = ASKED;
    pthread_cond_signal(&asked);
    while (phase != ANSWERED) pthread_cond_wait(&answered, &lock);
    phase = IDLE;
    int descriptor = result, error = failure;
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&turn);
    if (descriptor < 0) errno = error;
    return descriptor;
}

/* The loop device that has a file already, because some namespace still has it mounted; -1 when none has. A second device of
   the same file would be refused by its file system, or harm it. */
static int attached_device(int backing, char name[32])
{
    struct stat file;
    if (fstat(backing, &file) < 0) return -1;
    DIR *devices = opendir("/sys/block");
    if (devices == NULL) return -1;
    int found = -1;
    for (struct dirent *entry; found < 0 && (entry = readdir(devices)) != NULL;) {
        int number, end = 0;
        if (sscanf(entry->d_name, "loop%d%n", &number, &end) != 1 || entry->d_name[end] != 0) continue;
        snprintf(name, 32, "/dev/loop%d", number);
        int device = open(name, O_RDWR | O_CLOEXEC);
        if (device < 0) continue;
        struct loop_info64 info;
        /* Open, it cannot free itself before it is mounted. */
        if (ioctl(device, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == file.st_dev && info.lo_inode == file.st_ino &&
            info.lo_offset == 0)
            found = device;
        else
            close(device);
    }
    closedir(devices);
    return found;
}

int al_mount_file(const char *file, const char *target, const char *type, uint64_t flags, const char *data)
{
    int backing = open(file, O_RDWR | O_CLOEXEC);
    if (backing < 0) return -1;
    char known[32];
    int known_device = attached_device(backing, known);
    if (known_device >= 0) {
        int mounted = mount(known, target, type, flags, data), reason = errno;
        close(known_device);
        close(backing);
        errno = reason;
        return mounted;
    }
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) {
        int error = errno;
        close(backing);
        errno = error;
        return -1;
    }
    int status = -1, error = EBUSY;
    /* Another program may take the free device between asking and taking. */
    for (int attempt = 0; attempt < 32; attempt++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0) {
            error = errno;
            break;
        }
        char name[32];
        snprintf(name, sizeof name, "/dev/loop%d", number);
        int device = open(name, O_RDWR | O_CLOEXEC);
        if (device < 0) {
            error = errno;
            break;
        }
        struct loop_config config = {.fd = (uint32_t)backing, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        strncpy((char *)config.info.lo_file_name, file, LO_NAME_SIZE - 1);
        if (ioctl(device, LOOP_CONFIGURE, &config) < 0) {
            error = errno;
            close(device);
            if (error == EBUSY) continue;
            break;
        }
        status = mount(name, target, type, flags, data);
        error = errno;
        close(device); /* not mounted: the device frees itself here */
        break;
    }
    close(control);
    close(backing);
    errno = error;
    return status;
}

int al_memory_room(int place) { return fspick(place, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH); }

int al_memory_room_resize(int room, uint64_t bytes)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    if (fsconfig(room, FSCONFIG_SET_STRING, "size", text, 0) < 0) return -1;
    return fsconfig(room, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
}

int al_file_system_type(int descriptor, uint64_t *type)
{
    struct statfs status;
    if (fstatfs(descriptor, &status) < 0) return -1;
    *type = (uint64_t)(uint32_t)status.f_type;
    return 0;
}

static int name_request(int directory, unsigned long request, const char *name)
{
    struct btrfs_ioctl_vol_args arguments = {0};
    if (strlen(name) > BTRFS_SUBVOL_NAME_MAX || strlen(name) >= sizeof arguments.name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(arguments.name, name);
    return ioctl(directory, request, &arguments);
}

int al_btrfs_make_subvolume(int directory, const char *name)
{
    return name_request(directory, BTRFS_IOC_SUBVOL_CREATE, name);
}

int al_btrfs_remove_subvolume(int directory, const char *name)
{
    return name_request(directory, BTRFS_IOC_SNAP_DESTROY, name);
}

int al_btrfs_subvolume_id(int descriptor, uint64_t *id)
{
    struct btrfs_ioctl_ino_lookup_args arguments = {.objectid = 256 /* a subvolume's first folder */};
    if (ioctl(descriptor, BTRFS_IOC_INO_LOOKUP, &arguments) < 0) return -1;
    *id = arguments.treeid;
    return 0;
}

int al_btrfs_enable_quota(int descriptor)
{
    struct btrfs_ioctl_quota_ctl_args arguments = {.cmd = BTRFS_QUOTA_CTL_ENABLE};
    if (ioctl(descriptor, BTRFS_IOC_QUOTA_CTL, &arguments) < 0 && errno != EEXIST) return -1;
    return 0;
}

int al_btrfs_limit(int descriptor, uint64_t subvolume, uint64_t bytes)
{
    struct btrfs_ioctl_qgroup_limit_args arguments = {
        .qgroupid = subvolume, .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = bytes}};
    return ioctl(descriptor, BTRFS_IOC_QGROUP_LIMIT, &arguments);
}

int al_btrfs_forget(int descriptor, uint64_t subvolume)
{
    struct btrfs_ioctl_qgroup_create_args arguments = {.create = 0, .qgroupid = subvolume};
    return ioctl(descriptor, BTRFS_IOC_QGROUP_CREATE, &arguments);
}

struct closed_network {
    int descriptor, error;
};

static int raise_loopback(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strcpy(request.ifr_name, "lo");
    int raised = ioctl(fd, SIOCSIFFLAGS, &request), error = errno;
    close(fd);
    errno = error;
    return raised;
}

static void *close_network(void *pointer)
{
    struct closed_network *made = pointer;
    if (unshare(CLONE_NEWNET) == 0 && raise_loopback() == 0)
        made->descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    made->error = errno;
    return NULL;
}

int al_closed_network(void)
{
    struct closed_network made = {.descriptor = -1};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, close_network, &made);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    pthread_join(thread, NULL);
    if (made.descriptor < 0) errno = made.error;
    return made.descriptor;
}
