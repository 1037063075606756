#define _GNU_SOURCE
#include "charness_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static long listen_at(int fd, const struct sockaddr *address, socklen_t size) {
    if (bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int code = errno;
    close(fd);
    return -code;
}

long ah_listen_loopback(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    // Connections inherit the second one: an answer's last bytes wait for nothing.
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return listen_at(fd, (struct sockaddr *)&address, sizeof address);
}

long ah_listen_socket(const void *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
    memcpy(address.sun_path, path, length);
    char *slash = strrchr(address.sun_path, '/');
    if (slash && slash > address.sun_path) {
        *slash = 0;
        // For everybody, whatever the mask is.
        if (mkdir(address.sun_path, 0755) == 0) {
            if (chmod(address.sun_path, 0755)) return -errno;
        } else if (errno != EEXIST) {
            return -errno;
        }
        *slash = '/';
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    long result = listen_at(fd, (struct sockaddr *)&address, sizeof address);
    if (result >= 0 && chmod(address.sun_path, 0666)) {
        result = -errno;
        close(fd);
    }
    return result;
}

void ah_remove_socket(const void *path) {
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    size_t length = strlen(path);
    if (length >= sizeof folder || unlink(path)) return;
    memcpy(folder, path, length + 1);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder) return;
    *slash = 0;
    rmdir(folder);
}

long ah_accept_program(int listener) {
    int fd;
    do fd = accept4(listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd < 0 ? -errno : fd;
}

long ah_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) ? -errno : 0; }
