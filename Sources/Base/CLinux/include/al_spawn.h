#ifndef AL_SPAWN_H
#define AL_SPAWN_H
/* Starting, signalling and reaping child processes. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct al_limit {
    int resource;
    uint64_t soft, hard; /* UINT64_MAX: no limit */
};

/* The step of al_spawn that failed. */
enum al_stage {
    AL_STAGE_NONE = 0,
    AL_STAGE_START,
    AL_STAGE_SESSION,
    AL_STAGE_CGROUP,
    AL_STAGE_OOM_SCORE,
    AL_STAGE_LIMIT,
    AL_STAGE_NAMESPACE,
    AL_STAGE_DIRECTORY,
    AL_STAGE_DESCRIPTOR,
    AL_STAGE_TERMINAL,
    AL_STAGE_USER,
    AL_STAGE_PRIVILEGES,
    AL_STAGE_PARENT,
    AL_STAGE_EXEC
};

struct al_spawn {
    const char *path;
    char *const *argv;
    char *const *envp;
    const char *directory; /* NULL: unchanged */
    int directory_fd;      /* -1: none; entered before `directory` */
    const int *sources;    /* sources[i] becomes targets[i] in the child; every other descriptor is closed */
    const int *targets;
    size_t descriptor_count;
    const char *const *cgroups; /* cgroup.procs files that the child writes "0" to */
    size_t cgroup_count;
    const int *namespaces; /* namespace descriptors for setns, in order */
    size_t namespace_count;
    const struct al_limit *limits;
    size_t limit_count;
    int new_session;
    int controlling_terminal; /* descriptor number in the child, -1: none; needs new_session */
    int set_user;
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t group_count;
    int parent_death_signal; /* 0: none. Bound to the calling THREAD. */
    int no_new_privileges;
    int set_oom_score;
    int oom_score;
    int file_mask; /* -1: unchanged */
};

struct al_child {
    pid_t pid;
    int pidfd;
    int stage; /* on failure */
};

/* Returns 0, or the errno value of the failed step (then no child is left). */
int al_spawn(const struct al_spawn *spec, struct al_child *child);

/* 1: ended (then *signalled and *value are set), 0: still running, -1: errno. Reaps. */
int al_reap(int pidfd, int waits, int *signalled, int *value);
int al_pidfd_open(pid_t pid);
int al_pidfd_signal(int pidfd, int signal);

#endif
