#define _GNU_SOURCE 1
#include "al_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { CHILD_STACK = 128 * 1024 };

struct failure {
    int code;
    int stage;
};

struct job {
    const struct al_spawn *spec;
    int *scratch; /* descriptor_count numbers */
    int report;   /* write end of the failure pipe */
    pid_t parent;
};

/* Everything below runs in the child, which may share the parent's memory: only system calls, no allocation, no locks. */

static int write_text(const char *path, const char *text) {
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    ssize_t written = write(descriptor, text, strlen(text));
    int saved = errno;
    close(descriptor);
    errno = saved;
    return written < 0 ? -1 : 0;
}

static void reset_signals(void) {
    /* The kernel's own call: glibc hides the signals 32 and 33, which a parent may have ignored. All zeros is SIG_DFL. */
    long standard[8] = {0};
    for (int number = 1; number <= 64; number++) syscall(SYS_rt_sigaction, number, standard, NULL, 8);
}

static int set_oom_score(int score) {
    char text[16];
    int length = 0, magnitude = score < 0 ? -score : score;
    char digits[8];
    do digits[length++] = (char)('0' + magnitude % 10), magnitude /= 10;
    while (magnitude && length < 8);
    int at = 0;
    if (score < 0) text[at++] = '-';
    while (length) text[at++] = digits[--length];
    text[at] = 0;
    return write_text("/proc/self/oom_score_adj", text);
}

/* close_range marks everything; where it is missing, walk the table. */
static int mark_all_close_on_exec(void) {
    if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) == 0) return 0;
    if (errno != ENOSYS && errno != EINVAL) return -1;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
    rlim_t top = limit.rlim_cur > 1048576 ? 1048576 : limit.rlim_cur;
    for (int descriptor = 3; descriptor < (int)top; descriptor++) {
        int flags = fcntl(descriptor, F_GETFD);
        if (flags >= 0 && fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) < 0) return -1;
    }
    return 0;
}

/* Sources move out of the way of every target first, so that no order of numbers can lose one. */
static int place_descriptors(struct job *job) {
    const struct al_spawn *spec = job->spec;
    int above = 3;
    for (size_t i = 0; i < spec->descriptor_count; i++)
        if (spec->targets[i] >= above) above = spec->targets[i] + 1;
    int report = fcntl(job->report, F_DUPFD_CLOEXEC, above);
    if (report < 0) return -1;
    job->report = report;
    for (size_t i = 0; i < spec->descriptor_count; i++) {
        job->scratch[i] = fcntl(spec->sources[i], F_DUPFD_CLOEXEC, above);
        if (job->scratch[i] < 0) return -1;
    }
    if (mark_all_close_on_exec() < 0) return -1;
    for (int number = 0; number < 3; number++) {
        int wanted = 0;
        for (size_t i = 0; i < spec->descriptor_count; i++) wanted |= spec->targets[i] == number;
        if (!wanted) close(number);
    }
    for (size_t i = 0; i < spec->descriptor_count; i++)
        if (dup2(job->scratch[i], spec->targets[i]) < 0) return -1;
    return 0;
}

/* Raw calls: glibc's versions would try to change the threads of the parent, whose memory this may be. */
static int become_user(const struct al_spawn *spec) {
    if (syscall(SYS_setgroups, spec->group_count, spec->groups) < 0) return -1;
    if (syscall(SYS_setresgid, spec->gid, spec->gid, spec->gid) < 0) return -1;
    return (int)syscall(SYS_setresuid, spec->uid, spec->uid, spec->uid);
}

static int set_limits(const struct al_spawn *spec) {
    for (size_t i = 0; i < spec->limit_count; i++) {
        struct rlimit limit = {.rlim_cur = (rlim_t)spec->limits[i].soft, .rlim_max = (rlim_t)spec->limits[i].hard};
        if (setrlimit(spec->limits[i].resource, &limit) < 0) return -1;
    }
    return 0;
}

static int tie_to_parent(const struct job *job) {
    if (prctl(PR_SET_PDEATHSIG, job->spec->parent_death_signal) < 0) return -1;
    if (getppid() == job->parent) return 0;
    errno = ESRCH; /* the parent went before the signal was set */
    return -1;
}

