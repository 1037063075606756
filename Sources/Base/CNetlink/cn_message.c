#define _GNU_SOURCE
#include "cn_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct job {
    int ns;
    int (*step)(void *);
    void *argument;
    int result, error;
};

static void *work(void *pointer)
{
    struct job *job = pointer;
    job->result = job->ns < 0 ? unshare(CLONE_NEWNET) : setns(job->ns, CLONE_NEWNET);
    if (job->result == 0) job->result = job->step(job->argument);
    job->error = errno;
    return NULL;
}

int cn_inside(int ns, int (*step)(void *), void *argument)
{
    struct job job = {.ns = ns, .step = step, .argument = argument, .result = -1};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, work, &job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        errno = failed;
        return -1;
    }
    pthread_join(thread, NULL);
    if (job.result < 0) errno = job.error;
    return job.result;
}

int cn_set(const char *path, const char *value)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return errno == ENOENT ? 0 : -1;
    size_t length = strlen(value);
    ssize_t count = write(file, value, length);
    int error = errno;
    close(file);
    errno = error;
    return count == (ssize_t)length ? 0 : -1;
}

static size_t padded(size_t length) { return NLMSG_ALIGN(length); }

void cn_append(cn_message *message, const void *data, size_t length)
{
    memcpy(message->bytes + message->length, data, length);
    message->length += padded(length);
}

void cn_begin(cn_message *message, uint16_t type, uint16_t flags, const void *header, size_t length)
{
    memset(message, 0, sizeof *message);
    struct nlmsghdr *start = (struct nlmsghdr *)(void *)message->bytes;
    start->nlmsg_type = type;
    start->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    message->length = NLMSG_HDRLEN;
    cn_append(message, header, length);
}

void cn_put(cn_message *message, uint16_t type, const void *data, size_t length)
{
    struct nlattr attribute = {.nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = type};
    cn_append(message, &attribute, sizeof attribute);
    cn_append(message, data, length);
}

size_t cn_open_nest(cn_message *message, uint16_t type)
{
    size_t start = message->length;
    cn_put(message, type, NULL, 0);
    return start;
}

void cn_close_nest(cn_message *message, size_t start)
{
    struct nlattr *attribute = (struct nlattr *)(void *)(message->bytes + start);
    attribute->nla_len = (uint16_t)(message->length - start);
}

int cn_netlink(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); }

/* Waits for the answer to the message whose number is 1. */
static int await_answer(int netlink)
{
    for (;;) {
        char answer[4096] __attribute__((aligned(8)));
        ssize_t count = recv(netlink, answer, sizeof answer, 0);
        if (count < 0) {
            if (errno == EINTR) continue;
            return -1;
        }
        struct nlmsghdr *header = (struct nlmsghdr *)(void *)answer;
        if (!NLMSG_OK(header, (size_t)count) || header->nlmsg_type != NLMSG_ERROR) continue;
        struct nlmsgerr *result = NLMSG_DATA(header);
        if (result->error == 0 && header->nlmsg_seq == 1) return 0;
        if (result->error == 0) continue;
        errno = -result->error;
        return -1;
    }
}

static void seal(cn_message *message, uint32_t number)
{
    struct nlmsghdr *request = (struct nlmsghdr *)(void *)message->bytes;
    request->nlmsg_len = (uint32_t)message->length;
    request->nlmsg_seq = number;
}

int cn_ask(int netlink, cn_message *message)
{
    seal(message, 1);
    if (send(netlink, message->bytes, message->length, 0) < 0) return -1;
    return await_answer(netlink);
}

int cn_ask_rules(cn_message *begin, cn_message *change, cn_message *end)
{
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (netlink < 0) return -1;
    cn_message *const parts[] = {begin, change, end};
    struct iovec vectors[3];
    for (int i = 0; i < 3; i++) {
        /* Only the change itself is answered. */
        seal(parts[i], i == 1 ? 1 : (uint32_t)i + 10);
        if (i != 1) ((struct nlmsghdr *)(void *)parts[i]->bytes)->nlmsg_flags = NLM_F_REQUEST;
        vectors[i] = (struct iovec){parts[i]->bytes, parts[i]->length};
    }
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = 3};
    int status = sendmsg(netlink, &message, 0) < 0 ? -1 : await_answer(netlink);
    int error = errno;
    close(netlink);
    errno = error;
    return status;
}
