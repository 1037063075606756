#define _GNU_SOURCE
#include "al_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define RESULT(call) do { long r_; do { r_ = (call); } while (r_ < 0 && errno == EINTR); return r_ < 0 ? -errno : r_; } while (0)

int al_tree_open(int root, const char *path, int flags, unsigned mode, al_tree_resolve how) {
    struct open_how h = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .mode = mode,
        .resolve = RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT | (how == AL_TREE_NO_LINKS ? RESOLVE_NO_SYMLINKS : 0),
    };
    // EAGAIN: a rename elsewhere on the machine raced with the resolution of "..".
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, root, path[0] ? path : ".", &h, sizeof h);
        if (fd >= 0) return (int)fd;
        if (errno == EINTR || (errno == EAGAIN && tries < 64)) continue;
        return -errno;
    }
}

int al_tree_open_directory(int root, const char *path, al_tree_resolve how) {
    return al_tree_open(root, path, O_RDONLY | O_DIRECTORY, 0, how);
}

int al_tree_create(int directory, const char *name) {
    RESULT(openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

int al_tree_make_directory(int directory, const char *name, unsigned mode) { RESULT(mkdirat(directory, name, mode)); }
int al_tree_make_fifo(int directory, const char *name, unsigned mode) { RESULT(mkfifoat(directory, name, mode)); }
int al_tree_make_whiteout(int directory, const char *name) {
    RESULT(mknodat(directory, name, S_IFCHR, makedev(0, 0)));
}
int al_tree_symlink(const char *target, int directory, const char *name) { RESULT(symlinkat(target, directory, name)); }
int al_tree_link(int from_directory, const char *from, int to_directory, const char *to) {
    RESULT(linkat(from_directory, from, to_directory, to, 0));
}
int al_tree_unlink(int directory, const char *name) { RESULT(unlinkat(directory, name, 0)); }

// Removes what is directly in `directory`, until a directory is met: its name then goes to `name` and 1 is returned.
static int empty_once(int directory, char name[256]) {
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    DIR *stream = fdopendir(fd);
    if (!stream) { int code = errno; close(fd); return -code; }
    int result = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry) { if (errno) result = -errno; break; }
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (entry->d_type != DT_DIR && (unlinkat(directory, entry->d_name, 0) == 0 || errno == ENOENT)) continue;
        if (entry->d_type != DT_DIR && errno != EISDIR && errno != EPERM) { result = -errno; break; }
        if (unlinkat(directory, entry->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
        if (errno != ENOTEMPTY && errno != EEXIST) { result = -errno; break; }
        snprintf(name, 256, "%s", entry->d_name);
        result = 1;
        break;
    }
    closedir(stream);
    return result;
}

// One open directory whatever the depth (a hostile layer may nest deeper than a process may hold descriptors): down by
// name, up by "..". A mount point is never entered: its device differs. Consumes `current`.
static int remove_below(int current, dev_t device) {
    char (*path)[256] = NULL;
    size_t depth = 0, room = 0;
    int result;
    for (;;) {
        if (depth == room) {
            room = room ? room * 2 : 16;
            void *more = reallocarray(path, room, sizeof *path);
            if (!more) { result = -ENOMEM; break; }
            path = more;
        }
        result = empty_once(current, path[depth]);
        if (result < 0 || (result == 0 && depth == 0)) break;
        int next = openat(current, result ? path[depth] : "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat s;
        if (next < 0 || fstat(next, &s) < 0) { result = -errno; if (next >= 0) close(next); break; }
        if (s.st_dev != device) { close(next); result = -EXDEV; break; }
        close(current);
        current = next;
        if (result) { depth++; continue; }
        depth--;
        if (unlinkat(current, path[depth], AT_REMOVEDIR) < 0 && errno != ENOENT) { result = -errno; break; }
    }
    close(current);
    free(path);
    return result;
}

int al_tree_remove(int directory, const char *name) {
    if (unlinkat(directory, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return -errno;
    int below = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below < 0) return errno == ENOENT ? 0 : -errno;
    struct stat inner, outer;
    if (fstat(below, &inner) < 0 || fstat(directory, &outer) < 0 || inner.st_dev != outer.st_dev) {
        close(below);
        return -EXDEV;
    }
    int result = remove_below(below, inner.st_dev);
    if (result < 0) return result;
    RESULT(unlinkat(directory, name, AT_REMOVEDIR));
}

static void fill(al_tree_info *info, const struct stat *s) {
    *info = (al_tree_info){
        .mode = s->st_mode, .uid = s->st_uid, .gid = s->st_gid, .links = (uint32_t)s->st_nlink, .inode = s->st_ino,
        .device = s->st_dev, .node = s->st_rdev, .size = (uint64_t)s->st_size, .blocks = (uint64_t)s->st_blocks,
        .seconds = s->st_mtim.tv_sec, .nanoseconds = s->st_mtim.tv_nsec,
    };
}
int al_tree_stat(int directory, const char *name, al_tree_info *info) {
    struct stat s;
    if (fstatat(directory, name, &s, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    fill(info, &s);
    return 0;
}
ssize_t al_tree_readlink(int directory, const char *name, char *buffer, size_t size) {
    RESULT(readlinkat(directory, name, buffer, size));
}
int al_tree_chown(int directory, const char *name, uint32_t uid, uint32_t gid) {
    RESULT(fchownat(directory, name, uid, gid, AT_SYMLINK_NOFOLLOW));
}
int al_tree_chown_fd(int fd, uint32_t uid, uint32_t gid) { RESULT(fchown(fd, uid, gid)); }
int al_tree_chmod_fd(int fd, unsigned mode) { RESULT(fchmod(fd, mode)); }
int al_tree_chmod(int directory, const char *name, unsigned mode) { RESULT(fchmodat(directory, name, mode, 0)); }
int al_tree_set_time(int directory, const char *name, int64_t seconds, int64_t nanoseconds) {
    struct timespec t[2] = {{.tv_sec = seconds, .tv_nsec = nanoseconds}, {.tv_sec = seconds, .tv_nsec = nanoseconds}};
    RESULT(utimensat(directory, name, t, AT_SYMLINK_NOFOLLOW));
}
int al_tree_set_time_fd(int fd, int64_t seconds, int64_t nanoseconds) {
    struct timespec t[2] = {{.tv_sec = seconds, .tv_nsec = nanoseconds}, {.tv_sec = seconds, .tv_nsec = nanoseconds}};
    RESULT(futimens(fd, t));
}
int al_tree_truncate(int fd, int64_t size) { RESULT(ftruncate(fd, size)); }
ssize_t al_tree_pwrite(int fd, const void *bytes, size_t count, int64_t offset) { RESULT(pwrite(fd, bytes, count, offset)); }
ssize_t al_tree_read(int fd, void *bytes, size_t count) { RESULT(read(fd, bytes, count)); }
ssize_t al_tree_write(int fd, const void *bytes, size_t count) { RESULT(write(fd, bytes, count)); }
int al_tree_set_attribute(int fd, const char *name, const void *value, size_t size) {
    RESULT(fsetxattr(fd, name, value, size, 0));
}

int al_tree_sync_filesystem(int fd) { RESULT(syncfs(fd)); }
int al_tree_pipe_room(int fd, int size) { RESULT(fcntl(fd, F_SETPIPE_SZ, size)); }
void al_tree_close(int fd) { if (fd >= 0) close(fd); }
size_t al_tree_length(const char *text) { return strlen(text); }
ssize_t al_tree_get_attribute(int fd, const char *name, void *value, size_t size) {
    RESULT(fgetxattr(fd, name, value, size));
}
