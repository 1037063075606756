#define _GNU_SOURCE 1
#include "al_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int al_open(int directory, const char *path, int flags, uint32_t mode, uint64_t resolve) {
    int result;
    int creating = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .mode = creating ? mode : 0, .resolve = resolve};
    do {
        /* openat2 answers EAGAIN when a rename or mount races with a beneath lookup: try again. */
        if (resolve) result = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
        else result = openat(directory, path, flags | O_CLOEXEC, (mode_t)mode);
    } while (result < 0 && (errno == EINTR || (resolve && errno == EAGAIN)));
    return result;
}

static int64_t nanoseconds(struct timespec time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec; }

static int convert(const struct stat *from, struct al_status *out) {
    out->mode = from->st_mode;
    out->uid = from->st_uid;
    out->gid = from->st_gid;
    out->links = (uint32_t)from->st_nlink;
    out->inode = from->st_ino;
    out->size = (uint64_t)from->st_size;
    out->blocks512 = (uint64_t)from->st_blocks;
    out->device = from->st_dev;
    out->special_device = from->st_rdev;
    out->modified_ns = nanoseconds(from->st_mtim);
    out->changed_ns = nanoseconds(from->st_ctim);
    out->accessed_ns = nanoseconds(from->st_atim);
    return 0;
}

int al_status_of(int descriptor, struct al_status *out) {
    struct stat status;
    if (fstatat(descriptor, "", &status, AT_EMPTY_PATH) < 0) return -1;
    return convert(&status, out);
}

int al_status_at(int directory, const char *path, int follow, struct al_status *out) {
    struct stat status;
    if (fstatat(directory, path, &status, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0) return -1;
    return convert(&status, out);
}

int al_rename(int from, const char *old_name, int to, const char *new_name, uint32_t flags) {
    return renameat2(from, old_name, to, new_name, flags);
}

static struct timespec timespec_of(int64_t ns) {
    int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) seconds -= 1, rest += 1000000000;
    return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

int al_set_times(int descriptor, int64_t accessed_ns, int64_t modified_ns) {
    struct timespec times[2] = {timespec_of(accessed_ns), timespec_of(modified_ns)};
    return futimens(descriptor, times);
}

int al_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }
int al_duplicate(int descriptor) { return fcntl(descriptor, F_DUPFD_CLOEXEC, 3); }
int al_status_flags(int descriptor) { return fcntl(descriptor, F_GETFL); }

int al_set_nonblocking(int descriptor, int on) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0) return -1;
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return wanted == flags ? 0 : fcntl(descriptor, F_SETFL, wanted);
}

int al_set_close_on_exec(int descriptor, int on) { return fcntl(descriptor, F_SETFD, on ? FD_CLOEXEC : 0); }

int al_lock(int descriptor, int exclusive, int wait) {
    int result;
    do result = flock(descriptor, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
    while (result < 0 && errno == EINTR);
    return result;
}
int al_unlock(int descriptor) { return flock(descriptor, LOCK_UN); }

int al_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); }

int al_free_space(int descriptor, uint64_t *free_bytes, uint64_t *total_bytes, uint64_t *free_inodes) {
    struct statvfs space;
    if (fstatvfs(descriptor, &space) < 0) return -1;
    *free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    *total_bytes = (uint64_t)space.f_blocks * space.f_frsize;
    // Where inodes are not counted, 0 of 0 are free.
    *free_inodes = space.f_files == 0 ? UINT64_MAX : space.f_favail;
    return 0;
}

struct raw_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

ssize_t al_read_directory(int descriptor, uint8_t *out, size_t capacity) {
    /* Our form is never longer than the kernel's, so reading `capacity` bytes always fits. */
    _Alignas(8) char raw[8192];
    size_t used = 0;
    ssize_t got = syscall(SYS_getdents64, descriptor, raw, capacity < sizeof raw ? capacity : sizeof raw);
    if (got <= 0) return got;
    for (ssize_t at = 0; at < got;) {
        const struct raw_entry *entry = (const struct raw_entry *)(raw + at);
        size_t length = strlen(entry->name) + 1;
        out[used] = entry->type;
        memcpy(out + used + 1, &entry->inode, 8);
        memcpy(out + used + 9, entry->name, length);
        used += 9 + length;
        at += entry->length;
    }
    return (ssize_t)used;
}

int al_random(void *bytes, size_t count) {
    uint8_t *at = bytes;
    while (count) {
        ssize_t got = getrandom(at, count, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        at += got;
        count -= (size_t)got;
    }
    return 0;
}

int al_mount(const char *source, const char *target, const char *type, uint64_t flags, const char *data) {
    return mount(source, target, type, flags, data);
}
int al_unmount(const char *target, int flags) { return umount2(target, flags); }
