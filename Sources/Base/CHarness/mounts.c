#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "charness_sandbox.h"

// <sys/mount.h> and <linux/mount.h> do not go together; these are all that is needed of the former.
int mount(const char *, const char *, const char *, unsigned long, const void *);
enum { PRIVATE_RECURSIVE = 1 << 18 | 1 << 14 };

long ah_own_mounts(void) {
    int old = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (old < 0) return -errno;
    if (unshare(CLONE_NEWNS) == 0 && mount(0, "/", 0, PRIVATE_RECURSIVE, 0) == 0) return old;
    int code = errno;
    close(old);
    return -code;
}

long ah_leave_mounts(int old) { return setns(old, CLONE_NEWNS) ? -errno : 0; }

long ah_clone_tree(int source, int recursive) {
    unsigned flags = AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0);
    long fd = syscall(SYS_open_tree, source, "", flags);
    return fd < 0 ? -errno : fd;
}

static long set_attributes(int tree, struct mount_attr *attributes, int recursive) {
    unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    return syscall(SYS_mount_setattr, tree, "", flags, attributes, sizeof *attributes) ? -errno : 0;
}

long ah_idmap_tree(int tree, int user_namespace) {
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user_namespace};
    return set_attributes(tree, &attributes, 0);
}

long ah_restrict_tree(int tree, int read_only, int recursive) {
    struct mount_attr attributes = {
        .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | (read_only ? MOUNT_ATTR_RDONLY : 0)};
    return set_attributes(tree, &attributes, recursive);
}

