#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "charness_sandbox.h"
#include "internal.h"

static long write_file(const char *path, const void *bytes, size_t count) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t n = write(fd, bytes, count);
    long result = n < 0 ? -errno : (size_t)n == count ? 0 : -EIO;
    close(fd);
    return result;
}

// SIOCSIFFLAGS by hand: a netlink dialogue would be longer.
static int raise_loopback(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strcpy(request.ifr_name, "lo");
    int result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

// The child's side: each step is answered by a byte (0, or an errno); `orders` gives a byte for each step to take.
static _Noreturn void own_namespaces(int orders, int answers, int network) {
    // Last, the holder waits for its parent's end: an end-of-file on the pipe.
    char order;
    unsigned char code = unshare(CLONE_NEWUSER) ? (unsigned char)errno : 0;
    if (write(answers, &code, 1) != 1 || code || read(orders, &order, 1) != 1) _exit(1);
    // A namespace that only holds a map for mounts need not even have an id 0.
    if (network && (syscall(SYS_setgroups, (size_t)0, (void *)0) || syscall(SYS_setresgid, 0, 0, 0)
        || syscall(SYS_setresuid, 0, 0, 0) || unshare(CLONE_NEWNET) || raise_loopback()))
        code = (unsigned char)errno;
    if (write(answers, &code, 1) != 1 || code) _exit(1);
    while (read(orders, &order, 1) < 0 && errno == EINTR) {
    }
    _exit(0);
}

static long await_answer(int fd) {
    unsigned char code;
    long n;
    do n = read(fd, &code, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? -(long)code : -EIO;
}

static long write_maps(pid_t pid, const char *uid_map, const char *gid_map) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    long result = write_file(path, uid_map, strlen(uid_map));
    if (result < 0) return result;
    snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
    return write_file(path, gid_map, strlen(gid_map));
}

static long open_namespace(pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

// Starts the child and leads it through its steps; *orders stays open, its end releases the child.
static long start_holder(const char *uid_map, const char *gid_map, int network, int *orders) {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC)) return -errno;
    if (pipe2(from, O_CLOEXEC)) {
        long code = errno;
        close(to[0]), close(to[1]);
        return -code;
    }
    pid_t pid = fork();
    if (pid == 0) {
        // What the keeper holds (sockets above all) must not live on in here.
        if (dup2(to[0], 0) < 0 || dup2(from[1], 1) < 0) _exit(1);
        ah_close_from(2);
        prctl(PR_SET_NAME, "aegis-ns", 0, 0, 0);
        ah_default_signals();
        own_namespaces(0, 1, network);
    }
    long result = pid < 0 ? -errno : 0;
    close(to[0]), close(from[1]);
    if (result == 0) result = await_answer(from[0]);
    if (result == 0) result = write_maps(pid, uid_map, gid_map);
    if (result == 0 && write(to[1], "", 1) != 1) result = -EIO;
    if (result == 0) result = await_answer(from[0]);
    close(from[0]);
    if (result < 0) {
        close(to[1]);
        if (pid > 1) kill(pid, SIGKILL), waitpid(pid, 0, 0);
        return result;
    }
    *orders = to[1];
    return pid;
}

long ah_make_namespaces(const void *uid_map, const void *gid_map, int32_t *user, int32_t *network) {
    int orders;
    long pid = start_holder(uid_map, gid_map, 1, &orders);
    if (pid < 0) return pid;
    long user_fd = open_namespace((pid_t)pid, "user"), network_fd = open_namespace((pid_t)pid, "net");
    // `orders` is left open on purpose: it closes with the caller.
    *user = (int32_t)user_fd;
    *network = (int32_t)network_fd;
    return user_fd < 0 ? user_fd : network_fd < 0 ? network_fd : pid;
}

long ah_make_user_namespace(const void *uid_map, const void *gid_map) {
    int orders;
    long pid = start_holder(uid_map, gid_map, 0, &orders);
    if (pid < 0) return pid;
    long fd = open_namespace((pid_t)pid, "user");
    close(orders);
    waitpid((pid_t)pid, 0, 0);
    return fd;
}

static _Noreturn void fail(const char *what) {
    int code = errno;
    dprintf(2, "%s: %s\n", what, strerrordesc_np(code) ? strerrordesc_np(code) : "unknown error");
    _exit(127);
}

static void enter(const struct ah_runtime *runtime) {
    if (runtime->user_namespace < 0) return;
    if (setns(runtime->user_namespace, CLONE_NEWUSER)) fail("entering the user namespace");
    if (setns(runtime->network_namespace, CLONE_NEWNET)) fail("entering the network namespace");
    if (unshare(CLONE_NEWNS)) fail("making a mount namespace");
    if (syscall(SYS_setgroups, (size_t)0, (void *)0) || syscall(SYS_setresgid, 0, 0, 0)
        || syscall(SYS_setresuid, 0, 0, 0))
        fail("becoming the namespace's root");
}

long ah_start_runtime(const struct ah_runtime *runtime) {
    char **arguments = ah_text_list(runtime->arguments, runtime->argument_count);
    char **environment = ah_text_list(runtime->environment, runtime->environment_count);
    char **cgroups = ah_text_list(runtime->cgroups, runtime->cgroup_count);
    pid_t pid = arguments && environment && cgroups ? fork() : (errno = ENOMEM, -1);
    if (pid == 0) {
        ah_default_signals();
        setsid();
        struct ah_runtime copy = *runtime;
        // Above the three that become stdio, so that none is overwritten before it is used.
        if (copy.user_namespace >= 0) {
            copy.user_namespace = fcntl(copy.user_namespace, F_DUPFD_CLOEXEC, 10);
            copy.network_namespace = fcntl(copy.network_namespace, F_DUPFD_CLOEXEC, 10);
            if (copy.user_namespace < 0 || copy.network_namespace < 0) _exit(127);
        }
        if (ah_take_stdio(runtime->channel, runtime->channel, runtime->error)) _exit(127);
        // The keeper's protection from the OOM killer is not the sandbox's.
        write_file("/proc/self/oom_score_adj", "0", 1);
        for (char **path = cgroups; *path; path++)
            if ((errno = (int)-write_file(*path, "0", 1))) fail(*path);
        enter(&copy);
        execve(arguments[0], arguments, environment);
        fail(arguments[0]);
    }
    long result = pid < 0 ? -errno : pid;
    free(arguments), free(environment), free(cgroups);
    return result;
}

long ah_child_descriptor(int pid) {
    if (pid <= 1) return -EINVAL;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return -errno;
    siginfo_t info;
    // P_PIDFD = 3; ECHILD: that process is not ours, whatever the file said.
    if (waitid((idtype_t)3, (id_t)fd, &info, WEXITED | WNOHANG | WNOWAIT) == 0) return fd;
    int code = errno;
    close(fd);
    return -code;
}

long ah_kill_descriptor(int pidfd) { return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0) ? -errno : 0; }
