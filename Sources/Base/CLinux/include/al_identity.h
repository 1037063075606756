#ifndef AL_IDENTITY_H
#define AL_IDENTITY_H
/* Another user's rights on files, for the calling thread only. -1 and errno on failure. */
#include <stddef.h>
#include <sys/types.h>

/* From now on this thread opens, makes and changes files as the user does: file-system ids and groups, and without root's
   capabilities over files. *saved: room for the thread's groups; in the room, out how many there were. */
int al_files_as(uid_t uid, gid_t gid, gid_t *saved, size_t *count);

/* Back to the process's own ids and to these groups. */
int al_files_as_self(const gid_t *saved, size_t count);

#endif
