#ifndef AL_FILES_H
#define AL_FILES_H
/* Files by descriptor. -1 and errno on failure unless said. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct al_status {
    uint32_t mode; /* type and permissions */
    uint32_t uid, gid, links;
    uint64_t inode, size, blocks512;
    uint64_t device, special_device;
    int64_t modified_ns, changed_ns, accessed_ns;
};

/* resolve: bits of openat2 (RESOLVE_*). Without them this is openat. Always close-on-exec. */
int al_open(int directory, const char *path, int flags, uint32_t mode, uint64_t resolve);
int al_status_of(int descriptor, struct al_status *out);
int al_status_at(int directory, const char *path, int follow, struct al_status *out);
int al_rename(int from, const char *old_name, int to, const char *new_name, uint32_t flags);
int al_set_times(int descriptor, int64_t accessed_ns, int64_t modified_ns);
int al_pipe(int ends[2]);
int al_duplicate(int descriptor);
int al_status_flags(int descriptor);
int al_set_nonblocking(int descriptor, int on);
int al_set_close_on_exec(int descriptor, int on);
int al_lock(int descriptor, int exclusive, int wait);
int al_unlock(int descriptor);
int al_memfd(const char *name);
int al_free_space(int descriptor, uint64_t *free_bytes, uint64_t *total_bytes, uint64_t *free_inodes);

/* Reads directory entries: each call fills names one after the other, NUL-ended, each after its d_type byte and 8 bytes of
   inode number. Returns bytes used, 0 at the end. */
ssize_t al_read_directory(int descriptor, uint8_t *out, size_t capacity);

int al_random(void *bytes, size_t count);
int al_mount(const char *source, const char *target, const char *type, uint64_t flags, const char *data);
int al_unmount(const char *target, int flags);

#endif
