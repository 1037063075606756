#define _GNU_SOURCE
#include <fcntl.h>
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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
    volatile struct ah_start_error error;
    uint32_t go;                         // of a spare: 1 when it is told what to run
    uint8_t is_root;                     // of a spare: it has no identity but root's
    uint8_t is_there;                    // of a spare: it is in the directory of what it runs
    uint8_t has_found;                   // of a spare: the announced program is at `found`
    const char *program, *search;        // of a spare: what was announced
    char *found;
    char path[8448];
    _Alignas(16) char stack[16 << 10];
    char *texts;                         // arguments, environment, search path, directory, groups
    char waiting_in[];                   // a spare's directory, and what was announced
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
    if (launch->is_root && spec->group_count == 0 && spec->uid == 0 && spec->gid == 0) return;
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

static const char *put_path(char *path, const char *folder, size_t part, const char *name, size_t length) {
    memcpy(path, folder, part);
    path[part] = '/';
    memcpy(path + part + (part > 0), name, length + 1);
    return path;
}

// Whether something of that name is there after all, whose interpreter is not. Looked for only when nothing could be run:
// before each place that has no such program it would be one more system call.
static int search_detail(struct ah_launch *launch, const char *name, size_t length) {
    for (const char *at = launch->spec.search; *name && length < 4096; at++) {
        size_t part = strcspn(at, ":");
        if (part < 4096 && detail_of(put_path(launch->path, at, part, name, length)) == 1) return 1;
        at += part;
        if (!*at) break;
    }
    return 0;
}

