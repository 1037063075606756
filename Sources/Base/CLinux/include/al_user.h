#ifndef AL_USER_H
#define AL_USER_H
/* Acting as another user, and asking what a user may do. -1 and errno on failure unless said. */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* This process becomes the user for good: groups, gids, uids, no new privileges, not dumpable. Single-threaded callers. */
int al_become(uid_t uid, gid_t gid, const gid_t *groups, size_t count);

/* Whether the process's effective ids may do what mode (R_OK, W_OK, X_OK) says with an open file, O_PATH included. */
int al_access_of(int descriptor, int mode);

/* Supplementary groups: of a Unix socket's peer when it connected; of a user as the system's data bases say.
   *count: in the room, out how many there are (ERANGE when more than the room). */
int al_peer_groups(int socket, gid_t *groups, size_t *count);
int al_user_groups(uid_t uid, gid_t gid, gid_t *groups, size_t *count);

/* The magic number of the file system that holds an open file; 0 when it cannot be told. */
uint64_t al_file_system(int descriptor);

#endif
