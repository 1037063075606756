#define _GNU_SOURCE
#include <fcntl.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "charness_process.h"
#include "internal.h"

// The child runs beside the harness in the harness's memory until its program does: copying an address space costs more
// than all the rest (in gVisor 1.3 ms of 4), and waiting for the child, as vfork does, would let a hanging folder hang the
// harness. So the child makes its system calls without libc, whose errno it would share, allocates nothing, and
// touches nothing but its own launch.
struct ah_launch {
    struct ah_spawn spec;
    char **arguments, **environment;
    int status;                          // the child's end of the pipe that tells when all is decided
    volatile struct ah_start_error error;
    char path[8448];
    _Alignas(16) char stack[16 << 10];
    char texts[];                        // arguments, environment, search path, directory, groups
};

static long raw(long number, long a, long b, long c) { return ah_raw(number, a, b, c, 0, 0); }

static _Noreturn void leave(struct ah_launch *launch, int step, long result, int detail) {
    launch->error.code = (int32_t)-result;
    launch->error.detail = detail;
    launch->error.step = step;
    for (;;) raw(SYS_exit_group, 127, 0, 0);
}

// All but SIGPIPE is as it should be since ah_reset_signals. System calls are dear in gVisor.
static void reset_signals(void) {
    struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } action = {0};
    ah_raw(SYS_rt_sigaction, SIGPIPE, (long)&action, 0, sizeof action.mask, 0);
    ah_raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&action.mask, 0, sizeof action.mask, 0);
}

static long take_stdio(const struct ah_spawn *spec) {
    long from[3] = {spec->input, spec->output, spec->error};
    for (int i = 0; i < 3; i++)
        if (from[i] < 3 && (from[i] = raw(SYS_fcntl, from[i], F_DUPFD_CLOEXEC, 3)) < 0) return from[i];
    for (int i = 0; i < 3; i++) {
        long result = raw(SYS_dup3, from[i], i, 0);
        if (result < 0) return result;
    }
    return 0;
}

static void make_directories(char *path, uint32_t uid, uint32_t gid) {
    for (char *at = path; *at;) {
        while (*at == '/') at++;
        while (*at && *at != '/') at++;
        char kept = *at;
        *at = 0;
        // One that stays root's can be entered all the same.
        if (raw(SYS_mkdirat, AT_FDCWD, (long)path, 0755) == 0)
            ah_raw(SYS_fchownat, AT_FDCWD, (long)path, uid, gid, AT_SYMLINK_NOFOLLOW);
        *at = kept;
    }
}

