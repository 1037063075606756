#define _GNU_SOURCE
#include "al_datagram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int al_socket_datagram(int patience) {
    int made = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = patience / 1000, .tv_usec = patience % 1000 * 1000};
    if (made < 0 || setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0) return made;
    int error = errno;
    close(made);
    errno = error;
    return -1;
}

static ssize_t send_to_path(int socket, const char *path, struct msghdr *message) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    message->msg_name = &address;
    message->msg_namelen = sizeof address;
    for (;;) {
        ssize_t sent = sendmsg(socket, message, MSG_NOSIGNAL);
        if (sent >= 0 || errno != EINTR) return sent;
    }
}

ssize_t al_send_to_path(int socket, const char *path, const void *bytes, size_t count) {
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    return send_to_path(socket, path, &message);
}

ssize_t al_send_file_to_path(int socket, const char *path, int file) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_control = control.room, .msg_controllen = sizeof control.room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &file, sizeof file);
    return send_to_path(socket, path, &message);
}

int al_seal(int file) { return fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL); }
