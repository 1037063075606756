// What a helper does to itself before it reads anything hostile. All of it works on the calling thread or process only and
// is meant for a process with one thread. Each call returns 0 (or a descriptor), or -errno.
#ifndef AL_CONFINE_H
#define AL_CONFINE_H
#include <stddef.h>
#include <stdint.h>

/// Closes every descriptor that is not in `keep` (ascending order).
int al_confine_close_others(const int *keep, size_t count);
/// A new user namespace whose ids 0..<count are `outside`..<outside+count here; needs CAP_SETUID and CAP_SETGID.
int al_confine_user_namespace(uint32_t outside, uint32_t count);
/// A detached mount of a directory, on which the ids on disk are those inside `user_namespace`; nosuid, nodev, noexec.
/// A negative `user_namespace` leaves the ids as they are.
int al_confine_mapped_tree(int directory, int user_namespace, int read_only);
/// Enters a user namespace as its root, and makes fresh mount, IPC, UTS and (when asked) network namespaces in it.
int al_confine_enter(int user_namespace, int empty_network);
/// Replaces everything that can be seen by an empty, read-only root.
int al_confine_empty_root(void);
/// Covers a directory with a small empty tmpfs.
int al_confine_cover(const char *place);
/// Makes `path` and mounts the detached `tree` there.
int al_confine_mount(int tree, const char *path);
/// A memory file of `uid`'s with what can be read from `source`, at most `limit` bytes; it gets the number `number`.
int al_confine_private_copy(int source, uint32_t uid, size_t limit, int number);
int al_confine_close_on_exec(int fd);
int al_confine_working_directory(const char *path);
/// Allows file access beneath these directories only: descriptors with full access, then paths to read and execute.
/// Paths that do not exist are left out. Needs Landlock.
int al_confine_landlock(const int *writable, size_t writable_count, const char *const *readable, size_t readable_count);
/// Gives up every capability but those of `keep` (bit numbers), in all sets, for this process and what it executes.
int al_confine_keep_capabilities(uint64_t keep);
/// Sets soft and hard limit of a resource (`RLIMIT_*`).
int al_confine_limit(int resource, uint64_t value);
/// no_new_privs, not dumpable, and SIGKILL when the process `parent` is gone.
int al_confine_seal(int parent);
/// This process, its parent, and how many threads it has.
int al_confine_self(void);
int al_confine_parent(void);
int al_confine_threads(void);
/// Makes text functions take bytes as UTF-8, so that names keep theirs. False when the system has no such locale.
int al_confine_utf8(void);
/// A variable of the environment, or NULL.
const char *al_confine_environment(const char *name);
/// Replaces the process.
int al_confine_execute(const char *path, char *const *arguments, char *const *environment);

enum {
    AL_LIMIT_ADDRESS_SPACE = 0,
    AL_LIMIT_CPU_SECONDS = 1,
    AL_LIMIT_FILE_SIZE = 2,
    AL_LIMIT_FILES = 3,
    AL_LIMIT_PROCESSES = 4,
    AL_LIMIT_CORE = 5,
};

#endif
