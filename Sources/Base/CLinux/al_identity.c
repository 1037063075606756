#define _GNU_SOURCE 1
#include "al_identity.h"

#include <errno.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The system call itself: the C library's function would change every thread of the process. */
static int set_groups(size_t count, const gid_t *groups) {
    return (int)syscall(SYS_setgroups, count, groups);
}

/* The calls report nothing but the id before: asking with an impossible id tells what it is now. */
static int switched(uid_t uid, gid_t gid) {
    setfsgid(gid);
    setfsuid(uid);
    if ((uid_t)setfsuid((uid_t)-1) == uid && (gid_t)setfsgid((gid_t)-1) == gid) return 0;
    errno = EPERM;
    return -1;
}

int al_files_as_self(const gid_t *saved, size_t count) {
    int result = switched(geteuid(), getegid());
    return set_groups(count, saved) < 0 ? -1 : result;
}

int al_files_as(uid_t uid, gid_t gid, gid_t *saved, size_t *count) {
    int had = getgroups((int)*count, saved);
    if (had < 0) return -1;
    *count = (size_t)had;
    if (set_groups(0, NULL) < 0) return -1;
    if (switched(uid, gid) == 0) return 0;
    int error = errno;
    al_files_as_self(saved, *count);
    errno = error;
    return -1;
}
