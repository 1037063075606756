#define _GNU_SOURCE
#include "al_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// <sys/mount.h> and <linux/mount.h> disagree in this C library: the few names of the first are declared here.
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define MS_RDONLY_ 1ul
#define MS_NOSUID_ 2ul
#define MS_NODEV_ 4ul
#define MS_NOEXEC_ 8ul
#define MS_REMOUNT_ 32ul
#define MS_REC_ 16384ul
#define MS_PRIVATE_ (1ul << 18)
#define MNT_DETACH_ 2

int al_confine_close_others(const int *keep, size_t count) {
    unsigned from = 0;
    for (size_t i = 0; i < count; i++) {
        if (keep[i] < (int)from) return -EINVAL;
        if ((unsigned)keep[i] > from && syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0) < 0) return -errno;
        from = (unsigned)keep[i] + 1;
    }
    return syscall(SYS_close_range, from, ~0u, 0) < 0 ? -errno : 0;
}

static int write_map(pid_t pid, const char *file, uint32_t outside, uint32_t count) {
    char path[64], line[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int size = snprintf(line, sizeof line, "0 %u %u\n", outside, count);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int result = write(fd, line, (size_t)size) == size ? 0 : -errno;
    close(fd);
    return result;
}

int al_confine_user_namespace(uint32_t outside, uint32_t count) {
    // The process that makes the namespace only holds it until there is a descriptor of it.
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) < 0) return -errno;
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0) { int code = errno; close(gate[0]); close(gate[1]); return -code; }
    if (pid == 0) {
        char byte;
        syscall(SYS_close, gate[1]);
        (void)!read(gate[0], &byte, 1);
        syscall(SYS_exit_group, 0);
    }
    close(gate[0]);
    int result = write_map((pid_t)pid, "uid_map", outside, count);
    if (result == 0) result = write_map((pid_t)pid, "gid_map", outside, count);
    if (result == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        result = open(path, O_RDONLY | O_CLOEXEC);
        if (result < 0) result = -errno;
    }
    close(gate[1]);
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR) {}
    return result;
}

int al_confine_mapped_tree(int directory, int user_namespace, int read_only) {
    int tree = (int)syscall(SYS_open_tree, directory, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0) return -errno;
    struct mount_attr attributes = {
        .attr_set = (user_namespace < 0 ? 0 : MOUNT_ATTR_IDMAP) | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
            | (read_only ? MOUNT_ATTR_RDONLY : 0),
        .userns_fd = user_namespace < 0 ? 0 : (unsigned)user_namespace,
    };
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) {
        int code = errno;
        close(tree);
        return -code;
    }
    return tree;
}

int al_confine_enter(int user_namespace, int empty_network) {
    if (setgroups(0, NULL) < 0) return -errno;
    if (setns(user_namespace, CLONE_NEWUSER) < 0) return -errno;
    // The raw calls: glibc's would look for other threads to change along.
    if (syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0) return -errno;
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (empty_network ? CLONE_NEWNET : 0)) < 0) return -errno;
    if (mount(NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL) < 0) return -errno;
    return 0;
}

int al_confine_empty_root(void) {
    if (mount("none", "/tmp", "tmpfs", MS_NOSUID_ | MS_NODEV_ | MS_NOEXEC_, "size=4k,nr_inodes=2,mode=555") < 0) return -errno;
    if (chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0) return -errno;
    if (umount2(".", MNT_DETACH_) < 0 || chdir("/") < 0) return -errno;
    if (mount(NULL, "/", NULL, MS_REMOUNT_ | MS_RDONLY_ | MS_NOSUID_ | MS_NODEV_ | MS_NOEXEC_, "size=4k,nr_inodes=2") < 0) return -errno;
    return 0;
}

int al_confine_cover(const char *place) {
    unsigned long flags = MS_NOSUID_ | MS_NODEV_ | MS_NOEXEC_;
    return mount("none", place, "tmpfs", flags, "size=64k,nr_inodes=16,mode=755") < 0 ? -errno : 0;
}

int al_confine_mount(int tree, const char *path) {
    struct stat s;
    if (fstat(tree, &s) < 0) return -errno;
    if (S_ISDIR(s.st_mode)) {
        if (mkdir(path, 0755) < 0) return -errno;
    } else {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0) return -errno;
        close(fd);
    }
    return syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

