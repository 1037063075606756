#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Enough of a packet for its addresses and ports. */
#define COPIED 96
/* What the rules write before a packet that they know for a probe's. */
#define PROBE "probe"

static int ask_log(int netlink, uint16_t group, uint16_t type, const void *data, size_t length)
{
    struct nfgenmsg family = {.nfgen_family = AF_UNSPEC, .res_id = htons(group)};
    cn_message message;
    cn_begin(&message, NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, 0, &family, sizeof family);
    cn_put(&message, type, data, length);
    return cn_ask(netlink, &message);
}

static int open_log(void *argument)
{
    uint16_t group = *(const uint16_t *)argument;
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (netlink < 0) return -1;
    struct nfulnl_msg_config_cmd command = {.command = NFULNL_CFG_CMD_BIND};
    struct nfulnl_msg_config_mode mode = {.copy_mode = NFULNL_COPY_PACKET, .copy_range = htonl(COPIED)};
    /* Told at once: a proof waits for it. */
    uint32_t threshold = htonl(1), timeout = htonl(1);
    int status = ask_log(netlink, group, NFULA_CFG_CMD, &command, sizeof command);
    if (status == 0) status = ask_log(netlink, group, NFULA_CFG_MODE, &mode, sizeof mode);
    if (status == 0) status = ask_log(netlink, group, NFULA_CFG_QTHRESH, &threshold, sizeof threshold);
    if (status == 0) status = ask_log(netlink, group, NFULA_CFG_TIMEOUT, &timeout, sizeof timeout);
    int size = 1 << 20;
    (void)setsockopt(netlink, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (status == 0) return netlink;
    int error = errno;
    close(netlink);
    errno = error;
    return -1;
}

int cn_refusals(int ns, uint16_t group) { return cn_inside(ns, open_log, &group); }

static int index_of(void *argument)
{
    unsigned index = if_nametoindex(argument);
    return index > 0 ? (int)index : -1;
}

int cn_link_index(int ns, const char *name) { return cn_inside(ns, index_of, (void *)(uintptr_t)name); }

static uint16_t get16(const uint8_t *bytes) { return (uint16_t)(bytes[0] << 8 | bytes[1]); }

static void look_into(struct cn_refusal *out, const uint8_t *packet, size_t length)
{
    if (out->ethertype == 0x0806 && length >= 28) {
        memcpy(&out->address, packet + 14, 4);
        out->address = ntohl(out->address);
        return;
    }
    if (out->ethertype != 0x0800 || length < 20 || packet[0] >> 4 != 4) return;
    size_t header = (size_t)(packet[0] & 15) * 4;
    out->protocol = packet[9];
    memcpy(&out->source, packet + 12, 4);
    out->source = ntohl(out->source);
    memcpy(&out->address, packet + 16, 4);
    out->address = ntohl(out->address);
    /* Later fragments have no ports. */
    if ((get16(packet + 6) & 0x1fff) != 0 || header < 20 || length < header + 4) return;
    if (out->protocol == IPPROTO_TCP || out->protocol == IPPROTO_UDP) {
        out->source_port = get16(packet + header);
        out->port = get16(packet + header + 2);
    }
}

static int read_one(struct cn_refusal *out, const struct nlmsghdr *header)
{
    memset(out, 0, sizeof *out);
    if (header->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET)) return 0;
    size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(struct nfgenmsg));
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg))) return 0;
    const uint8_t *at = (const uint8_t *)header + NLMSG_LENGTH(sizeof(struct nfgenmsg));
    const uint8_t *packet = NULL;
    size_t length = 0;
    uint32_t port = 0;
    while (left >= NLA_HDRLEN) {
        struct nlattr attribute;
        memcpy(&attribute, at, sizeof attribute);
        if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > left) break;
        const uint8_t *data = at + NLA_HDRLEN;
        size_t count = attribute.nla_len - NLA_HDRLEN;
        switch (attribute.nla_type & NLA_TYPE_MASK) {
        case NFULA_PACKET_HDR:
            if (count >= 2) out->ethertype = get16(data);
            break;
        case NFULA_IFINDEX_INDEV:
            if (count == 4) memcpy(&out->link, data, 4);
            break;
        case NFULA_IFINDEX_PHYSINDEV:
            if (count == 4) memcpy(&port, data, 4);
            break;
        case NFULA_PREFIX:
            out->is_probe = count >= sizeof PROBE && memcmp(data, PROBE, sizeof PROBE) == 0;
            break;
        case NFULA_PAYLOAD:
            packet = data;
            length = count;
            break;
        default: break;
        }
        size_t step = NLA_ALIGN(attribute.nla_len);
        if (step > left) break;
        at += step;
        left -= step;
    }
    /* Of a bridge its port is what counts. */
    out->link = ntohl(port ? port : out->link);
    if (packet) look_into(out, packet, length);
    return 1;
}

ssize_t cn_read_refusals(int netlink, struct cn_refusal *out, size_t room)
{
    static _Thread_local char memory[65536] __attribute__((aligned(8)));
    ssize_t count = recv(netlink, memory, sizeof memory, MSG_DONTWAIT);
    if (count < 0) return -1;
    size_t found = 0;
    unsigned left = (unsigned)count;
    for (struct nlmsghdr *one = (struct nlmsghdr *)(void *)memory; NLMSG_OK(one, left) && found < room;
         one = NLMSG_NEXT(one, left))
        found += (size_t)read_one(out + found, one);
    return (ssize_t)found;
}
