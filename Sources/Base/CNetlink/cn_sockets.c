#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in place(uint32_t address, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
}

struct wish {
    int type, backlog;
    const char *interface;
    uint32_t address;
    uint16_t port;
};

static int open_socket(void *argument)
{
    const struct wish *wish = argument;
    int made = socket(AF_INET, wish->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0) return -1;
    int one = 1;
    struct sockaddr_in address = place(wish->address, wish->port);
    /* The interface first: only then may the sockets of all interfaces have the same address and port. */
    if (setsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, wish->interface, (socklen_t)strlen(wish->interface)) == 0
        && setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0
        && bind(made, (struct sockaddr *)&address, sizeof address) == 0
        && (wish->type != SOCK_STREAM || listen(made, wish->backlog) == 0))
        return made;
    int error = errno;
    close(made);
    errno = error;
    return -1;
}

int cn_bound_socket(int ns, int type, const char *interface, uint32_t address, uint16_t port, int backlog)
{
    struct wish wish = {.type = type, .backlog = backlog, .interface = interface, .address = address, .port = port};
    return cn_inside(ns, open_socket, &wish);
}

int cn_original_destination(int socket, uint32_t *address, uint16_t *port)
{
    struct sockaddr_in original = {0};
    socklen_t length = sizeof original;
    if (getsockopt(socket, SOL_IP, SO_ORIGINAL_DST, &original, &length) < 0) return -1;
    *address = ntohl(original.sin_addr.s_addr);
    *port = ntohs(original.sin_port);
    return 0;
}

ssize_t cn_receive_from(int socket, void *data, size_t room, uint32_t *address, uint16_t *port)
{
    struct sockaddr_in from = {0};
    socklen_t length = sizeof from;
    ssize_t count = recvfrom(socket, data, room, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    *address = ntohl(from.sin_addr.s_addr);
    *port = ntohs(from.sin_port);
    return count;
}

ssize_t cn_send_to(int socket, const void *data, size_t count, uint32_t address, uint16_t port)
{
    struct sockaddr_in to = place(address, port);
    return sendto(socket, data, count, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
}

int cn_is_local(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    int is_v4 = inet_pton(AF_INET, text, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    int probe = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0) return -1;
    /* Connecting a datagram socket sends nothing; what it would send to itself leaves from the address that it goes to. */
    struct sockaddr *target = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t length = is_v4 ? sizeof v4 : sizeof v6;
    int result = connect(probe, target, length);
    if (result == 0) {
        struct sockaddr_in own4 = {0};
        struct sockaddr_in6 own6 = {0};
        result = getsockname(probe, is_v4 ? (struct sockaddr *)&own4 : (struct sockaddr *)&own6, &length);
        if (result == 0)
            result = is_v4 ? own4.sin_addr.s_addr == v4.sin_addr.s_addr
                           : memcmp(&own6.sin6_addr, &v6.sin6_addr, sizeof v6.sin6_addr) == 0;
    }
    int error = errno;
    close(probe);
    errno = error;
    return result;
}
