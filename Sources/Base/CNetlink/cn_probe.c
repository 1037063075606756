#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct round {
    struct cn_attempt *list;
    size_t count;
    int patience;
};

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void end(struct cn_attempt *attempt, int *socket, int outcome, int error)
{
    attempt->outcome = outcome;
    attempt->error = error;
    close(*socket);
    *socket = -1;
}

/* A frame that none of its members may send: an address and a hardware address that are not its port's. */
static int send_frame(struct cn_attempt *attempt)
{
    int raw = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (raw < 0) return -1;
    uint8_t frame[60] = {0x02, 0, 0, 0, 0, 0xfe, 0x02, 0, 0, 0, 0, 0xfd, 0x08, 0x00,
        /* IPv4 with UDP. */
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, IPPROTO_UDP};
    uint32_t source = htonl(attempt->address ^ 1), target = htonl(attempt->address);
    uint16_t ports[3] = {htons(attempt->source_port), htons(attempt->port), htons(8)};
    memcpy(frame + 26, &source, 4);
    memcpy(frame + 30, &target, 4);
    memcpy(frame + 34, ports, sizeof ports);
    uint32_t sum = 0;
    for (int i = 14; i < 34; i += 2) sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    frame[24] = (uint8_t)(sum >> 8);
    frame[25] = (uint8_t)sum;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth1"), .sll_halen = 6};
    memcpy(to.sll_addr, frame, 6);
    ssize_t sent = sendto(raw, frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to);
    int error = errno;
    close(raw);
    errno = error;
    return sent == (ssize_t)sizeof frame ? 0 : -1;
}

static int begin(struct cn_attempt *attempt)
{
    if (attempt->kind == CN_FRAME) {
        attempt->outcome = send_frame(attempt) == 0 ? CN_SILENT : CN_UNREACHABLE;
        attempt->error = attempt->outcome == CN_UNREACHABLE ? errno : 0;
        return -1;
    }
    int six = attempt->kind == CN_TCP6;
    int type = attempt->kind == CN_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int made = socket(six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0) {
        attempt->outcome = CN_UNREACHABLE;
        attempt->error = errno;
        return -1;
    }
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(attempt->source_port)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(attempt->port), .sin_addr.s_addr = htonl(attempt->address)};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(attempt->port)};
    /* 2001:db8::1, an address of documents. */
    memcpy(&to6.sin6_addr, (uint8_t[]){0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16);
    int one = 1;
    (void)setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int status = six ? 0 : bind(made, (struct sockaddr *)&own, sizeof own);
    if (status < 0) {
        end(attempt, &made, CN_BUSY, errno);
        return -1;
    }
    status = six ? connect(made, (struct sockaddr *)&to6, sizeof to6) : connect(made, (struct sockaddr *)&to, sizeof to);
    if (status < 0 && errno != EINPROGRESS) {
        end(attempt, &made, CN_UNREACHABLE, errno);
        return -1;
    }
    if (type == SOCK_DGRAM) (void)send(made, attempt->sent, attempt->sent_count, MSG_NOSIGNAL);
    return made;
}

static void go_on(struct cn_attempt *attempt, int *socket, short events, int *said)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(*socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0) error = errno;
    if (error == ECONNRESET) return end(attempt, socket, CN_RESET, error);
    if (error != 0) return end(attempt, socket, CN_UNREACHABLE, error);
    if ((events & POLLOUT) && !*said) {
        *said = 1;
        if (attempt->kind == CN_TCP && attempt->sent_count > 0)
            (void)send(*socket, attempt->sent, attempt->sent_count, MSG_NOSIGNAL);
    }
    if (!(events & (POLLIN | POLLHUP | POLLERR))) return;
    ssize_t count = recv(*socket, attempt->got, sizeof attempt->got, 0);
    if (count > 0) {
        attempt->got_count = (size_t)count;
        end(attempt, socket, CN_ANSWERED, 0);
    } else if (count == 0) {
        end(attempt, socket, CN_ENDED, 0);
    } else if (errno == ECONNRESET) {
        end(attempt, socket, CN_RESET, errno);
    } else if (errno != EAGAIN) {
        end(attempt, socket, CN_UNREACHABLE, errno);
    }
}

static int run(void *argument)
{
    struct round *round = argument;
    if (round->count > CN_ATTEMPTS) {
        errno = EINVAL;
        return -1;
    }
    struct pollfd list[CN_ATTEMPTS];
    int said[CN_ATTEMPTS] = {0};
    for (size_t i = 0; i < round->count; i++) {
        round->list[i].outcome = CN_SILENT;
        list[i] = (struct pollfd){.fd = begin(&round->list[i])};
    }
    int64_t until = now_ms() + round->patience;
    for (;;) {
        int waiting = 0;
        for (size_t i = 0; i < round->count; i++) {
            /* A datagram that nobody may answer is waited for no longer than the others need. */
            int hopeless = round->list[i].kind == CN_UDP && !round->list[i].wants_answer;
            if (list[i].fd >= 0 && !hopeless) waiting = 1;
            list[i].events = (short)(POLLIN | (said[i] ? 0 : POLLOUT));
        }
        int64_t left = until - now_ms();
        if (!waiting || left <= 0) break;
        if (poll(list, (nfds_t)round->count, (int)left) < 0 && errno != EINTR) break;
        for (size_t i = 0; i < round->count; i++)
            if (list[i].fd >= 0 && list[i].revents) go_on(&round->list[i], &list[i].fd, list[i].revents, &said[i]);
    }
    for (size_t i = 0; i < round->count; i++)
        if (list[i].fd >= 0) close(list[i].fd);
    return 0;
}

int cn_attempt_all(int ns, struct cn_attempt *list, size_t count, int patience)
{
    struct round round = {.list = list, .count = count, .patience = patience};
    return cn_inside(ns, run, &round);
}

int cn_peer(int socket, uint32_t *address, uint16_t *port)
{
    struct sockaddr_in peer = {0};
    socklen_t length = sizeof peer;
    if (getpeername(socket, (struct sockaddr *)&peer, &length) < 0) return -1;
    *address = ntohl(peer.sin_addr.s_addr);
    *port = ntohs(peer.sin_port);
    return 0;
}
