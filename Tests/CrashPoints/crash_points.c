// Kills the program that it is loaded into (LD_PRELOAD) at a chosen place: right before, or right after, it saves a chosen thing.
// What a program saves is what it tells SQLite to write, the lines that the ledger appends, and the files of a network's counters
// (as 'file NAME'). The datagram of a proof that must be refused counts as something saved, too ('probe'). Tests of the daemon use it
// (CrashPoints.swift); nothing of it is in the product.
//
// In the folder AEGIS_CRASH_POINTS lies
//   armed   where to die: 'before' or 'after', which time (1 is the first), then words that what is saved must contain, a line each
//   seen    if it is there, a line is appended for each thing that is saved
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
// What is saved from inside here is not looked at.
static __thread int is_inside;

// Whether what is saved contains each of the words; the words end with the text.
static int contains_all(const char *text, char *words) {
    char *rest = words;
    for (char *word = strsep(&rest, "\n"); word; word = strsep(&rest, "\n"))
        if (*word && !strstr(text, word)) return 0;
    return 1;
}

static void tell(const char *folder, const char *text) {
    char path[4096], line[512];
    snprintf(path, sizeof path, "%s/seen", folder);
    int seen = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (seen < 0) return;
    int length = snprintf(line, sizeof line - 1, "%s", text);
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    for (int i = 0; i < length; i++)
        if (line[i] == '\n') line[i] = ' ';
    line[length] = '\n';
    (void)!write(seen, line, length + 1);
    close(seen);
}

// Something is about to be saved, or is.
static void reach(const char *when, const char *text) {
    static char last[4096];
    static long count;
    const char *folder = getenv("AEGIS_CRASH_POINTS");
    if (!folder || !text || is_inside) return;
    pthread_mutex_lock(&lock);
    is_inside = 1;
    if (!strcmp(when, "before")) tell(folder, text);
    char path[4096], armed[4096], words[4096] = "", side[16];
    long nth;
    int offset;
    snprintf(path, sizeof path, "%s/armed", folder);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, armed, sizeof armed - 1);
    if (file >= 0) close(file);
    if (length > 0) {
        armed[length] = 0;
        if (strcmp(armed, last)) {
            strcpy(last, armed);
            count = 0;
        }
        if (sscanf(armed, "%15s %ld %n", side, &nth, &offset) == 2) {
            strcpy(words, armed + offset);
            if (!strcmp(side, when) && contains_all(text, words) && ++count == nth) {
                unlink(path);
                kill(getpid(), SIGKILL);
                for (;;) pause();
            }
        }
    }
    is_inside = 0;
    pthread_mutex_unlock(&lock);
}

// What the statements of the transaction under way say, in their order: one connection writes, on one thread at a time.
static __thread char *transaction;

static void add(const char *text) {
    char *whole;
    if (asprintf(&whole, "%s%s\n", transaction ? transaction : "", text) < 0) abort();
    free(transaction);
    transaction = whole;
}

int sqlite3_step(sqlite3_stmt *statement) {
    static int (*step)(sqlite3_stmt *);
    if (!step) step = (int (*)(sqlite3_stmt *))dlsym(RTLD_NEXT, "sqlite3_step");
    const char *sql = sqlite3_sql(statement);
    if (!sql) return step(statement);
    if (!strncasecmp(sql, "COMMIT", 6)) {
        reach("before", transaction);
        int result = step(statement);
        if (result == SQLITE_DONE) reach("after", transaction);
        free(transaction);
        transaction = NULL;
        return result;
    }
    if (!strncasecmp(sql, "ROLLBACK", 8)) {
        free(transaction);
        transaction = NULL;
    }
    if (strncasecmp(sql, "INSERT", 6) && strncasecmp(sql, "UPDATE", 6) && strncasecmp(sql, "DELETE", 6)
        && strncasecmp(sql, "REPLACE", 7))
        return step(statement);
    char *text = sqlite3_expanded_sql(statement);
    int is_whole = sqlite3_get_autocommit(sqlite3_db_handle(statement));
    if (is_whole) reach("before", text);
    else if (text) add(text);
    int result = step(statement);
    if (is_whole && result == SQLITE_DONE) reach("after", text);
    sqlite3_free(text);
    return result;
}

// A record of the ledger, on its way into its file.
static char *record_of(int file, const void *bytes, size_t length) {
    struct stat status;
    const char *start = "{\"v\":1,";
    if (length < strlen(start) || memcmp(bytes, start, strlen(start))) return NULL;
    if (fstat(file, &status) || !S_ISREG(status.st_mode)) return NULL;
    return strndup(bytes, length);
}

ssize_t write(int file, const void *bytes, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    char *text = record_of(file, bytes, length);
    if (text) reach("before", text);
    ssize_t result = real(file, bytes, length);
    if (text) reach("after", text);
    free(text);
    return result;
}

// How far the counters of an instance's network have been told of, replaced as a whole or written over.
static char *account_of(const char *name) {
    const char *end = strrchr(name, '.');
    char *text = NULL;
    if (end && !strcmp(end, ".told") && asprintf(&text, "file %s", name) < 0) abort();
    return text;
}

int renameat2(int from, const char *old_name, int to, const char *new_name, unsigned flags) {
    static int (*real)(int, const char *, int, const char *, unsigned);
    if (!real) real = (int (*)(int, const char *, int, const char *, unsigned))dlsym(RTLD_NEXT, "renameat2");
    char *text = account_of(new_name);
    if (text) reach("before", text);
    int result = real(from, old_name, to, new_name, flags);
    if (text) reach("after", text);
    free(text);
    return result;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t known = length == 49 ? readlink(link, name, sizeof name - 1) : -1;
    if (known >= 0) name[known] = 0;
    char *text = known >= 0 ? account_of(name) : NULL;
    if (text) reach("before", text);
    ssize_t result = real(file, bytes, length, offset);
    if (text) reach("after", text);
    free(text);
    return result;
}

// What a proof sends where nothing is allowed: the kernel refuses it, and counts that, whatever becomes of the sender.
ssize_t send(int file, const void *bytes, size_t length, int flags) {
    static ssize_t (*real)(int, const void *, size_t, int);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    struct sockaddr_in peer = {0};
    socklen_t size = sizeof peer;
    int is_probe = !getpeername(file, (struct sockaddr *)&peer, &size) && peer.sin_family == AF_INET
        && ntohs(peer.sin_port) == 123;
    if (is_probe) reach("before", "probe");
    ssize_t result = real(file, bytes, length, flags);
    if (is_probe) reach("after", "probe");
    return result;
}