// Takes a look at what may be the announced program. Opened, it costs the kernel of gVisor no question to the host any more.
static long look_at(struct ah_launch *launch) {
    struct stat info;
    long result = ah_raw(SYS_newfstatat, AT_FDCWD, (long)launch->found, (long)&info, 0, 0);
    // Whatever else is there may answer an open with who knows what.
    if (result == 0 && S_ISREG(info.st_mode)) {
        raw(SYS_openat, AT_FDCWD, (long)launch->found, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        launch->has_found = 1;
    }
    return result;
}

// Where the search for the announced program will end, or nowhere. An attempt to run what is not there takes twice as long as a look.
static void find_program(struct ah_launch *launch) {
    const char *name = launch->program;
    size_t length = strlen(name);
    if (strchr(name, '/')) {
        memcpy(launch->found, name, length + 1);
        look_at(launch);
        return;
    }
    for (const char *at = launch->search; *name && length < 4096; at++) {
        size_t part = strcspn(at, ":");
        if (part < 4096) {
            put_path(launch->found, at, part, name, length);
            long result = look_at(launch);
            if (result != -ENOENT && result != -ENOTDIR) return;
        }
        at += part;
        if (!*at) break;
    }
}

// What the spare has found is where a search would come to, for all before it is not there. If it cannot be run, the search says why.
static void run_found(const struct ah_launch *launch) {
    if (launch->has_found && launch->is_there && strcmp(launch->program, launch->arguments[0]) == 0
        && strcmp(launch->search, launch->spec.search) == 0)
        execute(launch, launch->found);
}

static _Noreturn void run_program(struct ah_launch *launch) {
    const char *name = launch->arguments[0];
    if (strchr(name, '/')) {
        long result = execute(launch, name);
        leave(launch, AH_STEP_EXEC, result, detail_of(name));
    }
    long worst = -ENOENT;
    size_t length = strlen(name);
    for (const char *at = launch->spec.search; *name && length < 4096; at++) {
        size_t part = strcspn(at, ":");
        if (part < 4096) {
            long code = execute(launch, put_path(launch->path, at, part, name, length));
            // The search goes on after what could not be run; folders of that name do not count.
            if (code != -ENOENT && code != -ENOTDIR && (code != -EACCES || detail_of(launch->path) != 2)) worst = code;
            if (code != -ENOENT && code != -ENOTDIR && code != -EACCES) break;
        }
        at += part;
        if (!*at) break;
    }
    leave(launch, AH_STEP_EXEC, worst, worst == -ENOENT ? search_detail(launch, name, length) : 0);
}

// A folder that is not there is made as root, and entered with the rights of the process's user.
static void enter_directory(struct ah_launch *launch) {
    const struct ah_spawn *spec = &launch->spec;
    const char *directory = *(const char *)spec->directory ? spec->directory : "/";
    long result = 0;
    if (!launch->is_there && (spec->uid == 0 || spec->create_directory)) result = raw(SYS_chdir, (long)directory, 0, 0);
    if (result == -ENOENT && spec->create_directory) {
        make_directories((char *)spec->directory, spec->uid, spec->gid);
        result = raw(SYS_chdir, (long)directory, 0, 0);
    }
    take_identity(launch);
    if (spec->uid != 0) result = raw(SYS_chdir, (long)directory, 0, 0);
    if (result < 0) leave(launch, AH_STEP_DIRECTORY, result, 0);
}

static void set_up(struct ah_launch *launch) {
    reset_signals();
    long result = raw(SYS_setsid, 0, 0, 0);
    if (result >= 0) result = take_stdio(&launch->spec);
    if (result < 0) leave(launch, AH_STEP_SETUP, result, 0);
}

static int be_child(void *argument) {
    struct ah_launch *launch = argument;
    set_up(launch);
    long result = launch->spec.terminal ? raw(SYS_ioctl, 0, TIOCSCTTY, 0) : 0;
    if (result < 0) leave(launch, AH_STEP_TERMINAL, result, 0);
    enter_directory(launch);
    run_program(launch);
}

// All that needs no word of what is to run comes before the wait.
static int be_spare(void *argument) {
    struct ah_launch *launch = argument;
    set_up(launch);
    int is_in = raw(SYS_chdir, (long)launch->waiting_in, 0, 0) == 0;
    if (is_in) find_program(launch);
    while (__atomic_load_n(&launch->go, __ATOMIC_ACQUIRE) == 0)
        ah_raw(SYS_futex, (long)&launch->go, FUTEX_WAIT_PRIVATE, 0, 0, 0);
    launch->is_there = is_in && strcmp(launch->spec.directory, launch->waiting_in) == 0;
    enter_directory(launch);
    run_found(launch);
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
static int fill_in(struct ah_launch *launch, const struct ah_spawn *spec) {
    size_t arguments = blob_size(spec->arguments, spec->argument_count);
    size_t environment = blob_size(spec->environment, spec->environment_count);
    size_t search = strlen(spec->search) + 1, directory = strlen(spec->directory) + 1;
    size_t groups = spec->group_count * sizeof *spec->groups;
    launch->texts = malloc(groups + arguments + environment + search + directory);
    if (!launch->texts) return 0;
    launch->spec = *spec;
    // Numbers first: the place is aligned for them.
    char *at = launch->texts;
    launch->spec.groups = put(&at, spec->groups, groups);
    launch->arguments = ah_text_list(put(&at, spec->arguments, arguments), spec->argument_count);
    launch->environment = ah_text_list(put(&at, spec->environment, environment), spec->environment_count);
    launch->spec.search = put(&at, spec->search, search);
    launch->spec.directory = put(&at, spec->directory, directory);
    return launch->arguments && launch->environment;
}

static struct ah_launch *make_launch(const char *waiting_in, const char *program, const char *search) {
    size_t length = strlen(waiting_in) + 1, name = strlen(program) + 1, path = strlen(search) + 1;
    // What is found is no longer than a folder of the path and the name.
    struct ah_launch *launch = malloc(sizeof *launch + length + 2 * (name + path));
    if (!launch) return 0;
    launch->arguments = launch->environment = 0;
    launch->texts = 0;
    launch->error.step = 0;
    launch->go = 0;
    launch->is_root = launch->is_there = launch->has_found = 0;
    char *at = launch->waiting_in;
    put(&at, waiting_in, length);
    launch->program = put(&at, program, name);
    launch->search = put(&at, search, path);
    launch->found = at;
    return launch;
}

void ah_forget_launch(struct ah_launch *launch) {
    if (!launch) return;
    free(launch->arguments), free(launch->environment), free(launch->texts), free(launch);
}

void ah_launch_error(const struct ah_launch *launch, struct ah_start_error *error) { *error = launch->error; }

// The harness has 0, 1 and 2 open, so the pipe is not among what becomes stdio. Nothing is ever written to it: it
// closes when the program runs, or with the child, and then this memory is the harness's alone again.
static long begin(struct ah_launch *launch, int (*child)(void *)) {
    int pid = clone(child, launch->stack + sizeof launch->stack, CLONE_VM | SIGCHLD, launch);
    return pid < 0 ? -errno : pid;
}

long ah_spawn(const struct ah_spawn *spec, int32_t *status, struct ah_launch **out) {
    struct ah_launch *launch = make_launch("", "", "");
    if (!launch) return -ENOMEM;
    int ends[2];
    long result = !fill_in(launch, spec) ? -ENOMEM : pipe2(ends, O_CLOEXEC) ? -errno : 0;
    if (result == 0) {
        result = begin(launch, be_child);
        close(ends[1]);
        if (result < 0) close(ends[0]);
        else *status = ends[0];
    }
    if (result < 0) ah_forget_launch(launch);
    else *out = launch;
    return result;
}

// Whether children have no identity but root's to begin with. That of the harness never changes.
int ah_is_plain_root(void) {
    static int known = -1;
    if (known < 0) known = getgroups(0, 0) == 0 && getgid() == 0 && getuid() == 0;
    return known;
}

long ah_spare(
    const struct ah_spawn *streams, const char *directory, const char *program, const char *search, struct ah_launch **out
) {
    struct ah_launch *launch = make_launch(directory, program, search);
    if (!launch) return -ENOMEM;
    launch->spec = *streams;
    launch->is_root = (uint8_t)ah_is_plain_root();
    long result = begin(launch, be_spare);
    if (result < 0) ah_forget_launch(launch);
    else *out = launch;
    return result;
}

long ah_tell_spare(struct ah_launch *launch, const struct ah_spawn *spec) {
    // It may not have come to its wait yet: what it looks at until then stays as it is.
    if (!fill_in(launch, spec)) return -ENOMEM;
    __atomic_store_n(&launch->go, 1, __ATOMIC_RELEASE);
    ah_raw(SYS_futex, (long)&launch->go, FUTEX_WAKE_PRIVATE, 1, 0, 0);
    return 0;
}

void ah_end_spare(int pid) {
    if (pid <= 1) return;
    kill(pid, SIGKILL);
    while (waitpid(pid, 0, 0) < 0 && errno == EINTR) {
    }
}
