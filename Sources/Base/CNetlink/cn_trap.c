#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <unistd.h>

/* The one place to which the gateway has a way. */
struct trap {
    const char *link;
    uint32_t gateway, address, instances;
    uint8_t bits;
};

/* A route; a target or gateway of 0 is none. */
struct way {
    uint8_t type, table;
    uint32_t target, gateway, source;
    uint8_t bits;
    int index;
};

static int add_way(int netlink, const struct way *way)
{
    struct rtmsg info = {
        .rtm_family = AF_INET, .rtm_dst_len = way->bits, .rtm_table = way->table, .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = way->type == RTN_LOCAL ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE, .rtm_type = way->type,
        .rtm_flags = way->gateway ? RTNH_F_ONLINK : 0};
    uint32_t target = htonl(way->target), gateway = htonl(way->gateway), source = htonl(way->source);
    cn_message message;
    cn_begin(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof info);
    if (way->bits) cn_put(&message, RTA_DST, &target, 4);
    if (way->gateway) cn_put(&message, RTA_GATEWAY, &gateway, 4);
    if (way->source) cn_put(&message, RTA_PREFSRC, &source, 4);
    cn_put(&message, RTA_OIF, &way->index, sizeof way->index);
    return cn_ask(netlink, &message);
}

static int add_ways(const char *link, struct way *ways, size_t count)
{
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        if (ways[i].index == 0) ways[i].index = (int)if_nametoindex(link);
        status = ways[i].index > 0 ? add_way(netlink, &ways[i]) : -1;
    }
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}

/* Every address is the trap's own, but the gateway's and those of instances, which it has to answer: without a way to who sends,
   the kernel takes nothing, not even a question for a hardware address. */
static int trap_side(void *argument)
{
    const struct trap *trap = argument;
    struct way ways[] = {
        {.type = RTN_UNICAST, .table = RT_TABLE_LOCAL, .target = trap->gateway, .bits = 32, .gateway = trap->gateway},
        {.type = RTN_UNICAST, .table = RT_TABLE_LOCAL, .target = trap->instances, .bits = trap->bits,
         .gateway = trap->gateway},
        {.type = RTN_LOCAL, .table = RT_TABLE_LOCAL, .index = 1}};
    return add_ways("eth0", ways, 3);
}

static int gateway_side(void *argument)
{
    const struct trap *trap = argument;
    struct way way = {.type = RTN_UNICAST, .table = RT_TABLE_MAIN, .gateway = trap->address, .source = trap->gateway};
    return add_ways(trap->link, &way, 1);
}

int cn_trap(int gateway_ns, int trap_ns, const char *link, uint32_t gateway, uint32_t address, uint32_t instances, uint8_t bits)
{
    struct trap trap = {.link = link, .gateway = gateway, .address = address, .instances = instances, .bits = bits};
    if (cn_attach(gateway_ns, trap_ns, link, gateway, address) < 0) return -1;
    if (cn_inside(trap_ns, trap_side, &trap) < 0) return -1;
    return cn_inside(gateway_ns, gateway_side, &trap);
}
