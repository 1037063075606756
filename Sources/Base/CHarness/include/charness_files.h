// Files, by descriptor, for copying trees and for reading the sandbox's user database.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { AH_REGULAR = 0, AH_DIRECTORY = 1, AH_SYMLINK = 2, AH_OTHER = 3, AH_FIFO = 4, AH_DEVICE = 5 };

struct ah_file {
    uint64_t size;
    int64_t seconds;
    uint32_t mode;    // permission bits with setuid, setgid, sticky
    uint32_t uid, gid;
    uint32_t kind;
    uint32_t nanoseconds;
};

// Up to `limit` bytes of a regular file; -EFBIG if it has more.
long ah_read_file(const void *path, void *buffer, size_t limit);
// What tells one state of a file from another: device, inode, bytes, and when contents and attributes changed (ns).
struct ah_stamp {
    uint64_t device, inode, size, changed, touched;
};
long ah_file_stamp(const void *path, struct ah_stamp *stamp);

// `directory` may be AH_ROOT with an absolute path.
enum { AH_ROOT = -100 };
// Opens without following a symbolic link in the last component (unless `follow`).
long ah_open_directory(int directory, const void *name, int follow);
long ah_open_file(int directory, const void *name);
// Makes a new file, in place of what is there unless that is a folder.
long ah_create_file(int directory, const void *name);
long ah_file_information(int directory, const void *name, struct ah_file *out);
long ah_descriptor_information(int fd, struct ah_file *out);
long ah_read_link(int directory, const void *name, void *buffer, size_t count);
long ah_make_directory(int directory, const void *name);
// Makes a symbolic link, in place of what is there unless that is a folder.
long ah_make_link(int directory, const void *name, const void *target);
long ah_set_owner(int directory, const void *name, uint32_t uid, uint32_t gid);
long ah_set_descriptor(int fd, uint32_t uid, uint32_t gid, uint32_t mode, int64_t seconds);
long ah_set_link_time(int directory, const void *name, int64_t seconds);
// The names of a folder: NUL-terminated one after the other, `.` and `..` left out; 0 at the end.
long ah_list(int directory, void *buffer, size_t count);
