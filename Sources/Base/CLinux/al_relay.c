#define _GNU_SOURCE 1
#include "al_relay.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int al_relay_pipe(int ends[2], int room) {
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -1;
    /* A smaller pipe works as well, with more calls. */
    (void)fcntl(ends[1], F_SETPIPE_SZ, room);
    return 0;
}

ssize_t al_splice(int from, int to, size_t count) {
    return splice(from, NULL, to, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

int al_set_reset_on_close(int socket) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    return setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

int al_set_keep_alive(int socket, int idle, int interval, int count) {
    int one = 1;
    if (setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) < 0) return -1;
    if (setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) < 0) return -1;
    if (setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval) < 0) return -1;
    return setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

int al_unacknowledged(int socket) {
    int count = 0;
    return ioctl(socket, SIOCOUTQ, &count) < 0 ? -1 : count;
}