int al_confine_private_copy(int source, uint32_t uid, size_t limit, int number) {
    int copy = memfd_create("credentials", MFD_CLOEXEC);
    if (copy < 0) return -errno;
    char buffer[4096];
    size_t total = 0;
    int result = 0;
    for (;;) {
        ssize_t count = read(source, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) result = -errno;
        if (count <= 0) break;
        if ((total += (size_t)count) > limit) { result = -EFBIG; break; }
        if (write(copy, buffer, (size_t)count) != count) { result = -errno; break; }
    }
    explicit_bzero(buffer, sizeof buffer);
    if (result == 0 && (fchown(copy, uid, uid) < 0 || fchmod(copy, 0400) < 0 || dup2(copy, number) < 0)) result = -errno;
    close(copy);
    return result;
}

int al_confine_close_on_exec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0; }
int al_confine_working_directory(const char *path) { return chdir(path) < 0 ? -errno : 0; }

#define READING (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FIRST_VERSION ((1ull << 13) - 1)
#define DEVICES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_EXECUTE)

static int allow(int rules, int fd, uint64_t access) {
    struct stat s;
    if (fstat(fd, &s) < 0) return -errno;
    if (!S_ISDIR(s.st_mode)) {
        access &= LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | (1ull << 14);
    }
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

int al_confine_landlock(const int *writable, size_t writable_count, const char *const *readable, size_t readable_count) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) return errno ? -errno : -ENOSYS;
    // Renaming and linking between directories (2), truncating (3) and device ioctls (5) came with later versions.
    uint64_t all = FIRST_VERSION | (version >= 2 ? 1ull << 13 : 0) | (version >= 3 ? 1ull << 14 : 0)
        | (version >= 5 ? 1ull << 15 : 0);
    struct landlock_ruleset_attr attributes = {.handled_access_fs = all};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    if (rules < 0) return -errno;
    int result = 0;
    for (size_t i = 0; i < writable_count && result == 0; i++) {
        result = allow(rules, writable[i], all & ~(uint64_t)DEVICES & ~(1ull << 15));
    }
    for (size_t i = 0; i < readable_count && result == 0; i++) {
        int fd = open(readable[i], O_PATH | O_CLOEXEC);
        if (fd < 0 && (errno == ENOENT || errno == EACCES)) continue;
        result = fd < 0 ? -errno : allow(rules, fd, all & READING);
        if (fd >= 0) close(fd);
    }
    if (result == 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0) result = -errno;
    close(rules);
    return result;
}

int al_confine_keep_capabilities(uint64_t keep) {
    for (int i = 0; i <= 63; i++) {
        if (keep & (1ull << i)) continue;
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) < 0) break;
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0) return -errno;
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    uint32_t low = (uint32_t)keep, high = (uint32_t)(keep >> 32);
    struct __user_cap_data_struct data[2] = {{low, low, 0}, {high, high, 0}};
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int al_confine_limit(int resource, uint64_t value) {
    static const int kinds[] = {RLIMIT_AS, RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_CORE};
    if (resource < 0 || resource >= (int)(sizeof kinds / sizeof kinds[0])) return -EINVAL;
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value};
    return setrlimit((__rlimit_resource_t)kinds[resource], &limit) < 0 ? -errno : 0;
}

int al_confine_seal(int parent) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return -errno;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) return -errno;
    // The parent may have died before the line above.
    return getppid() == parent ? 0 : -ESRCH;
}

int al_confine_self(void) { return (int)getpid(); }
int al_confine_parent(void) { return (int)getppid(); }
int al_confine_threads(void) {
    struct stat s;
    // A directory has one link more per subdirectory, and one for itself.
    return stat("/proc/self/task", &s) < 0 ? -errno : (int)s.st_nlink - 2;
}
int al_confine_utf8(void) { return setlocale(LC_CTYPE, "C.UTF-8") != NULL; }

const char *al_confine_environment(const char *name) { return getenv(name); }

int al_confine_execute(const char *path, char *const *arguments, char *const *environment) {
    execve(path, arguments, environment);
    return -errno;
}
