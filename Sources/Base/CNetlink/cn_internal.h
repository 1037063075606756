#ifndef CN_INTERNAL_H
#define CN_INTERNAL_H
#include <stddef.h>
#include <stdint.h>

/* Runs a step on a thread of its own inside a network namespace (-1: a fresh one) and gives its result and errno. */
int cn_inside(int ns, int (*step)(void *), void *argument);
/* Writes a setting of /proc/sys; 0 also when there is no such setting. */
int cn_set(const char *path, const char *value);

/* A request of rtnetlink under construction. */
typedef struct {
    char bytes[1024] __attribute__((aligned(8)));
    size_t length;
} cn_message;

void cn_begin(cn_message *message, uint16_t type, uint16_t flags, const void *header, size_t length);
void cn_put(cn_message *message, uint16_t type, const void *data, size_t length);
size_t cn_open_nest(cn_message *message, uint16_t type);
void cn_close_nest(cn_message *message, size_t start);
/* Appends raw bytes, padded. */
void cn_append(cn_message *message, const void *data, size_t length);
/* Sends a request over a socket of NETLINK_ROUTE and waits for the kernel's answer. */
int cn_ask(int netlink, cn_message *message);
/* A socket of NETLINK_ROUTE in the calling thread's namespace. */
int cn_netlink(void);
/* Sends one change of nftables as a batch of its own and waits for the kernel's answer. */
int cn_ask_rules(cn_message *begin, cn_message *change, cn_message *end);
/* Adds an element to a set of a table, which may be there already, or removes it, in the calling thread's namespace. */
int cn_change_set(int family, const char *table, const char *set, const void *key, size_t length, int adding);
/* 1 when a set of a table has an element, in the calling thread's namespace; 0 when not, or when there is no such set. */
int cn_has_element(int family, const char *table, const char *set, const void *key, size_t length);

int cn_up(int netlink, int index);
int cn_add_address(int netlink, int index, uint32_t address, uint8_t prefix);
/* Fine when it is gone. */
int cn_remove_link(int netlink, const char *name);

#endif
