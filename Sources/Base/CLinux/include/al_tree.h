// Calls on directory trees by descriptor. Each returns 0 or a value >= 0, or -errno. None follows a link at the last component.
#ifndef AL_TREE_H
#define AL_TREE_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// What `al_tree_stat` tells of a directory entry.
typedef struct {
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
    uint64_t inode;
    uint64_t device;
    uint64_t node;      // the device number of a device node
    uint64_t size;
    uint64_t blocks;    // of 512 bytes
    int64_t seconds;    // modification time
    int64_t nanoseconds;
} al_tree_info;

/// How a path is resolved beneath a directory.
typedef enum {
    AL_TREE_IN_ROOT = 0,    // links are followed, and stay inside as if the directory were the root
    AL_TREE_NO_LINKS = 1,   // a link in any component is ELOOP
} al_tree_resolve;

int al_tree_open(int root, const char *path, int flags, unsigned mode, al_tree_resolve how);
/// Opens a directory for use as a base of other calls.
int al_tree_open_directory(int root, const char *path, al_tree_resolve how);
/// Creates a new regular file for writing; an entry of that name is EEXIST.
int al_tree_create(int directory, const char *name);
int al_tree_make_directory(int directory, const char *name, unsigned mode);
int al_tree_make_fifo(int directory, const char *name, unsigned mode);
/// Makes an overlayfs whiteout: a character device 0/0.
int al_tree_make_whiteout(int directory, const char *name);
int al_tree_symlink(const char *target, int directory, const char *name);
int al_tree_link(int from_directory, const char *from, int to_directory, const char *to);
int al_tree_unlink(int directory, const char *name);
/// Removes an entry and, when it is a directory of the same file system, all below it. An absent entry is no error.
int al_tree_remove(int directory, const char *name);
int al_tree_stat(int directory, const char *name, al_tree_info *info);
/// Reads a link's target into `buffer`; returns its length, at most `size`.
ssize_t al_tree_readlink(int directory, const char *name, char *buffer, size_t size);
int al_tree_chown(int directory, const char *name, uint32_t uid, uint32_t gid);
int al_tree_chown_fd(int fd, uint32_t uid, uint32_t gid);
int al_tree_chmod_fd(int fd, unsigned mode);
int al_tree_chmod(int directory, const char *name, unsigned mode);
int al_tree_set_time(int directory, const char *name, int64_t seconds, int64_t nanoseconds);
int al_tree_set_time_fd(int fd, int64_t seconds, int64_t nanoseconds);
int al_tree_truncate(int fd, int64_t size);
ssize_t al_tree_pwrite(int fd, const void *bytes, size_t count, int64_t offset);
ssize_t al_tree_read(int fd, void *bytes, size_t count);
ssize_t al_tree_write(int fd, const void *bytes, size_t count);
int al_tree_set_attribute(int fd, const char *name, const void *value, size_t size);
ssize_t al_tree_get_attribute(int fd, const char *name, void *value, size_t size);
/// Flushes the file system that holds `fd`.
int al_tree_sync_filesystem(int fd);
/// Gives an open pipe this many bytes of room.
int al_tree_pipe_room(int fd, int size);
void al_tree_close(int fd);
/// The bytes of a C string before its NUL.
size_t al_tree_length(const char *text);

#endif