// The sandbox may have left links in its own files: none is followed, anywhere.
static long open_plain(int directory, const char *path, int flags, int mode) {
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = (uint64_t)mode,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, directory, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

long ah_attach_tree(int tree, const void *target) {
    long at = open_plain(AT_FDCWD, target, O_PATH, 0);
    if (at < 0) return at;
    long result = syscall(SYS_move_mount, tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    result = result < 0 ? -errno : 0;
    close((int)at);
    return result;
}

// Layers go in as descriptors: short, free of characters that options know, and silent about the host's paths.
long ah_mount_overlay(
    const void *lower, uint32_t count, const void *upper, const void *work, const void *target, int is_volatile) {
    enum { most = 128 };  // what SandboxBounds.layers says; their names fit into one page
    char options[4096], place[32];
    int fds[most + 3], opened = 0;
    long result = count > most ? -E2BIG : 0;
    size_t used = (size_t)snprintf(options, sizeof options, "%slowerdir=", is_volatile ? "volatile," : "");
    const char *path = lower;
    for (uint32_t i = 0; i < count + 3 && result == 0; i++) {
        const char *next = i < count ? path : i == count ? upper : i == count + 1 ? work : target;
        long fd = open_plain(AT_FDCWD, next, O_PATH | O_DIRECTORY, 0);
        if (fd < 0) {
            result = fd;
            break;
        }
        fds[opened++] = (int)fd;
        if (i < count) path += strlen(path) + 1;
        const char *before = i == 0 ? "" : i < count ? ":" : i == count ? ",upperdir=" : ",workdir=";
        if (i == count + 2) snprintf(place, sizeof place, "/proc/self/fd/%ld", fd);
        else used += (size_t)snprintf(options + used, sizeof options - used, "%s/proc/self/fd/%ld", before, fd);
        if (used >= sizeof options) result = -E2BIG;
    }
    if (result == 0 && mount("overlay", place, "overlay", 0, options)) result = -errno;
    while (opened > 0) close(fds[--opened]);
    return result;
}

int ah_is_special_file(const void *root, const void *path) {
    long at = open_plain(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0);
    if (at < 0) return 0;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, (int)at, path, &how, sizeof how);
    close((int)at);
    if (fd < 0) return 0;
    struct stat info;
    int special = fstat((int)fd, &info) == 0 && !S_ISREG(info.st_mode);
    close((int)fd);
    return special;
}

// Opens the folder above the last component of `path`; *name becomes that component. `make` makes what is missing.
static long open_parent(char *path, const char **name, int make, uint32_t uid, uint32_t gid) {
    if (*path != '/') return -EINVAL;
    long at = open_plain(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
    char *part = path + 1;
    for (;;) {
        char *slash = strchr(part, '/');
        if (!slash || at < 0) break;
        *slash = 0;
        long next = *part ? open_plain((int)at, part, O_PATH | O_DIRECTORY, 0) : dup((int)at);
        if (next == -ENOENT && make) {
            next = mkdirat((int)at, part, 0755) && errno != EEXIST ? -errno : 0;
            if (next == 0) next = open_plain((int)at, part, O_PATH | O_DIRECTORY, 0);
            if (next >= 0 && fchownat((int)next, "", uid, gid, AT_EMPTY_PATH)) {
                int code = errno;
                close((int)next);
                next = -code;
            }
        }
        close((int)at);
        at = next;
        part = slash + 1;
    }
    if (at >= 0 && (!strcmp(part, ".") || !strcmp(part, ".."))) {
        close((int)at);
        return -EINVAL;
    }
    *name = part;
    return at;
}

long ah_make_directories(const void *path, uint32_t uid, uint32_t gid) {
    size_t length = strlen(path);
    char *copy = malloc(length + 2);
    if (!copy) return -ENOMEM;
    // With a slash at the end the last folder is a parent, too.
    memcpy(copy, path, length);
    memcpy(copy + length, "/", 2);
    const char *name;
    long at = open_parent(copy, &name, 1, uid, gid);
    free(copy);
    if (at < 0) return at;
    close((int)at);
    return 0;
}

long ah_make_empty_file(const void *path, uint32_t uid, uint32_t gid) {
    char *copy = strdup(path);
    if (!copy) return -ENOMEM;
    const char *name;
    long at = open_parent(copy, &name, 1, uid, gid), result = at;
    if (at >= 0) {
        long fd = open_plain((int)at, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd >= 0) {
            result = fchown((int)fd, uid, gid) ? -errno : 0;
            close((int)fd);
        } else {
            struct stat info;
            result = fd;
            if (fd == -EEXIST && fstatat((int)at, name, &info, AT_SYMLINK_NOFOLLOW) == 0)
                result = S_ISLNK(info.st_mode) ? -ELOOP : S_ISDIR(info.st_mode) ? -EISDIR : 0;
        }
        close((int)at);
    }
    free(copy);
    return result;
}

long ah_replace_file(const void *path, const void *bytes, size_t count, uint32_t uid, uint32_t gid) {
    char *copy = strdup(path);
    if (!copy) return -ENOMEM;
    const char *name;
    long at = open_parent(copy, &name, 0, 0, 0), result = at;
    if (at >= 0) {
        result = unlinkat((int)at, name, 0) && errno != ENOENT ? -errno : 0;
        long fd = result < 0 ? result : open_plain((int)at, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        result = fd < 0 ? fd : 0;
        for (size_t done = 0; result == 0 && done < count;) {
            ssize_t n = write((int)fd, (const char *)bytes + done, count - done);
            if (n < 0 && errno != EINTR) result = -errno;
            if (n > 0) done += (size_t)n;
        }
        if (result == 0 && fchown((int)fd, uid, gid)) result = -errno;
        if (fd >= 0) close((int)fd);
        close((int)at);
    }
    free(copy);
    return result;
}

// Below a sandbox's root its own links count, as they will for its processes; none leads out of it.
static long open_inside(int root, const char *path) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

static long write_all(int fd, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t n = write(fd, bytes, count);
        if (n < 0 && errno != EINTR) return -errno;
        if (n > 0) bytes += n, count -= (size_t)n;
    }
    return 0;
}

// Whether a new file is to take the name: 1, 0, or an error.
static long wants_file(int folder, const char *name, int replace) {
    struct stat info;
    if (fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW)) return errno == ENOENT ? 1 : -errno;
    if (S_ISDIR(info.st_mode)) return -EISDIR;
    if (!replace && !(S_ISREG(info.st_mode) && info.st_size == 0)) return 0;
    return unlinkat(folder, name, 0) ? -errno : 1;
}

static long place(int folder, const char *name, const char *bytes, size_t count, uint32_t uid, uint32_t gid) {
    long fd = open_plain(folder, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0) return fd;
    long result = write_all((int)fd, bytes, count);
    if (result == 0 && (fchown((int)fd, uid, gid) || fchmod((int)fd, 0644))) result = -errno;
    close((int)fd);
    return result;
}

long ah_place_file(const void *root, const void *path, const void *bytes, size_t count, uint32_t uid, uint32_t gid, int replace) {
    long top = open_plain(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0);
    char *copy = strdup(path);
    char *slash = copy ? strrchr(copy, '/') : 0;
    long folder = top < 0 ? top : slash ? 0 : -EINVAL, result = folder;
    if (result == 0) {
        *slash = 0;
        folder = open_inside((int)top, *copy ? copy : "/");
        // A folder of the root itself is made; deeper ones no file of ours needs.
        if (folder == -ENOENT && mkdirat((int)top, copy + 1, 0755) == 0) {
            folder = open_inside((int)top, copy);
            if (folder >= 0 && fchownat((int)folder, "", uid, gid, AT_EMPTY_PATH)) result = -errno;
        }
        if (folder < 0) result = folder;
        if (result == 0) result = wants_file((int)folder, slash + 1, replace);
        if (result == 1) result = place((int)folder, slash + 1, bytes, count, uid, gid);
        if (folder >= 0) close((int)folder);
    }
    if (top >= 0) close((int)top);
    free(copy);
    return result;
}

long ah_expect_kind(const void *root, const void *path, int is_directory) {
    long top = open_plain(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0);
    if (top < 0) return top;
    long fd = open_inside((int)top, path), result = 0;
    struct stat info;
    // What cannot be reached is the runtime's to explain.
    if (fd >= 0 && fstat((int)fd, &info) == 0 && !!S_ISDIR(info.st_mode) != !!is_directory)
        result = is_directory ? -ENOTDIR : -EISDIR;
    if (fd >= 0) close((int)fd);
    close((int)top);
    return result;
}

long ah_remove_file(const void *path) { return unlink(path) ? -errno : 0; }
