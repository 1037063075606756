#define _GNU_SOURCE
#include "charness_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(AH_ROOT == AT_FDCWD, "AH_ROOT stands for AT_FDCWD");

static long answer(long result) { return result < 0 ? -errno : result; }

long ah_read_file(const void *path, void *buffer, size_t limit) {
    // Non-blocking: a FIFO planted in place of the file must not hold us.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -errno;
    struct stat info;
    long result = 0;
    if (fstat(fd, &info)) result = -errno;
    else if (!S_ISREG(info.st_mode)) result = -EINVAL;
    size_t have = 0;
    while (result == 0) {
        char extra;
        long n = have < limit ? read(fd, (char *)buffer + have, limit - have) : read(fd, &extra, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) result = -errno;
        else if (n == 0) break;
        else if (have == limit) result = -EFBIG;
        else have += (size_t)n;
        // All that it said it has; files of /proc say nothing.
        if (info.st_size > 0 && have == (size_t)info.st_size) break;
    }
    close(fd);
    return result < 0 ? result : (long)have;
}

long ah_file_stamp(const void *path, struct ah_stamp *stamp) {
    struct stat info;
    if (stat(path, &info)) return -errno;
    *stamp = (struct ah_stamp){
        (uint64_t)info.st_dev, info.st_ino, (uint64_t)info.st_size,
        (uint64_t)info.st_mtim.tv_sec * 1000000000u + (uint64_t)info.st_mtim.tv_nsec,
        (uint64_t)info.st_ctim.tv_sec * 1000000000u + (uint64_t)info.st_ctim.tv_nsec,
    };
    return 0;
}

long ah_open_directory(int directory, const void *name, int follow) {
    return answer(openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW)));
}

long ah_open_file(int directory, const void *name) {
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -errno;
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) return fd;
    close(fd);
    return -EINVAL;
}

// Unlinks whatever is no folder, so that a new node can take its name.
static long make_room(int directory, const char *name) {
    if (unlinkat(directory, name, 0) == 0 || errno == ENOENT) return 0;
    return -errno;
}

long ah_create_file(int directory, const void *name) {
    long room = make_room(directory, name);
    if (room == 0) return answer(openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (room != -EBUSY) return room;
    // A mount point cannot be unlinked, only rewritten.
    int fd = openat(directory, name, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -errno;
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) return fd;
    close(fd);
    return -EINVAL;
}

static long describe(const struct stat *from, struct ah_file *out) {
    out->size = (uint64_t)from->st_size;
    out->seconds = from->st_mtim.tv_sec;
    out->nanoseconds = (uint32_t)from->st_mtim.tv_nsec;
    out->mode = from->st_mode & 07777;
    out->uid = from->st_uid;
    out->gid = from->st_gid;
    out->kind = S_ISREG(from->st_mode) ? AH_REGULAR
        : S_ISDIR(from->st_mode)       ? AH_DIRECTORY
        : S_ISLNK(from->st_mode)       ? AH_SYMLINK
        : S_ISFIFO(from->st_mode)      ? AH_FIFO
        : S_ISCHR(from->st_mode) || S_ISBLK(from->st_mode) ? AH_DEVICE
                                       : AH_OTHER;
    return 0;
}

long ah_file_information(int directory, const void *name, struct ah_file *out) {
    struct stat info;
    return fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) ? -errno : describe(&info, out);
}

long ah_descriptor_information(int fd, struct ah_file *out) {
    struct stat info;
    return fstat(fd, &info) ? -errno : describe(&info, out);
}

long ah_read_link(int directory, const void *name, void *buffer, size_t count) {
    return answer(readlinkat(directory, name, buffer, count));
}

long ah_make_directory(int directory, const void *name) { return answer(mkdirat(directory, name, 0755)); }

long ah_make_link(int directory, const void *name, const void *target) {
    long room = make_room(directory, name);
    return room < 0 ? room : answer(symlinkat(target, directory, name));
}

long ah_set_owner(int directory, const void *name, uint32_t uid, uint32_t gid) {
    return answer(fchownat(directory, name, uid, gid, AT_SYMLINK_NOFOLLOW));
}

long ah_set_descriptor(int fd, uint32_t uid, uint32_t gid, uint32_t mode, int64_t seconds) {
    // The mode after the owner: a change of owner clears setuid and setgid.
    if (fchown(fd, uid, gid) || fchmod(fd, mode & 07777)) return -errno;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)seconds}};
    return answer(futimens(fd, times));
}

long ah_set_link_time(int directory, const void *name, int64_t seconds) {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)seconds}};
    return answer(utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW));
}

struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

long ah_list(int directory, void *buffer, size_t count) {
    for (;;) {
        char raw[8192] __attribute__((aligned(8)));
        if (count < sizeof raw) return -EINVAL;
        long n = syscall(SYS_getdents64, directory, raw, sizeof raw);
        if (n <= 0) return answer(n);
        char *out = buffer;
        for (long at = 0; at < n;) {
            struct entry *e = (struct entry *)(raw + at);
            at += e->length;
            if (!strcmp(e->name, ".") || !strcmp(e->name, "..")) continue;
            size_t length = strlen(e->name) + 1;
            memcpy(out, e->name, length);
            out += length;
        }
        // A batch of nothing but the two dots is not the end.
        if (out > (char *)buffer) return out - (char *)buffer;
    }
}
