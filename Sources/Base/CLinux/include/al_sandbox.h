#ifndef AL_SANDBOX_H
#define AL_SANDBOX_H
/* What only sandboxes need: sockets in other network namespaces, loop mounts, btrfs limits. -1 and errno on failure. */
#include <stdint.h>

/* A stream socket (non-blocking, close-on-exec) that lives in another network namespace. It is made on one thread that does
   nothing else, because entering a namespace holds for the thread that does it. Takes about 20 microseconds. */
int al_socket_in_namespace(int network_namespace, int family);
/* Makes a network namespace that has nothing but its own loopback, on a thread of its own; it lasts as long as the descriptor
   (close-on-exec) and those who have entered it. */
int al_closed_network(void);

/* Mounts a file through a loop device that frees itself when the last mount of it has gone; through the one that it has while
   a mount of it is left, in whatever namespace. */
int al_mount_file(const char *file, const char *target, const char *type, uint64_t flags, const char *data);

/* Something by which the size of the memory file system at `place` can be changed, in whatever namespace that is mounted;
   close-on-exec. */
int al_memory_room(int place);
/* Changes that size; EINVAL when more is in it. */
int al_memory_room_resize(int room, uint64_t bytes);

/* The number by which statfs names the file system. */
int al_file_system_type(int descriptor, uint64_t *type);

int al_btrfs_make_subvolume(int directory, const char *name);
int al_btrfs_remove_subvolume(int directory, const char *name);
/* The number of the subvolume that a descriptor lies in. */
int al_btrfs_subvolume_id(int descriptor, uint64_t *id);
/* Counts space per subvolume; fine when it does already. */
int al_btrfs_enable_quota(int descriptor);
/* Limits what a subvolume refers to, in bytes. */
int al_btrfs_limit(int descriptor, uint64_t subvolume, uint64_t bytes);
/* Forgets the counter of a removed subvolume; EBUSY while its files are still being removed. */
int al_btrfs_forget(int descriptor, uint64_t subvolume);

#endif
