#define _GNU_SOURCE
#include "charness_process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"

// What exec would pass on: dispositions and the mask. Raw, for libc keeps two signals to itself that are inherited, too.
void ah_default_signals(void) {
    struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } action = {0};
    for (int n = 1; n <= 64; n++) syscall(SYS_rt_sigaction, n, &action, (void *)0, sizeof action.mask);
    uint64_t none = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, (void *)0, sizeof none);
}

void ah_reset_signals(void) {
    // /proc says what is ignored: in gVisor, where a system call is dear, asking once beats changing 64. Its /proc has no
    // such line, but there the first process never inherits anything.
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    long length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    uint64_t ignored = length > 0 ? 0 : ~0ull;
    if (length > 0) {
        text[length] = 0;
        const char *line = strstr(text, "\nSigIgn:");
        if (line) ignored = strtoull(line + 8, 0, 16);
    }
    struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } action = {0};
    for (int n = 1; n <= 64; n++)
        if ((ignored >> (n - 1) & 1) && n != SIGPIPE)
            syscall(SYS_rt_sigaction, n, &action, (void *)0, sizeof action.mask);
}

// A child of the harness: all but SIGPIPE is as it should be since ah_reset_signals.
static void child_signals(void) {
    signal(SIGPIPE, SIG_DFL);
    uint64_t none = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, (void *)0, sizeof none);
}

char **ah_text_list(const void *blob, uint32_t count) {
    char **list = calloc((size_t)count + 1, sizeof *list);
    const char *at = blob;
    for (uint32_t i = 0; list && i < count; i++) {
        list[i] = (char *)at;
        at += strlen(at) + 1;
    }
    return list;
}

// Copies three descriptors to 0, 1, 2, whatever their numbers are now. The originals must be close-on-exec.
int ah_take_stdio(int input, int output, int error) {
    int from[3] = {input, output, error};
    for (int i = 0; i < 3; i++)
        if (from[i] < 3 && (from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3)) < 0) return -1;
    for (int i = 0; i < 3; i++)
        if (dup2(from[i], i) < 0) return -1;
    return 0;
}

long ah_fork(int input, int output, int error) {
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) return pid;
    child_signals();
    signal(SIGPIPE, SIG_IGN);
    if (setsid() < 0 || ah_take_stdio(input, output, error)) _exit(126);
    ah_close_from(3);
    return 0;
}

struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

// Where close_range is missing (gVisor of 2022), what is open stands in /proc: trying every number takes 0.2 s there.
void ah_close_from(int first) {
    // gVisor reads the last number as a signed one and refuses ~0; walking 4096 numbers took 75 ms and more there.
    if (syscall(SYS_close_range, (unsigned)first, (unsigned)INT_MAX, 0u) == 0) return;
    int list = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list < 0) {
        for (int fd = first; fd < 1024; fd++) close(fd);
        return;
    }
    int open_ones[1024], count = 0;
    char raw[4096] __attribute__((aligned(8)));
    for (long n; (n = syscall(SYS_getdents64, list, raw, sizeof raw)) > 0;) {
        for (long at = 0; at < n; at += ((struct entry *)(raw + at))->length) {
            int fd = atoi(((struct entry *)(raw + at))->name);
            if (fd >= first && fd != list && count < 1024) open_ones[count++] = fd;
        }
    }
    while (count > 0) close(open_ones[--count]);
    close(list);
}

_Noreturn void ah_exit(int code) { _exit(code); }

long ah_child_signals(void) { return ah_block_and_watch(SIGCHLD); }

long ah_reap(uint32_t *code, uint8_t *signal) {
    int status = 0;
    pid_t pid;
    do pid = waitpid(-1, &status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid < 0) return -errno;
    if (pid == 0) return 0;
    *signal = WIFSIGNALED(status) ? (uint8_t)WTERMSIG(status) : 0;
    *code = WIFSIGNALED(status) ? 128u + *signal : (uint32_t)WEXITSTATUS(status);
    return pid;
}

// A pid that came from elsewhere and is 0, 1 or negative would address groups or everybody.
long ah_signal(int pid, int signal) {
    if (pid <= 1) return -EINVAL;
    return kill(pid, signal) ? -errno : 0;
}

long ah_signal_group(int pid, int signal) {
    if (pid <= 1) return -EINVAL;
    if (kill(-pid, signal) == 0) return 0;
    // A child that has not come to its setsid yet has no group of its own.
    return errno == ESRCH ? ah_signal(pid, signal) : -errno;
}

long ah_signal_everyone(int signal) {
    // SAFETY: only PID 1 of a namespace may say "everyone"; elsewhere that would be the whole machine.
    if (getpid() != 1) return -EPERM;
    return kill(-1, signal) ? -errno : 0;
}

long ah_signal_children(int signal, int except) {
    char path[64], text[65536];
    int own = getpid();
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", own, own);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    size_t have = 0;
    for (long n; have < sizeof text - 1; have += (size_t)n) {
        n = read(fd, text + have, sizeof text - 1 - have);
        if (n <= 0) break;
    }
    close(fd);
    text[have] = 0;
    long count = 0;
    for (char *at = text, *end;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) break;
        if (pid <= 1 || pid == except) continue;
        count++;
        kill((pid_t)pid, signal);
    }
    return count;
}

long ah_own_pid(void) { return getpid(); }

long ah_process_descriptor(int pid) {
    if (pid <= 1) return -EINVAL;
    long fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}
