#define _GNU_SOURCE
#include "cn_internal.h"
#include "include/cn_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

int cn_change_set(int family, const char *table, const char *set, const void *key, size_t length, int adding)
{
    struct nfgenmsg header = {.nfgen_family = AF_UNSPEC, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
    cn_message begin, change, end;
    cn_begin(&begin, NFNL_MSG_BATCH_BEGIN, 0, &header, sizeof header);
    cn_begin(&end, NFNL_MSG_BATCH_END, 0, &header, sizeof header);
    header = (struct nfgenmsg){.nfgen_family = (uint8_t)family};
    cn_begin(
        &change, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | (adding ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM)),
        adding ? NLM_F_CREATE : 0, &header, sizeof header);
    cn_put(&change, NFTA_SET_ELEM_LIST_TABLE, table, strlen(table) + 1);
    cn_put(&change, NFTA_SET_ELEM_LIST_SET, set, strlen(set) + 1);
    size_t elements = cn_open_nest(&change, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED);
    size_t element = cn_open_nest(&change, NFTA_LIST_ELEM | NLA_F_NESTED);
    size_t value = cn_open_nest(&change, NFTA_SET_ELEM_KEY | NLA_F_NESTED);
    cn_put(&change, NFTA_DATA_VALUE, key, length);
    cn_close_nest(&change, value);
    cn_close_nest(&change, element);
    cn_close_nest(&change, elements);
    return cn_ask_rules(&begin, &change, &end);
}

struct probe {
    const char *table;
    const struct cn_probe_flow *list;
    size_t count;
    int adding;
};

static int change_probes(void *argument)
{
    const struct probe *probe = argument;
    int status = 0;
    for (size_t i = 0; i < probe->count; i++) {
        const struct cn_probe_flow *flow = &probe->list[i];
        /* Each part begins at a multiple of four. */
        uint8_t key[28] = {0};
        uint16_t from = htons(flow->source_port), to = htons(flow->port);
        uint32_t address = htonl(flow->address);
        memcpy(key, flow->interface, strnlen(flow->interface, 15));
        memcpy(key + 16, &from, sizeof from);
        memcpy(key + 20, &address, sizeof address);
        memcpy(key + 24, &to, sizeof to);
        int family = flow->bridged ? NFPROTO_BRIDGE : NFPROTO_INET;
        if (cn_change_set(family, probe->table, "probes", key, sizeof key, probe->adding) < 0) status = -1;
    }
    return status;
}

int cn_expect_probes(int ns, const char *table, const struct cn_probe_flow *list, size_t count, int adding)
{
    struct probe probe = {.table = table, .list = list, .count = count, .adding = adding};
    return cn_inside(ns, change_probes, &probe);
}