// The raw calls know of no other threads, of which there are none. Nothing that is so already.
static void take_identity(struct ah_launch *launch) {
    const struct ah_spawn *spec = &launch->spec;
    long result = 0;
    if (spec->group_count > 0 || raw(SYS_getgroups, 0, 0, 0) != 0)
        result = raw(SYS_setgroups, spec->group_count, (long)spec->groups, 0);
    if (result == 0 && (spec->gid != 0 || raw(SYS_getgid, 0, 0, 0) != 0))
        result = raw(SYS_setresgid, spec->gid, spec->gid, spec->gid);
    if (result == 0 && (spec->uid != 0 || raw(SYS_getuid, 0, 0, 0) != 0)) {
        ah_raw(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        result = raw(SYS_setresuid, spec->uid, spec->uid, spec->uid);
    }
    if (result < 0) leave(launch, AH_STEP_USER, result, 0);
}

static int detail_of(const char *path) {
    struct stat info;
    if (ah_raw(SYS_newfstatat, AT_FDCWD, (long)path, (long)&info, 0, 0) < 0) return 0;
    return S_ISDIR(info.st_mode) ? 2 : 1;
}

static long execute(const struct ah_launch *launch, const char *path) {
    return raw(SYS_execve, (long)path, (long)launch->arguments, (long)launch->environment);
}

static _Noreturn void run_program(struct ah_launch *launch) {
    const char *name = launch->arguments[0];
    if (strchr(name, '/')) {
        long result = execute(launch, name);
        leave(launch, AH_STEP_EXEC, result, detail_of(name));
    }
    long worst = -ENOENT;
    int detail = 0;
    size_t length = strlen(name);
    for (const char *at = launch->spec.search; *name && length < 4096; at++) {
        size_t part = strcspn(at, ":");
        if (part < 4096) {
            char *path = launch->path;
            memcpy(path, at, part);
            path[part] = '/';
            memcpy(path + part + (part > 0), name, length + 1);
            long code = execute(launch, path);
            int found = code == -ENOENT || code == -EACCES ? detail_of(path) : 0;
            if (code == -ENOENT && found == 1) detail = 1;
            // The search goes on after what could not be run; folders of that name do not count.
            if (code != -ENOENT && code != -ENOTDIR && found != 2) worst = code;
            if (code != -ENOENT && code != -ENOTDIR && code != -EACCES) break;
        }
        at += part;
        if (!*at) break;
    }
    leave(launch, AH_STEP_EXEC, worst, detail);
}

static int be_child(void *argument) {
    struct ah_launch *launch = argument;
    const struct ah_spawn *spec = &launch->spec;
    reset_signals();
    long result = raw(SYS_setsid, 0, 0, 0);
    if (result >= 0) result = take_stdio(spec);
    if (result < 0) leave(launch, AH_STEP_SETUP, result, 0);
    if (spec->terminal && (result = raw(SYS_ioctl, 0, TIOCSCTTY, 0)) < 0) leave(launch, AH_STEP_TERMINAL, result, 0);
    const char *directory = *(const char *)spec->directory ? spec->directory : "/";
    if (spec->create_directory) make_directories((char *)spec->directory, spec->uid, spec->gid);
    take_identity(launch);
    if ((result = raw(SYS_chdir, (long)directory, 0, 0)) < 0) leave(launch, AH_STEP_DIRECTORY, result, 0);
    run_program(launch);
}

static size_t blob_size(const char *blob, uint32_t count) {
    const char *at = blob;
    for (uint32_t i = 0; i < count; i++) at += strlen(at) + 1;
    return (size_t)(at - blob);
}

static void *put(char **at, const void *bytes, size_t count) {
    void *start = *at;
    if (count > 0) memcpy(start, bytes, count);
    *at += count;
    return start;
}

// The harness goes on at once and may let go of what it was given: the child has all of it in here.
static struct ah_launch *make_launch(const struct ah_spawn *spec) {
    size_t arguments = blob_size(spec->arguments, spec->argument_count);
    size_t environment = blob_size(spec->environment, spec->environment_count);
    size_t search = strlen(spec->search) + 1, directory = strlen(spec->directory) + 1;
    size_t groups = spec->group_count * sizeof *spec->groups;
    struct ah_launch *launch = malloc(sizeof *launch + groups + arguments + environment + search + directory);
    if (!launch) return 0;
    launch->spec = *spec;
    launch->error.step = 0;
    // Numbers first: the place is aligned for them.
    char *at = launch->texts;
    launch->spec.groups = put(&at, spec->groups, groups);
    launch->arguments = ah_text_list(put(&at, spec->arguments, arguments), spec->argument_count);
    launch->environment = ah_text_list(put(&at, spec->environment, environment), spec->environment_count);
    launch->spec.search = put(&at, spec->search, search);
    launch->spec.directory = put(&at, spec->directory, directory);
    if (launch->arguments && launch->environment) return launch;
    ah_forget_launch(launch);
    return 0;
}

void ah_forget_launch(struct ah_launch *launch) {
    if (!launch) return;
    free(launch->arguments), free(launch->environment), free(launch);
}

void ah_launch_error(const struct ah_launch *launch, struct ah_start_error *error) { *error = launch->error; }

long ah_spawn(const struct ah_spawn *spec, int32_t *status, struct ah_launch **out) {
    int ends[2];
    struct ah_launch *launch = make_launch(spec);
    if (!launch) return -ENOMEM;
    if (pipe2(ends, O_CLOEXEC)) {
        long code = errno;
        ah_forget_launch(launch);
        return -code;
    }
    // The harness has 0, 1 and 2 open, so the pipe is not among what becomes stdio. Nothing is ever written to it: it
    // closes when the program runs, or with the child, and then this memory is the harness's alone again.
    launch->status = ends[1];
    int pid = clone(be_child, launch->stack + sizeof launch->stack, CLONE_VM | SIGCHLD, launch);
    long result = pid < 0 ? -errno : pid;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        ah_forget_launch(launch);
        return result;
    }
    *status = ends[0];
    *out = launch;
    return result;
}
