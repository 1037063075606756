#define _GNU_SOURCE 1
#include "al_process.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static void ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }
void al_ignore_sigpipe(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ignore_sigpipe);
}

/* A slot's pipe is made once and never closed: a handler that runs late on another thread can then never write into a
   descriptor that has become something else. */
enum { SLOTS = 16 };
static struct {
    _Atomic uint64_t mask;
    int read_end, write_end, made;
} slots[SLOTS];
static pthread_mutex_t slot_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction earlier[65];
static int subscribers[65];

static void note_signal(int number) {
    int saved = errno;
    uint8_t byte = (uint8_t)number;
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&slots[i].mask) >> (number - 1) & 1) {
            ssize_t ignored = write(slots[i].write_end, &byte, 1);
            (void)ignored;
        }
    errno = saved;
}

static int free_slot(void) {
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&slots[i].mask) == 0) return i;
    errno = EMFILE;
    return -1;
}

static int prepare_slot(int slot) {
    if (!slots[slot].made) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -1;
        slots[slot].read_end = ends[0];
        slots[slot].write_end = ends[1];
        slots[slot].made = 1;
    }
    char rest[256];
    while (read(slots[slot].read_end, rest, sizeof rest) > 0) {}
    return fcntl(slots[slot].read_end, F_DUPFD_CLOEXEC, 3);
}

static void release(uint64_t mask) {
    for (int number = 1; number <= 64; number++)
        if (mask >> (number - 1) & 1 && --subscribers[number] == 0) sigaction(number, &earlier[number], NULL);
}

static int subscribe(uint64_t mask) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    uint64_t done = 0;
    for (int number = 1; number <= 64; number++) {
        uint64_t bit = (uint64_t)1 << (number - 1);
        if (!(mask & bit)) continue;
        if (subscribers[number] == 0 && sigaction(number, &action, &earlier[number]) < 0) {
            int saved = errno;
            release(done);
            errno = saved;
            return -1;
        }
        subscribers[number]++;
        done |= bit;
    }
    return 0;
}

int al_signals_open(uint64_t mask, int *slot) {
    if (mask == 0) {
        errno = EINVAL;
        return -1;
    }
    pthread_mutex_lock(&slot_lock);
    int chosen = free_slot();
    int descriptor = chosen < 0 ? -1 : prepare_slot(chosen);
    if (descriptor >= 0) {
        atomic_store(&slots[chosen].mask, mask);
        if (subscribe(mask) < 0) {
            int saved = errno;
            atomic_store(&slots[chosen].mask, 0);
            close(descriptor);
            errno = saved;
            descriptor = -1;
        }
    }
    *slot = chosen;
    pthread_mutex_unlock(&slot_lock);
    return descriptor;
}

void al_signals_close(int slot) {
    pthread_mutex_lock(&slot_lock);
    release(atomic_exchange(&slots[slot].mask, 0));
    pthread_mutex_unlock(&slot_lock);
}

const char *al_error_name(int code) { return strerrorname_np(code); }
const char *al_error_text(int code) { return strerrordesc_np(code); }

int al_set_dumpable(int on) { return prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0); }
int al_is_dumpable(void) { return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); }
int al_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
int al_set_child_subreaper(int on) { return prctl(PR_SET_CHILD_SUBREAPER, on ? 1 : 0, 0, 0, 0); }

int al_protect_memory(void *start, size_t length) {
    if (mlock(start, length) < 0) return -1;
    return madvise(start, length, MADV_DONTDUMP);
}
int al_unprotect_memory(void *start, size_t length) {
    int dumped = madvise(start, length, MADV_DODUMP);
    int unlocked = munlock(start, length);
    return dumped < 0 || unlocked < 0 ? -1 : 0;
}

void al_trim_memory(void) { malloc_trim(0); }

// Code is the file's and was never written to (there are no relocations in it), so that nothing can be lost.
static int release_code_of(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size, (void)unused;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || (part->p_flags & (PF_X | PF_W)) != PF_X) continue;
        uintptr_t start = (object->dlpi_addr + part->p_vaddr) & ~(page - 1);
        uintptr_t end = object->dlpi_addr + part->p_vaddr + part->p_filesz;
        madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void al_release_code(void) { dl_iterate_phdr(release_code_of, NULL); }

char **al_environment(void) { return environ; }
