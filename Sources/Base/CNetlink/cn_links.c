#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

int cn_up(int netlink, int index)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    cn_message message;
    cn_begin(&message, RTM_NEWLINK, 0, &info, sizeof info);
    return cn_ask(netlink, &message);
}

static int quiet(void)
{
    /* New interfaces take the defaults; what is there already takes `all`. A host that forwards hands that on. */
    static const char *const settings[][2] = {
        {"/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"}, {"/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"},
        {"/proc/sys/net/ipv4/ip_forward", "0"}, {"/proc/sys/net/ipv4/conf/all/rp_filter", "1"},
        {"/proc/sys/net/ipv4/conf/default/rp_filter", "1"}, {"/proc/sys/net/ipv4/conf/all/accept_redirects", "0"},
        {"/proc/sys/net/ipv4/conf/default/accept_redirects", "0"}, {"/proc/sys/net/ipv4/conf/all/send_redirects", "0"},
        {"/proc/sys/net/ipv4/conf/default/send_redirects", "0"}, {"/proc/sys/net/ipv4/conf/all/route_localnet", "0"},
        {"/proc/sys/net/ipv4/conf/default/route_localnet", "0"}, {"/proc/sys/net/ipv4/conf/all/arp_ignore", "1"},
        {"/proc/sys/net/ipv4/conf/all/proxy_arp", "0"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (cn_set(settings[i][0], settings[i][1]) < 0) return -1;
    return 0;
}

static int furnish(void *argument)
{
    const char *path = argument;
    if (quiet() < 0) return -1;
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int status = cn_up(netlink, 1);
    int error = errno;
    close(netlink);
    errno = error;
    if (status < 0) return -1;
    if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0) return -1;
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

int cn_make_namespace(const char *path) { return cn_inside(-1, furnish, (void *)(uintptr_t)path); }

int cn_open_namespace(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    struct statfs status;
    int failed = fstatfs(file, &status);
    if (failed == 0 && status.f_type == NSFS_MAGIC) return file;
    close(file);
    /* A file on which nothing is mounted is what a restart of the host left. */
    errno = ENOENT;
    return -1;
}

/* One instance's way out, and how far it was made. */
struct plan {
    const char *name;
    uint32_t gateway, address;
    uint8_t gateway_mac[6], mac[6];
    int instance_ns;
    int exists;
};

static int make_pair(int netlink, const struct plan *plan)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    cn_message message;
    cn_begin(&message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    cn_put(&message, IFLA_IFNAME, plan->name, strlen(plan->name) + 1);
    cn_put(&message, IFLA_ADDRESS, plan->gateway_mac, 6);
    size_t link = cn_open_nest(&message, IFLA_LINKINFO);
    cn_put(&message, IFLA_INFO_KIND, "veth", 4);
    size_t data = cn_open_nest(&message, IFLA_INFO_DATA);
    size_t peer = cn_open_nest(&message, VETH_INFO_PEER);
    cn_append(&message, &info, sizeof info);
    cn_put(&message, IFLA_IFNAME, "eth0", 5);
    cn_put(&message, IFLA_ADDRESS, plan->mac, 6);
    cn_put(&message, IFLA_NET_NS_FD, &plan->instance_ns, sizeof plan->instance_ns);
    cn_close_nest(&message, peer);
    cn_close_nest(&message, data);
    cn_close_nest(&message, link);
    return cn_ask(netlink, &message);
}

int cn_add_address(int netlink, int index, uint32_t address, uint8_t prefix)
{
    struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = (uint32_t)index};
    uint32_t value = htonl(address);
    cn_message message;
    cn_begin(&message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof info);
    cn_put(&message, IFA_LOCAL, &value, 4);
    cn_put(&message, IFA_ADDRESS, &value, 4);
    return cn_ask(netlink, &message);
}

/* A route to one host on the link, or (target 0) to everywhere through a gateway on the link. */
static int add_route(int netlink, int index, uint32_t target, uint32_t gateway, uint32_t source)
{
    struct rtmsg info = {
        .rtm_family = AF_INET, .rtm_dst_len = target ? 32 : 0, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = target ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST,
        .rtm_flags = target ? 0 : RTNH_F_ONLINK};
    uint32_t to = htonl(target), via = htonl(gateway), from = htonl(source);
    cn_message message;
    cn_begin(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof info);
    if (target) cn_put(&message, RTA_DST, &to, 4);
    else cn_put(&message, RTA_GATEWAY, &via, 4);
    cn_put(&message, RTA_PREFSRC, &from, 4);
    cn_put(&message, RTA_OIF, &index, sizeof index);
    return cn_ask(netlink, &message);
}

static int gateway_side(void *argument)
{
    struct plan *plan = argument;
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int status = make_pair(netlink, plan);
    if (status < 0 && errno == EEXIST) {
        plan->exists = 1;
        status = 0;
    }
    int index = status == 0 ? (int)if_nametoindex(plan->name) : 0;
    if (status == 0) status = index > 0 ? 0 : -1;
    if (status == 0) status = cn_add_address(netlink, index, plan->gateway, 32);
    if (status == 0) status = cn_up(netlink, index);
    if (status == 0) status = add_route(netlink, index, plan->address, 0, plan->gateway);
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}

static int prepare_instance(void *unused)
{
    (void)unused;
    /* Its own loopback keeps IPv6; every other interface is born without. */
    return cn_set("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

static int instance_side(void *argument)
{
    const struct plan *plan = argument;
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int index = (int)if_nametoindex("eth0");
    int status = index > 0 ? cn_set("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1") : -1;
    if (status == 0) status = cn_add_address(netlink, index, plan->address, 32);
    if (status == 0) status = cn_up(netlink, index);
    if (status == 0) status = add_route(netlink, index, plan->gateway, 0, plan->address);
    if (status == 0) status = add_route(netlink, index, 0, plan->gateway, plan->address);
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}

static int both_sides(int gateway_ns, struct plan *plan)
{
    int status = cn_inside(gateway_ns, gateway_side, plan);
    return status == 0 ? cn_inside(plan->instance_ns, instance_side, plan) : status;
}

int cn_attach(int gateway_ns, int instance_ns, const char *name, uint32_t gateway, uint32_t address)
{
    struct plan plan = {.name = name, .gateway = gateway, .address = address, .instance_ns = instance_ns};
    /* Locally administered, and the same each time: the address is in it. */
    uint32_t tail = htonl(address);
    memcpy(plan.mac, (uint8_t[]){0x02, 0xae}, 2);
    memcpy(plan.mac + 2, &tail, 4);
    memcpy(plan.gateway_mac, (uint8_t[]){0x06, 0xae}, 2);
    memcpy(plan.gateway_mac + 2, &tail, 4);
    if (cn_inside(instance_ns, prepare_instance, NULL) < 0) return -1;
    int status = both_sides(gateway_ns, &plan);
    if (status < 0 && plan.exists) {
        /* Its other end is not in this instance: it was the link of one that has ended, which the kernel takes away only some
           time after the namespace. */
        if (cn_detach(gateway_ns, name) < 0) return -1;
        plan.exists = 0;
        status = both_sides(gateway_ns, &plan);
    }
    if (status == 0) return 0;
    int error = errno;
    if (!plan.exists) (void)cn_detach(gateway_ns, name);
    errno = error;
    return -1;
}

int cn_remove_link(int netlink, const char *name)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    cn_message message;
    cn_begin(&message, RTM_DELLINK, 0, &info, sizeof info);
    cn_put(&message, IFLA_IFNAME, name, strlen(name) + 1);
    return cn_ask(netlink, &message) < 0 && errno != ENODEV ? -1 : 0;
}

static int remove_link(void *argument)
{
    const char *name = argument;
    int netlink = cn_netlink();
    if (netlink < 0) return -1;
    int status = cn_remove_link(netlink, name);
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}

int cn_detach(int gateway_ns, const char *name) { return cn_inside(gateway_ns, remove_link, (void *)(uintptr_t)name); }
