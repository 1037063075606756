#define _GNU_SOURCE 1
#include "al_user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

int al_become(uid_t uid, gid_t gid, const gid_t *groups, size_t count) {
    if (setgroups(count, groups) < 0) return -1;
    if (setresgid(gid, gid, gid) < 0) return -1;
    if (setresuid(uid, uid, uid) < 0) return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
    /* The user must not trace us into opening something else on the way. */
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int al_access_of(int descriptor, int mode) {
    return faccessat(descriptor, "", mode, AT_EMPTY_PATH | AT_EACCESS);
}

int al_peer_groups(int socket, gid_t *groups, size_t *count) {
    socklen_t bytes = (socklen_t)(*count * sizeof *groups);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) < 0) return -1;
    *count = bytes / sizeof *groups;
    return 0;
}

int al_user_groups(uid_t uid, gid_t gid, gid_t *groups, size_t *count) {
    char text[16384];
    struct passwd entry, *found = NULL;
    if (getpwuid_r(uid, &entry, text, sizeof text, &found) != 0 || !found) {
        /* A uid without a name has no groups but its own. */
        *count = 0;
        return 0;
    }
    int room = (int)*count;
    int result = getgrouplist(found->pw_name, gid, groups, &room);
    *count = (size_t)room;
    if (result >= 0) return 0;
    errno = ERANGE;
    return -1;
}

uint64_t al_file_system(int descriptor) {
    struct statfs status;
    return fstatfs(descriptor, &status) < 0 ? 0 : (uint64_t)status.f_type;
}
