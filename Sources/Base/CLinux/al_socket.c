#define _GNU_SOURCE 1
#include "al_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int al_socket_stream(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

int al_socket_pair(int ends[2], int nonblocking) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0, ends);
}

int al_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int al_is_socket(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode);
}

ssize_t al_receive(int socket, void *bytes, size_t count) { return recv(socket, bytes, count, MSG_DONTWAIT); }
ssize_t al_send(int socket, const void *bytes, size_t count) { return send(socket, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL); }

_Static_assert(sizeof(((struct al_address *)0)->storage) >= sizeof(struct sockaddr_storage), "room for every address");

int al_address_ip(struct al_address *out, const char *text, uint16_t port) {
    memset(out, 0, sizeof *out);
    struct sockaddr_in *four = (struct sockaddr_in *)out->storage;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        out->length = sizeof *four;
        return 1;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)out->storage;
    if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        out->length = sizeof *six;
        return 1;
    }
    return 0;
}

int al_address_unix(struct al_address *out, const char *path) {
    memset(out, 0, sizeof *out);
    struct sockaddr_un *address = (struct sockaddr_un *)out->storage;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof address->sun_path) return 0;
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length + 1);
    out->length = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return 1;
}

int al_address_family(const struct al_address *address) { return ((const struct sockaddr *)address->storage)->sa_family; }

int al_bind(int socket, const struct al_address *address) {
    return bind(socket, (const struct sockaddr *)address->storage, address->length);
}

int al_connect(int socket, const struct al_address *address) {
    return connect(socket, (const struct sockaddr *)address->storage, address->length);
}

int al_local_port(int socket) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockname(socket, (struct sockaddr *)&address, &length) < 0) return -1;
    if (address.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    errno = EAFNOSUPPORT;
    return -1;
}

int al_socket_error(int socket) {
    int value = 0;
    socklen_t length = sizeof value;
    if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &value, &length) < 0) return errno;
    return value;
}

static int switch_on(int socket, int level, int option) {
    int one = 1;
    return setsockopt(socket, level, option, &one, sizeof one);
}
int al_set_reuse_address(int socket) { return switch_on(socket, SOL_SOCKET, SO_REUSEADDR); }
int al_set_no_delay(int socket) { return switch_on(socket, IPPROTO_TCP, TCP_NODELAY); }
int al_set_v6_only(int socket) { return switch_on(socket, IPPROTO_IPV6, IPV6_V6ONLY); }

int al_peer_credentials(int socket, pid_t *pid, uid_t *uid, gid_t *gid) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) return -1;
    *pid = credentials.pid;
    *uid = credentials.uid;
    *gid = credentials.gid;
    return 0;
}

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * AL_MAX_DESCRIPTORS)];
};

ssize_t al_send_descriptors(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
    if (descriptor_count == 0 || descriptor_count > AL_MAX_DESCRIPTORS || count == 0) {
        errno = EINVAL;
        return -1;
    }
    union control control;
    memset(&control, 0, sizeof control);
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.room};
    message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptor_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * descriptor_count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * descriptor_count);
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t al_receive_descriptors(int socket, void *bytes, size_t count, int *descriptors, size_t *descriptor_count) {
    union control control;
    memset(&control, 0, sizeof control);
    struct iovec vector = {.iov_base = bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    size_t room = *descriptor_count, kept = 0;
    int overflow = 0;
    *descriptor_count = 0;
    ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) return -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t arrived = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < arrived; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
            if (kept < room) {
                descriptors[kept++] = descriptor;
            } else {
                close(descriptor);
                overflow = 1;
            }
        }
    }
    if (overflow || (message.msg_flags & MSG_CTRUNC)) {
        while (kept) close(descriptors[--kept]);
        errno = EMSGSIZE;
        return -1;
    }
    *descriptor_count = kept;
    return got;
}

int al_socket_own_addresses(int socket, uint32_t *addresses, int most) {
    struct ifreq room[32];
    struct ifconf all = {.ifc_len = sizeof room, .ifc_req = room};
    if (ioctl(socket, SIOCGIFCONF, &all) < 0) return -1;
    int count = 0;
    for (size_t i = 0; i < (size_t)all.ifc_len / sizeof room[0] && count < most; i++) {
        struct sockaddr_in in;
        memcpy(&in, &room[i].ifr_addr, sizeof in);
        if (in.sin_family != AF_INET || ntohl(in.sin_addr.s_addr) >> 24 == 127) continue;
        addresses[count++] = in.sin_addr.s_addr;
    }
    return count;
}
