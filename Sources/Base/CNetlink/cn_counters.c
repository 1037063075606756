#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct question {
    int family;
    const char *table, *set;
    const void *key;
    size_t length;
    /* Where the answer goes. */
    uint64_t *packets;
    /* The number that is wanted of the element: the way to it. */
    const uint16_t *path;
    size_t steps;
};

static const uint16_t counter[] = {
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_EXPR, NFTA_EXPR_DATA, NFTA_COUNTER_PACKETS};
static const uint16_t expiration[] = {NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_EXPIRATION};

/* The attribute of a type in a list of them; its data and length. */
static const uint8_t *find(const uint8_t *at, size_t left, uint16_t type, size_t *length)
{
    while (left >= NLA_HDRLEN) {
        struct nlattr attribute;
        memcpy(&attribute, at, sizeof attribute);
        if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > left) return NULL;
        if ((attribute.nla_type & NLA_TYPE_MASK) == type) {
            *length = attribute.nla_len - NLA_HDRLEN;
            return at + NLA_HDRLEN;
        }
        size_t step = NLA_ALIGN(attribute.nla_len);
        if (step > left) return NULL;
        at += step;
        left -= step;
    }
    return NULL;
}

static int read_number(const uint8_t *message, size_t length, const struct question *question)
{
    errno = EBADMSG;
    for (size_t i = 0; i < question->steps; i++) {
        message = find(message, length, question->path[i], &length);
        if (!message) return -1;
    }
    uint64_t value;
    if (length != sizeof value) return -1;
    memcpy(&value, message, sizeof value);
    *question->packets = be64toh(value);
    return 0;
}

/* The room of an answer, and the attributes in it. */
struct reply {
    char bytes[4096] __attribute__((aligned(8)));
    const uint8_t *attributes;
    size_t length;
};

static int receive(int netlink, struct reply *reply)
{
    ssize_t count;
    do count = recv(netlink, reply->bytes, sizeof reply->bytes, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0) return -1;
    struct nlmsghdr *header = (struct nlmsghdr *)(void *)reply->bytes;
    errno = EBADMSG;
    if (!NLMSG_OK(header, (size_t)count)) return -1;
    if (header->nlmsg_type == NLMSG_ERROR) {
        struct nlmsgerr *result = NLMSG_DATA(header);
        if (result->error < 0) errno = -result->error;
        return -1;
    }
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg))) return -1;
    reply->attributes = (const uint8_t *)header + NLMSG_LENGTH(sizeof(struct nfgenmsg));
    reply->length = header->nlmsg_len - NLMSG_LENGTH(sizeof(struct nfgenmsg));
    return 0;
}

/* Sends a question about rules in the calling thread's namespace; ENOENT when there is nothing of that name. */
static int exchange(cn_message *message, struct reply *reply)
{
    struct nlmsghdr *request = (struct nlmsghdr *)(void *)message->bytes;
    request->nlmsg_len = (uint32_t)message->length;
    request->nlmsg_flags = NLM_F_REQUEST;
    request->nlmsg_seq = 1;
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (netlink < 0) return -1;
    int status = send(netlink, message->bytes, message->length, 0) < 0 ? -1 : receive(netlink, reply);
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}

/* Looks for one element of a set; ENOENT when it is not there. */
static int look_up(const struct question *question, struct reply *reply)
{
    struct nfgenmsg family = {.nfgen_family = (uint8_t)question->family};
    cn_message message;
    cn_begin(&message, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM, 0, &family, sizeof family);
    cn_put(&message, NFTA_SET_ELEM_LIST_TABLE, question->table, strlen(question->table) + 1);
    cn_put(&message, NFTA_SET_ELEM_LIST_SET, question->set, strlen(question->set) + 1);
    size_t elements = cn_open_nest(&message, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED);
    size_t element = cn_open_nest(&message, NFTA_LIST_ELEM | NLA_F_NESTED);
    size_t value = cn_open_nest(&message, NFTA_SET_ELEM_KEY | NLA_F_NESTED);
    cn_put(&message, NFTA_DATA_VALUE, question->key, question->length);
    cn_close_nest(&message, value);
    cn_close_nest(&message, element);
    cn_close_nest(&message, elements);
    return exchange(&message, reply);
}

int cn_has_element(int family, const char *table, const char *set, const void *key, size_t length)
{
    struct question question = {.family = family, .table = table, .set = set, .key = key, .length = length};
    struct reply reply;
    if (look_up(&question, &reply) == 0) return 1;
    return errno == ENOENT ? 0 : -1;
}

static int ask(void *argument)
{
    const struct question *question = argument;
    struct reply reply;
    if (look_up(question, &reply) == 0) return read_number(reply.attributes, reply.length, question);
    return -1;
}

static int ask_counter(void *argument)
{
    const struct question *question = argument;
    int status = ask(argument);
    if (status == 0 || errno != ENOENT) return status;
    /* Nothing was ever counted there. */
    *question->packets = 0;
    return 0;
}

static int ask_handle(void *argument)
{
    const struct question *question = argument;
    struct nfgenmsg family = {.nfgen_family = (uint8_t)question->family};
    cn_message message;
    cn_begin(&message, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, 0, &family, sizeof family);
    cn_put(&message, NFTA_TABLE_NAME, question->table, strlen(question->table) + 1);
    *question->packets = 0;
    struct reply reply;
    if (exchange(&message, &reply) != 0) return errno == ENOENT ? 0 : -1;
    size_t length;
    const uint8_t *handle = find(reply.attributes, reply.length, NFTA_TABLE_HANDLE, &length);
    uint64_t value;
    errno = EBADMSG;
    if (!handle || length != sizeof value) return -1;
    memcpy(&value, handle, sizeof value);
    *question->packets = be64toh(value);
    return 0;
}

int cn_table_handle(int ns, const char *table, uint64_t *handle)
{
    struct question question = {.family = 1 /* NFPROTO_INET */, .table = table, .packets = handle};
    return cn_inside(ns, ask_handle, &question);
}

int cn_dropped(int ns, int bridged, const char *table, const char *interface, uint64_t *packets)
{
    uint8_t key[16] = {0};
    strncpy((char *)key, interface, sizeof key - 1);
    struct question question = {
        .family = bridged ? 7 /* NFPROTO_BRIDGE */ : 1 /* NFPROTO_INET */, .table = table, .set = "dropped",
        .key = key, .length = sizeof key, .packets = packets, .path = counter,
        .steps = sizeof counter / sizeof counter[0]};
    return cn_inside(ns, ask_counter, &question);
}

int cn_arrived(int ns, const char *table, uint32_t address, uint64_t *packets)
{
    uint32_t key = htobe32(address);
    struct question question = {
        .family = 1 /* NFPROTO_INET */, .table = table, .set = "arrived", .key = &key, .length = sizeof key,
        .packets = packets, .path = counter,
        .steps = sizeof counter / sizeof counter[0]};
    return cn_inside(ns, ask_counter, &question);
}

int64_t cn_unused(int ns, const char *table, const char *port, uint64_t lasting)
{
    uint8_t key[16] = {0};
    strncpy((char *)key, port, sizeof key - 1);
    uint64_t left = 0;
    struct question question = {
        .family = 7 /* NFPROTO_BRIDGE */, .table = table, .set = "used", .key = key, .length = sizeof key,
        .packets = &left, .path = expiration, .steps = sizeof expiration / sizeof expiration[0]};
    if (cn_inside(ns, ask, &question) < 0) return -1;
    return left < lasting ? (int64_t)(lasting - left) : 0;
}
