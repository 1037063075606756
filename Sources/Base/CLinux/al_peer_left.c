#define _GNU_SOURCE
#include "al_peer_left.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct place {
    int family;
    uint16_t port;
    uint32_t address[4];
};

/* An IPv4 address in IPv6 clothes belongs to an IPv4 socket at the other end. */
static int place_of(const struct sockaddr_storage *from, struct place *to) {
    memset(to, 0, sizeof *to);
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        to->family = AF_INET;
        to->port = in->sin_port;
        to->address[0] = in->sin_addr.s_addr;
        return 1;
    }
    if (from->ss_family != AF_INET6) return 0;
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)from;
    to->family = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr) ? AF_INET : AF_INET6;
    to->port = in->sin6_port;
    if (to->family == AF_INET) {
        memcpy(&to->address[0], &in->sin6_addr.s6_addr[12], 4);
    } else {
        memcpy(to->address, &in->sin6_addr, 16);
    }
    return 1;
}

static int is_loopback(const struct place *place) {
    if (place->family == AF_INET) return (ntohl(place->address[0]) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)place->address);
}

/* The socket of this host with these two ends: 1 a program has it open, 0 none has, -1 and errno (ENOENT: there is none). */
static int look(int diag, const struct place *own, const struct place *other) {
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 body;
    } request;
    memset(&request, 0, sizeof request);
    request.head.nlmsg_len = sizeof request;
    request.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request.head.nlmsg_flags = NLM_F_REQUEST;
    request.body.sdiag_family = (uint8_t)own->family;
    request.body.sdiag_protocol = IPPROTO_TCP;
    request.body.idiag_states = ~0u;
    request.body.id.idiag_sport = own->port;
    request.body.id.idiag_dport = other->port;
    memcpy(request.body.id.idiag_src, own->address, sizeof own->address);
    memcpy(request.body.id.idiag_dst, other->address, sizeof other->address);
    request.body.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
    request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (send(diag, &request, sizeof request, 0) < 0) return -1;
    union {
        struct nlmsghdr head;
        char room[4096];
    } answer;
    /* The kernel answers before send returns. */
    ssize_t count = recv(diag, &answer, sizeof answer, MSG_DONTWAIT);
    if (count < 0) return -1;
    if (!NLMSG_OK(&answer.head, (unsigned)count)) return errno = EPROTO, -1;
    if (answer.head.nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *error = NLMSG_DATA(&answer.head);
        return errno = error->error ? -error->error : EPROTO, -1;
    }
    if (answer.head.nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg))) return errno = EPROTO, -1;
    const struct inet_diag_msg *found = NLMSG_DATA(&answer.head);
    if (found->idiag_state == TCP_LISTEN) return errno = ENOENT, -1;
    return found->idiag_inode != 0;
}

/* A rule of the firewall has sent the client here: it knows this end by another address. */
static int was_redirected(int socket_, const struct place *own) {
    struct sockaddr_storage first = {0};
    socklen_t length = sizeof first;
    int six = own->family == AF_INET6;
    /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST; an error where nothing is tracked. */
    if (getsockopt(socket_, six ? SOL_IPV6 : SOL_IP, 80, &first, &length) != 0) return 0;
    struct place wanted;
    return place_of(&first, &wanted) && memcmp(&wanted, own, sizeof wanted) != 0;
}

int al_peer_left(int socket_) {
    struct pollfd both = {.fd = socket_};
    if (poll(&both, 1, 0) == 1 && both.revents & (POLLHUP | POLLERR)) return AL_PEER_LEFT;
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t length = sizeof here;
    if (getsockname(socket_, (struct sockaddr *)&here, &length) != 0) return -1;
    length = sizeof there;
    if (getpeername(socket_, (struct sockaddr *)&there, &length) != 0) return -1;
    /* A Unix socket whose other end is closed has been hung up on: this one is not. */
    if (here.ss_family == AF_UNIX) return AL_PEER_THERE;
    struct place own, other;
    if (!place_of(&here, &own) || !place_of(&there, &other)) return AL_PEER_UNKNOWN;
    int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag < 0) return -1;
    int open = look(diag, &other, &own);
    int answer = open == 0 ? AL_PEER_LEFT : AL_PEER_THERE;
    if (open < 0) {
        /* A client on loopback has no socket any more, if this kernel tells of sockets at all. */
        int left = errno == ENOENT && is_loopback(&other) && !was_redirected(socket_, &own) && look(diag, &own, &other) == 1;
        answer = left ? AL_PEER_LEFT : errno == ENOENT ? AL_PEER_UNKNOWN : -1;
    }
    int error = errno;
    close(diag);
    errno = error;
    return answer;
}
