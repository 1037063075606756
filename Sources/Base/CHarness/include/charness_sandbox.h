// Namespaces, mounts and the runtime: what a keeper does to the host.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Forks a process that owns a new user namespace with these maps (text as in /proc/PID/uid_map) and a new network
// namespace with `lo` up. Returns its pid; it ends with the caller. Descriptors of the namespaces in *user, *network.
long ah_make_namespaces(const void *uid_map, const void *gid_map, int32_t *user, int32_t *network);
// A descriptor of a user namespace with these maps.
long ah_make_user_namespace(const void *uid_map, const void *gid_map);
// An own, private copy of the mount namespace; returns a descriptor of the old one.
long ah_own_mounts(void);
long ah_leave_mounts(int old);
// A detached copy of the mount tree at a descriptor (of the folder alone unless `recursive`).
long ah_clone_tree(int source, int recursive);
long ah_idmap_tree(int tree, int user_namespace);
// nodev, nosuid and perhaps read-only.
long ah_restrict_tree(int tree, int read_only, int recursive);
// Attaches a detached tree; no component of `target` may be a symbolic link.
long ah_attach_tree(int tree, const void *target);
// `lower` is `count` NUL-terminated paths, top to bottom.
// A volatile one is never synced.
long ah_mount_overlay(
    const void *lower, uint32_t count, const void *upper, const void *work, const void *target, int is_volatile);
// Whether there is something at `path`, with links resolved as if `root` were the root, that is no regular file.
int ah_is_special_file(const void *root, const void *path);
// Both refuse symbolic links on the way; what they make belongs to uid:gid.
long ah_make_directories(const void *path, uint32_t uid, uint32_t gid);
long ah_make_empty_file(const void *path, uint32_t uid, uint32_t gid);
// Puts a file of mode 0644 and of uid:gid at `path` below `root`; links are resolved inside of that, the last one is replaced.
// What is there stays, unless it is an empty file or `replace` is set.
long ah_place_file(const void *root, const void *path, const void *bytes, size_t count, uint32_t uid, uint32_t gid, int replace);
// -ENOTDIR or -EISDIR when what lies at `path` below `root` is of another kind; 0 when nothing does.
long ah_expect_kind(const void *root, const void *path, int is_directory);
// Replaces a file by one of mode 0600.
long ah_replace_file(const void *path, const void *bytes, size_t count, uint32_t uid, uint32_t gid);
long ah_remove_file(const void *path);

struct ah_runtime {
    const void *arguments;
    uint32_t argument_count;
    const void *environment;
    uint32_t environment_count;
    const void *cgroups;      // paths of cgroup.procs files
    uint32_t cgroup_count;
    int32_t channel;          // becomes 0 and 1
    int32_t error;            // becomes 2
    int32_t user_namespace, network_namespace;   // -1: stay outside
};
// Starts a runtime in its own session; failures before it runs are told on its stderr, exit code 127.
long ah_start_runtime(const struct ah_runtime *runtime);
// A pidfd, provided that the process is an unreaped child of ours.
long ah_child_descriptor(int pid);
long ah_kill_descriptor(int pidfd);
