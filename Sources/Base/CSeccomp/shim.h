// libseccomp. The default actions are macros with arguments or casts, which Swift cannot see: they are wrapped here.
#ifndef AEGIS_CSECCOMP_SHIM_H
#define AEGIS_CSECCOMP_SHIM_H
#include <errno.h>
#include <seccomp.h>
/// The action that answers a system call with this errno.
static inline uint32_t as_action_errno(uint16_t code) { return SCMP_ACT_ERRNO(code); }
/// The action that ends the process.
static inline uint32_t as_action_kill(void) { return SCMP_ACT_KILL_PROCESS; }
/// The action that lets a system call pass.
static inline uint32_t as_action_allow(void) { return SCMP_ACT_ALLOW; }
#endif