/* Returns the stage that failed, with errno set; does not return when all went well. */
static int become(struct job *job) {
    const struct al_spawn *spec = job->spec;
    reset_signals();
    if (spec->new_session && setsid() < 0) return AL_STAGE_SESSION;
    for (size_t i = 0; i < spec->cgroup_count; i++)
        if (write_text(spec->cgroups[i], "0") < 0) return AL_STAGE_CGROUP;
    if (spec->set_oom_score && set_oom_score(spec->oom_score) < 0) return AL_STAGE_OOM_SCORE;
    for (size_t i = 0; i < spec->namespace_count; i++)
        if (setns(spec->namespaces[i], 0) < 0) return AL_STAGE_NAMESPACE;
    if (spec->directory_fd >= 0 && fchdir(spec->directory_fd) < 0) return AL_STAGE_DIRECTORY;
    if (place_descriptors(job) < 0) return AL_STAGE_DESCRIPTOR;
    if (set_limits(spec) < 0) return AL_STAGE_LIMIT;
    if (spec->controlling_terminal >= 0 && ioctl(spec->controlling_terminal, TIOCSCTTY, 0) < 0) return AL_STAGE_TERMINAL;
    if (spec->file_mask >= 0) umask((mode_t)spec->file_mask);
    if (spec->set_user && become_user(spec) < 0) return AL_STAGE_USER;
    if (spec->directory && chdir(spec->directory) < 0) return AL_STAGE_DIRECTORY;
    if (spec->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return AL_STAGE_PRIVILEGES;
    /* After the change of user, which clears it. */
    if (spec->parent_death_signal && tie_to_parent(job) < 0) return AL_STAGE_PARENT;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(spec->path, spec->argv, spec->envp);
    return AL_STAGE_EXEC;
}

static int child_main(void *raw) {
    struct job *job = raw;
    int stage = become(job);
    struct failure failure = {.code = errno, .stage = stage};
    ssize_t ignored = write(job->report, &failure, sizeof failure);
    (void)ignored;
    _exit(127);
}

/* The parent's side. */

static int start(struct job *job, struct al_child *child, int read_end) {
    const struct al_spawn *spec = job->spec;
    /* A child that changes its user or namespaces gets its own memory: credentials reach the shared memory's dumpable flag. */
    int own_memory = spec->set_user || spec->namespace_count;
    int flags = CLONE_VFORK | CLONE_PIDFD | SIGCHLD | (own_memory ? 0 : CLONE_VM);
    char *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int report = job->report, pidfd = -1;
    pid_t pid = clone(child_main, stack + CHILD_STACK, flags, job, &pidfd);
    int failed = pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, CHILD_STACK);
    close(report); /* the parent's own number: the child may have moved job->report in shared memory */
    if (failed) return failed;
    struct failure failure = {0, 0};
    ssize_t got;
    do got = read(read_end, &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    if (got == sizeof failure) {
        siginfo_t info;
        while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR) {}
        close(pidfd);
        child->stage = failure.stage;
        return failure.code;
    }
    child->pid = pid;
    child->pidfd = pidfd;
    return 0;
}

int al_spawn(const struct al_spawn *spec, struct al_child *child) {
    child->pid = -1;
    child->pidfd = -1;
    child->stage = AL_STAGE_START;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return errno;
    struct job job = {.spec = spec, .report = ends[1], .parent = getpid()};
    job.scratch = calloc(spec->descriptor_count + 1, sizeof *job.scratch);
    int failed;
    if (job.scratch) {
        failed = start(&job, child, ends[0]);
    } else {
        failed = ENOMEM;
        close(ends[1]);
    }
    free(job.scratch);
    close(ends[0]);
    return failed;
}

int al_reap(int pidfd, int waits, int *signalled, int *value) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result;
    do result = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | (waits ? 0 : WNOHANG));
    while (result < 0 && errno == EINTR);
    if (result < 0) return -1;
    if (info.si_pid == 0) return 0;
    *signalled = info.si_code != CLD_EXITED;
    *value = info.si_status;
    return 1;
}

int al_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int al_pidfd_signal(int pidfd, int signal) { return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0); }
