#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct goal {
    uint8_t family, bits;
    uint8_t bytes[16];
};

enum gateway { NO_GATEWAY, ITSELF, ANOTHER };

struct way {
    uint8_t type, bits;
    enum gateway gateway;
};

static void read_way(struct nlmsghdr *header, const struct goal *goal, struct way *way)
{
    struct rtmsg *route = NLMSG_DATA(header);
    *way = (struct way){.type = route->rtm_type, .bits = route->rtm_dst_len, .gateway = NO_GATEWAY};
    int left = (int)RTM_PAYLOAD(header);
    for (struct rtattr *at = RTM_RTA(route); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        if (at->rta_type != RTA_GATEWAY && at->rta_type != RTA_VIA) continue;
        size_t length = goal->bits / 8;
        int is_itself = at->rta_type == RTA_GATEWAY && RTA_PAYLOAD(at) == length
            && memcmp(RTA_DATA(at), goal->bytes, length) == 0;
        way->gateway = is_itself ? ITSELF : ANOTHER;
    }
}

/* What the kernel would do with a packet, or (RTM_F_FIB_MATCH) which route says so: 1, and 0 when nothing gets there. */
static int ask_way(int netlink, const struct goal *goal, unsigned flags, struct way *way)
{
    struct rtmsg route = {.rtm_family = goal->family, .rtm_dst_len = goal->bits, .rtm_flags = flags};
    cn_message message;
    cn_begin(&message, RTM_GETROUTE, 0, &route, sizeof route);
    cn_put(&message, RTA_DST, goal->bytes, goal->bits / 8);
    struct nlmsghdr *request = (struct nlmsghdr *)(void *)message.bytes;
    request->nlmsg_len = (uint32_t)message.length;
    /* The answer is enough. */
    request->nlmsg_flags = NLM_F_REQUEST;
    request->nlmsg_seq = 1;
    if (send(netlink, message.bytes, message.length, 0) < 0) return -1;
    char answer[4096] __attribute__((aligned(8)));
    ssize_t count;
    do count = recv(netlink, answer, sizeof answer, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0) return -1;
    struct nlmsghdr *header = (struct nlmsghdr *)(void *)answer;
    errno = EBADMSG;
    if (!NLMSG_OK(header, (size_t)count)) return -1;
    if (header->nlmsg_type == NLMSG_ERROR) {
        errno = -((struct nlmsgerr *)NLMSG_DATA(header))->error;
        /* Any other says why nothing gets there. */
        return errno == ENOMEM || errno == ENOBUFS ? -1 : 0;
    }
    if (header->nlmsg_type != RTM_NEWROUTE || header->nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg))) return -1;
    read_way(header, goal, way);
    return 1;
}

static int shared_bits(int netlink, const struct goal *goal)
{
    struct way way, match;
    int found = ask_way(netlink, goal, 0, &way);
    if (found <= 0) return found;
    if (way.type == RTN_LOCAL || (way.type == RTN_UNICAST && way.gateway == ANOTHER)) return 0;
    /* Broadcast and anycast are of the link, too; where the route has gone meanwhile, it is this address alone. */
    if (way.type != RTN_UNICAST || ask_way(netlink, goal, RTM_F_FIB_MATCH, &match) <= 0) return goal->bits;
    /* Nobody's own network is larger: such a route is a default route, or a part of one. */
    if (match.bits >= (goal->family == AF_INET ? 8 : 16)) return match.bits;
    /* Over a link of two ends it leads to the world. A gateway of that route is this address itself, or has redirected us to it. */
    return match.gateway == NO_GATEWAY ? 0 : goal->bits;
}

int cn_on_link(const char *text)
{
    struct goal goal = {.family = AF_INET, .bits = 32};
    if (inet_pton(AF_INET, text, goal.bytes) != 1) {
        goal.family = AF_INET6;
        goal.bits = 128;
        if (inet_pton(AF_INET6, text, goal.bytes) != 1) {
            errno = EINVAL;
            return -1;
        }
    }
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int result = shared_bits(netlink, &goal);
    int error = errno;
    close(netlink);
    errno = error;
    return result;
}
