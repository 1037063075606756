#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One member's way into its group. */
struct member {
    const char *bridge, *port, *table;
    uint32_t address;
    uint8_t prefix, mac[6];
    int instance_ns;
    int exists;
};

static int finish(int netlink, int status)
{
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}

static int make_bridge(int netlink, const char *name)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    cn_message message;
    cn_begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    cn_put(&message, IFLA_IFNAME, name, strlen(name) + 1);
    size_t link = cn_open_nest(&message, IFLA_LINKINFO);
    cn_put(&message, IFLA_INFO_KIND, "bridge", 6);
    size_t data = cn_open_nest(&message, IFLA_INFO_DATA);
    uint32_t none = 0;
    uint8_t off = 0;
    /* No spanning tree, no delay, and nothing that snoops or asks: the bridge itself says nothing. */
    cn_put(&message, IFLA_BR_FORWARD_DELAY, &none, sizeof none);
    cn_put(&message, IFLA_BR_STP_STATE, &none, sizeof none);
    cn_put(&message, IFLA_BR_MCAST_SNOOPING, &off, sizeof off);
    cn_close_nest(&message, data);
    cn_close_nest(&message, link);
    if (cn_ask(netlink, &message) < 0 && errno != EEXIST) return -1;
    return (int)if_nametoindex(name) > 0 ? 0 : -1;
}

static int make_port(int netlink, const struct member *member)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    uint32_t bridge = if_nametoindex(member->bridge);
    cn_message message;
    cn_begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    cn_put(&message, IFLA_IFNAME, member->port, strlen(member->port) + 1);
    cn_put(&message, IFLA_MASTER, &bridge, sizeof bridge);
    size_t link = cn_open_nest(&message, IFLA_LINKINFO);
    cn_put(&message, IFLA_INFO_KIND, "veth", 4);
    size_t data = cn_open_nest(&message, IFLA_INFO_DATA);
    size_t peer = cn_open_nest(&message, VETH_INFO_PEER);
    cn_append(&message, &info, sizeof info);
    cn_put(&message, IFLA_IFNAME, "eth1", 5);
    cn_put(&message, IFLA_ADDRESS, member->mac, 6);
    cn_put(&message, IFLA_NET_NS_FD, &member->instance_ns, sizeof member->instance_ns);
    cn_close_nest(&message, peer);
    cn_close_nest(&message, data);
    cn_close_nest(&message, link);
    return cn_ask(netlink, &message);
}

/* The one (port, hardware address, address) that frames of a member may carry. */
struct pin {
    uint8_t key[28];
};

static struct pin pin_of(const struct member *member)
{
    struct pin pin = {0};
    uint32_t address = htonl(member->address);
    strncpy((char *)pin.key, member->port, 15);
    memcpy(pin.key + 16, member->mac, 6);
    memcpy(pin.key + 24, &address, 4);
    return pin;
}

static int pin(const struct member *member, int adding)
{
    struct pin pin = pin_of(member);
    return cn_change_set(NFPROTO_BRIDGE, member->table, "ports", pin.key, sizeof pin.key, adding);
}

static int is_pinned(void *argument)
{
    const struct member *member = argument;
    if (if_nametoindex(member->port) == 0) return 0;
    struct pin pin = pin_of(member);
    return cn_has_element(NFPROTO_BRIDGE, member->table, "ports", pin.key, sizeof pin.key);
}

static int gateway_side(void *argument)
{
    struct member *member = argument;
    /* Frames between members are not the business of the rules for packets. */
    if (cn_set("/proc/sys/net/bridge/bridge-nf-call-iptables", "0") < 0
        || cn_set("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0") < 0
        || cn_set("/proc/sys/net/bridge/bridge-nf-call-arptables", "0") < 0)
        return -1;
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int status = make_bridge(netlink, member->bridge);
    if (status == 0) status = make_port(netlink, member);
    if (status < 0 && errno == EEXIST) {
        member->exists = 1;
        status = 0;
    }
    if (status == 0) status = pin(member, 1);
    if (status == 0) status = cn_up(netlink, (int)if_nametoindex(member->port));
    return finish(netlink, status);
}

static int instance_side(void *argument)
{
    const struct member *member = argument;
    int index = (int)if_nametoindex("eth1");
    if (index <= 0 || cn_set("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", "1") < 0) return -1;
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int status = cn_add_address(netlink, index, member->address, member->prefix);
    if (status == 0) status = cn_up(netlink, index);
    return finish(netlink, status);
}

static int refuse_six(void *unused)
{
    (void)unused;
    return cn_set("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

static int remove_link(const char *name)
{
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    return finish(netlink, cn_remove_link(netlink, name));
}

static struct member describe(const char *bridge, const char *port, const char *table, uint32_t address)
{
    struct member member = {.bridge = bridge, .port = port, .table = table, .address = address};
    uint32_t tail = htonl(address);
    memcpy(member.mac, (uint8_t[]){0x02, 0xab}, 2);
    memcpy(member.mac + 2, &tail, 4);
    return member;
}

static int leave(void *argument)
{
    const struct member *member = argument;
    /* The link first: from then on nothing comes from it. */
    if (remove_link(member->port) < 0) return -1;
    if (pin(member, 0) < 0 && errno != ENOENT) return -1;
    return member->bridge ? remove_link(member->bridge) : 0;
}

static int both_sides(int gateway_ns, struct member *member)
{
    int status = cn_inside(gateway_ns, gateway_side, member);
    return status == 0 ? cn_inside(member->instance_ns, instance_side, member) : status;
}

int cn_join(
    int gateway_ns, int instance_ns, const char *bridge, const char *port, const char *table, uint32_t address,
    uint8_t prefix)
{
    struct member member = describe(bridge, port, table, address);
    member.instance_ns = instance_ns;
    member.prefix = prefix;
    if (cn_inside(instance_ns, refuse_six, NULL) < 0) return -1;
    int status = both_sides(gateway_ns, &member);
    if (status < 0 && member.exists) {
        /* The port of one that has ended: its other end is not in this instance. The bridge stays. */
        member.bridge = NULL;
        if (cn_inside(gateway_ns, leave, &member) < 0) return -1;
        member.bridge = bridge;
        member.exists = 0;
        status = both_sides(gateway_ns, &member);
    }
    if (status == 0) return 0;
    int error = errno;
    if (!member.exists) {
        member.bridge = NULL;
        (void)cn_inside(gateway_ns, leave, &member);
    }
    errno = error;
    return -1;
}

int cn_leave(int gateway_ns, const char *bridge, const char *port, const char *table, uint32_t address)
{
    struct member member = describe(bridge, port, table, address);
    return cn_inside(gateway_ns, leave, &member);
}

int cn_is_pinned(int gateway_ns, const char *port, const char *table, uint32_t address)
{
    struct member member = describe(NULL, port, table, address);
    return cn_inside(gateway_ns, is_pinned, &member);
}
